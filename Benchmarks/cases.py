"""What is measured, and which ratios are required."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from receivers import KINDS

# What waits for delayed acknowledgements makes about 20 images a second: it gets fewer of the same images.
SLOW_IMAGES = 100
RATE_SECONDS = 5.0
PACED_ECHOES_PER_SECOND = 20
OPEN_ECHOES = 1000
MEDIUM = {"disk": "disk", "memory": "tmpfs"}


@dataclass(frozen=True)
class Case:
    """One receiver, one sender. `sender`: storescu, dcmsend, fast; rate, paced, echo for C-ECHO without images."""

    receiver: str
    sender: str
    associations: int = 1
    medium: str = "disk"

    @property
    def key(self) -> str:
        return f"{self.receiver}/{self.sender}/{self.associations}/{self.medium}"

    @property
    def sends_images(self) -> bool:
        return self.sender in ("storescu", "dcmsend", "fast")

    @property
    def is_slow(self) -> bool:
        slow = ("storescp", "storescp+B", "dcmqrscp", "orthanc", "pynetdicom")
        return self.sends_images and self.receiver in slow


# Alone, one association after the other.
PEERS = (
    "storescp", "storescp+B", "storescp+B-nodelay", "dcmqrscp", "dcmqrscp-nodelay", "orthanc", "orthanc-nodelay",
    "pynetdicom",
)  # fmt: skip
# dcmqrscp is not among these: sixteen senders at once get C000 from it, and four lose objects that it acknowledged.
PARALLEL_PEERS = ("storescp+B-nodelay", "orthanc-nodelay")


def all_cases() -> list[Case]:
    """In the order of measuring: what is divided by each other lies side by side."""
    cases = []
    for sender in ("storescu", "dcmsend"):
        cases += [Case(receiver, sender) for receiver in ("node", *PEERS)]
    for associations in (1, 4, 16):
        peers = PEERS if associations == 1 else PARALLEL_PEERS
        receivers = ("node", "sink-fsync", "node-analysing", "sink", *peers)
        cases += [Case(receiver, "fast", associations) for receiver in receivers]
    for associations in (1, 8):
        receivers = ("node", "storescp+B-nodelay", "sink")
        cases += [Case(receiver, "fast", associations, "memory") for receiver in receivers]
    for parallel in (1, 4):
        # With --fork from two on.
        cases += [Case(receiver, "rate", parallel) for receiver in ("node", "storescp", "orthanc")]
    cases += [Case("node", "paced"), Case("node", "echo")]
    return cases


@dataclass(frozen=True)
class Ratio:
    """A figure of one case divided by that of another, in the same repeat."""

    title: str
    above: Case
    below: Case
    least: float | None = None


@dataclass(frozen=True)
class Bound:
    """A figure of one case with a limit. `field` is one of Figures."""

    title: str
    case: Case
    field: str
    unit: str
    least: float | None = None
    most: float | None = None


def at_once(associations: int) -> str:
    return "1 association" if associations == 1 else f"{associations} associations"


def all_ratios() -> list[Ratio]:
    node = Case("node", "storescu")
    ratios = [
        Ratio("storescu: node / Orthanc", node, Case("orthanc", "storescu"), 10),
        Ratio("storescu: node / storescp", node, Case("storescp", "storescu"), 10),
    ]
    for associations, least in ((1, 0.75), (4, 0.8), (16, 0.8)):
        sink = Case("sink-fsync", "fast", associations)
        ratios += [
            Ratio(
                f"fast, {at_once(associations)}: node / fsyncing sink", Case("node", "fast", associations), sink, least
            ),
            Ratio(
                f"fast, {at_once(associations)}: node with analysis / fsyncing sink",
                Case("node-analysing", "fast", associations),
                sink,
                0.5,
            ),
        ]
    for associations in (1, 8):
        ratios.append(
            Ratio(
                f"fast, {at_once(associations)}, tmpfs: node / storescp +B, TCP_NODELAY=1",
                Case("node", "fast", associations, "memory"),
                Case("storescp+B-nodelay", "fast", associations, "memory"),
                0.9,
            )
        )
    # Without a requirement.
    for sender in ("storescu", "dcmsend"):
        for peer in PEERS:
            ratio = Ratio(f"{sender}: node / {KINDS[peer].title}", Case("node", sender), Case(peer, sender))
            if not any((each.above, each.below) == (ratio.above, ratio.below) for each in ratios):
                ratios.append(ratio)
    for associations in (1, 4, 16):
        for peer in PARALLEL_PEERS:
            ratios.append(
                Ratio(
                    f"fast, {at_once(associations)}: node / {KINDS[peer].title}",
                    Case("node", "fast", associations),
                    Case(peer, "fast", associations),
                )
            )
    return ratios


def all_bounds() -> list[Bound]:
    cpu = [
        Bound(
            f"node's CPU, all processes, {at_once(case.associations)}, {MEDIUM[case.medium]}",
            case,
            "cpu_ms_per_image",
            "ms/image",
            most=0.45,
        )
        for case in all_cases()
        if case.receiver == "node" and case.sender == "fast"
    ]
    return [
        *cpu,
        Bound("associations a second, 4 at once", Case("node", "rate", 4), "per_second", "/s", least=60),
        Bound("warm C-ECHO with its association, p99", Case("node", "paced"), "p99_ms", "ms", most=50),
    ]


# --- Figures of repeats -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Of one figure over the repeats."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: list[float]) -> Spread | None:
        return Spread(statistics.median(values), min(values), max(values)) if values else None


class Figures:
    """All measurements so far, each a dictionary with at least `key` and `repeat`."""

    def __init__(self, measurements: list[dict]):
        self._found: dict[str, dict[int, dict]] = {}
        for each in measurements:
            self._found.setdefault(each["key"], {})[each["repeat"]] = each

    def measured(self, case: Case) -> list[dict]:
        return list(self._found.get(case.key, {}).values())

    def spread(self, case: Case, field: str) -> Spread | None:
        return Spread.of([each[field] for each in self.measured(case) if each.get(field) is not None])

    def ratio(self, ratio: Ratio) -> Spread | None:
        """Each repeat is divided by itself, so that drift between repeats falls out."""
        above, below = self._found.get(ratio.above.key, {}), self._found.get(ratio.below.key, {})
        return Spread.of([above[n]["per_second"] / below[n]["per_second"] for n in above.keys() & below.keys()])


@dataclass(frozen=True)
class Verdict:
    title: str
    unit: str
    spread: Spread | None
    least: float | None
    most: float | None

    @property
    def is_required(self) -> bool:
        return self.least is not None or self.most is not None

    @property
    def is_met(self) -> bool:
        """Also false for what is required and was not measured."""
        if self.spread is None:
            return not self.is_required
        return (self.least is None or self.spread.median >= self.least) and (
            self.most is None or self.spread.median <= self.most
        )


def verdicts(figures: Figures) -> list[Verdict]:
    found = [Verdict(each.title, "", figures.ratio(each), each.least, None) for each in all_ratios()]
    for each in all_bounds():
        found.append(Verdict(each.title, each.unit, figures.spread(each.case, each.field), each.least, each.most))
    return sorted(found, key=lambda each: not each.is_required)
