"""What became of a soak, from what it wrote down. Every check can fail. `soak.py --verdict FOLDER` makes it again."""

from __future__ import annotations

import collections
import datetime
import hashlib
import json
import re
import sqlite3
from functools import cached_property
from pathlib import Path
from typing import Iterator

import numpy as np
from delivery_harness import REPORT_CLASSES
from node_fixture import data_set_bytes
from pydicom.filereader import read_file_meta_info

OUR_FILES = {"audit", "ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal", "installation-id", "spool", "results"}
LOG_LINE = re.compile(r"\S+ (trace|debug|info|notice|warning|error|critical) \S+ ?: (.*?)\[(\w+)\] (.*)")
# What a worker says when its daemon was killed.
ORPHANED = re.compile(r"ichnode-dicom [a-z]+: closed: (receive|send) failed: .*")
# What a trouble explains: until so long after it, pauses of deliveries included.
TROUBLED_SECONDS, TROUBLED_SECONDS_IF_SHORT = 40, 4
EXPECTED_ERRORS = {
    "results refused for good": ("PACS refuses for good",),
    "decode worker died": ("inference and decoders killed",),
    "study cannot be concluded yet, tried again": ("inference and decoders killed", "senders killed"),
    "report cannot be composed with its pictures": ("senders killed",),
    "report cannot be composed with its slices": ("senders killed",),
}
EXPECTED_ALERTS = {"identity-conflict", "delivery-given-up", "process-crashes"}

# A run that was shorter, or ended early, need not have figures of everything.
LONG_SECONDS = 3600
# Of a lifetime of the daemon: what comes before is warming up.
WARM_UP_STUDIES, WARM_UP_SECONDS = 50, 300
# Fewer say nothing of a slope.
LEAST_STUDIES, LEAST_WINDOWS, WINDOW_SECONDS = 150, 20, 60
# Growth for 1000 studies.
MOST_KIB = {"daemon": 8192, "infer": 8192, "receive (template)": 1024, "decode": 8192}
MOST_DESCRIPTORS, MOST_THREADS = 4, 4
MOST_WAL_BYTES = 64 << 20
MOST_STRAY_SECONDS = 60
# From the last image to the first acceptance of the report, where the node alone decides.
MOST_FLAG_SECONDS_P95 = 15
# Runnable processes a core: above that others' work decides, as in test_node_attacks.
MOST_LOAD = 4
# Retention looks every ten seconds, and one study after the other.
MOST_RETENTION_LAG_SECONDS = 120


def lines(path: Path) -> list[dict]:
    """The last one may have been cut off."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


class Records:
    def __init__(self, folder: Path):
        self.folder = folder
        self.description = json.loads((folder / "soak.json").read_text())
        for name in ("studies", "attacks", "troubles", "samples", "arrivals", "orthanc", "hl7", "webhooks", "pages"):
            setattr(self, name, lines(folder / f"{name}.jsonl"))
        self.is_over = "ended" in self.description
        self.is_long = self.description.get("ended", 0) - self.description["begun"] >= LONG_SECONDS
        self.data = folder / "node" / "data"

    def rows(self, query: str) -> list[tuple]:
        connection = sqlite3.connect(f"file:{self.data / 'ledger.sqlite'}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    @cached_property
    def holdings(self) -> dict[str, dict[str, collections.Counter]]:
        """What each archive holds: SOP Instance UIDs by study."""
        found = {name: collections.defaultdict(collections.Counter) for name in ("pacs", "orthanc")}
        held = set()
        for each in self.arrivals:
            # Known ones are answered as duplicates.
            if each["kept"] and each["sop"] not in held:
                held.add(each["sop"])
                found["pacs"][each["study"]][each["sop"]] += 1
        for each in self.orthanc:
            found["orthanc"][each["study"]][each["sop"]] += 1
        return found

    @cached_property
    def digests(self) -> dict[str, str]:
        """Of what the plain archive got."""
        return {each["sop"]: each["digest"] for each in self.arrivals if each["kept"]}

    @cached_property
    def first_reports(self) -> dict[str, float]:
        """When the plain archive took the first report of a study."""
        found: dict[str, float] = {}
        for each in self.arrivals:
            if each["kept"] and each["class"] in REPORT_CLASSES.values():
                found.setdefault(each["study"], each["at"])
        return found

    def flag_seconds(self, study: dict) -> float | None:
        if not study["flagged"]:
            return None
        flagged = datetime.datetime.fromisoformat(study["flagged"].replace("Z", "+00:00")).timestamp()
        return min(flagged, self.first_reports.get(study["study"], flagged)) - study["last_acknowledged"]

    @property
    def troubled_seconds(self) -> float:
        return TROUBLED_SECONDS_IF_SHORT if self.description["is_short"] else TROUBLED_SECONDS

    def is_troubled(self, begin: float, end: float, *texts: str) -> bool:
        """By what has one of these texts; by anything where none is given."""
        return any(
            each["begin"] - 1 < end and begin < each["end"] + self.troubled_seconds
            for each in self.troubles
            if not texts or each["text"] in texts
        )

    def is_crowded(self, begin: float, end: float) -> bool:
        """The load is an average of the last minute."""
        most = MOST_LOAD * self.description["processors"]
        return any(each["load"] > most for each in self.samples if begin <= each["at"] <= end + 60)

    @cached_property
    def prompt(self) -> list[tuple[dict, float]]:
        """Studies whose time to flag is the node's alone, and the time."""
        found = []
        for each in self.studies:
            seconds = self.flag_seconds(each)
            if seconds is None or not each["is_prompt"] or each["losses"]:
                continue
            span = each["first_sent"], each["last_acknowledged"] + seconds
            if not self.is_troubled(*span) and not self.is_crowded(*span):
                found.append((each, seconds))
        return found

    @cached_property
    def log(self) -> list[tuple[float, str, str, str]]:
        """Time, level, metadata and message of what is a warning or worse; level "?" of what is no line of a log."""
        found = []
        for path in sorted((self.folder / "node").glob("ichnode-*.log")):
            texts = path.read_text(errors="replace").splitlines()
            for number, text in enumerate(texts):
                if match := LOG_LINE.fullmatch(text):
                    if match[1] in ("warning", "error", "critical"):
                        at = datetime.datetime.strptime(text[:24], "%Y-%m-%dT%H:%M:%S%z").timestamp()
                        found.append((at, match[1], match[2], match[4]))
                elif number < len(texts) - 1 and not ORPHANED.fullmatch(text):
                    # A kill cuts off the last one.
                    found.append((0, "?", "", text))
        return found

    def lifetimes(self) -> Iterator[tuple[int, list[dict]]]:
        for number in sorted({each["lifetime"] for each in self.samples}):
            # A sample may be taken between the end of one and the start of the next.
            yield number, [each for each in self.samples if each["lifetime"] == number and each["daemon"]]


# --- Slopes -----------------------------------------------------------------------------------------------------------


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """The median of all slopes between two points (Theil and Sen), and its 95 % limits (Sen 1968)."""
    count = len(x)
    first, second = np.triu_indices(count, 1)
    steps = x[second] - x[first]
    slopes = np.sort((y[second] - y[first])[steps > 0] / steps[steps > 0])
    width = 1.96 * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = (int(np.clip((len(slopes) + sign * width) / 2, 0, len(slopes) - 1)) for sign in (-1, 1))
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def windows(records: Records, samples: list[dict], value) -> tuple[np.ndarray, np.ndarray]:
    """Studies so far, and the least of each minute: what stays when work under way is done."""
    starts = np.sort([each["first_sent"] for each in records.studies if each["first_sent"] >= samples[0]["at"]])
    found: dict[int, tuple[float, float]] = {}
    for each in samples:
        number = value(each)
        studies = int(np.searchsorted(starts, each["at"]))
        if number is None or studies < WARM_UP_STUDIES or each["at"] < samples[0]["at"] + WARM_UP_SECONDS:
            continue
        window = int((each["at"] - samples[0]["at"]) // WINDOW_SECONDS)
        found[window] = min(found.get(window, (np.inf, 0)), (number, studies))
    return np.array([each[1] for each in found.values()]), np.array([each[0] for each in found.values()])


def of_kind(kind: str, key: str):
    def value(sample: dict) -> float | None:
        if kind == "daemon":
            return sample["daemon"].get(key)
        found = sample["children"].get(kind)
        return found[key] / found["count"] if found else None

    return value


def slopes(records: Records) -> Iterator[tuple[int, str, str, int, tuple[float, float, float], float]]:
    """Lifetime, process, what, studies, slope for 1000 studies with its limits, and the bound."""
    wanted = [(kind, "anon", most) for kind, most in MOST_KIB.items()]
    wanted += [("daemon", "descriptors", MOST_DESCRIPTORS), ("daemon", "threads", MOST_THREADS)]
    wanted += [("infer", "descriptors", MOST_DESCRIPTORS)]
    for number, samples in records.lifetimes():
        for kind, key, most in wanted:
            if not samples:
                continue
            studies, values = windows(records, samples, of_kind(kind, key))
            if len(studies) < LEAST_WINDOWS or studies[-1] - studies[0] < LEAST_STUDIES:
                continue
            found = tuple(1000 * each for each in slope(studies.astype(float), values.astype(float)))
            yield number, kind, key, int(studies[-1] - studies[0]), found, most


# --- Checks -----------------------------------------------------------------------------------------------------------


class Verdict:
    def __init__(self, records: Records):
        self.records = records
        self.checks: list[tuple[str, str, list[str]]] = []

    def check(self, name: str, figures: str, failures: list[str]) -> None:
        self.checks.append((name, figures, failures))

    @property
    def is_good(self) -> bool:
        return not any(failures for _, _, failures in self.checks)

    def text(self) -> str:
        found = []
        for name, figures, failures in self.checks:
            found.append(f"{'BAD ' if failures else 'good'}  {name}: {figures}")
            found += [f"        {each}" for each in failures[:20]]
            found += [f"        and {len(failures) - 20} more"] if len(failures) > 20 else []
        return "\n".join(found)

    def make(self) -> Verdict:
        r = self.records
        if r.is_over:
            started, judged = r.description["counts"]["cases"], {each["case"] for each in (*r.studies, *r.attacks)}
            missing = set(range(started)) - judged
            self.check("all came to an end", f"{started} cases", [f"case {each} did not" for each in sorted(missing)])
        else:
            self.check("all came to an end", "the run was cut off", ["what archives hold is not known"])
        self._outcomes()
        self._archives()
        self._alerts()
        self._log()
        self._resources()
        self._left()
        self._flags()
        self._troubles()
        return self

    def _outcomes(self) -> None:
        failures, kinds = [], collections.Counter()
        for each in self.records.studies:
            kinds[each["expected"]] += 1
            name = f"{each['study']} ({each['kind']})"
            failures += [f"{name}: {text}" for text in each["complaints"]]
            if each["outcome"] != each["expected"]:
                failures.append(f"{name}: {each['outcome']} {each['reason']!r} instead of {each['expected']}")
            if len(each["reports"]) != each["expected_reports"]:
                failures.append(f"{name}: {len(each['reports'])} reports instead of {each['expected_reports']}")
        for each in self.records.attacks:
            failures += [f"{each['kind']}: {text}" for text in each["complaints"]]
        figures = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        instances = sum(each["instances"] for each in self.records.studies)
        self.check(
            "every study has the outcome that it has to, nothing acknowledged is missing",
            f"{figures}; {instances} objects, {len(self.records.attacks)} rounds of attacks", failures,
        )  # fmt: skip

    def _archives(self) -> None:
        """Each result once in each archive, byte for byte; of superseded revisions at most."""
        r, failures, objects = self.records, [], 0
        superseded = {
            (study, destination)
            for study, destination in r.rows("SELECT study_uid, destination FROM delivery WHERE state = 'superseded'")
        }
        owed = r.rows(
            "SELECT study_uid, destination, state FROM delivery WHERE state NOT IN ('delivered', 'superseded')"
        )
        failures += [f"{study}: delivery to {destination} is {state}" for study, destination, state in owed]
        known = {each["study"] for each in r.studies}
        for archive, studies in r.holdings.items():
            failures += [f"{archive} holds results of {each}, which nobody sent" for each in studies.keys() - known]
        for each in r.studies if r.is_over else []:
            for archive in ("pacs", "orthanc"):
                held = r.holdings[archive].get(each["study"], collections.Counter())
                objects += held.total()
                name = f"{each['study']} ({each['kind']}) in {archive}"
                failures += [f"{name}: {uid} {count} times" for uid, count in held.items() if count > 1]
                if archive not in each["destinations"]:
                    failures += [f"{name}: does not belong there"] if held else []
                    continue
                failures += [
                    f"{name}: {text}"
                    for text in self._of_study(each, archive, held, (each["study"], archive) in superseded)
                ]
        failures += r.description.get("complaints", [])
        self.check("every result is in its archives exactly once", f"{objects} objects", failures)

    def _of_study(self, study: dict, archive: str, held: collections.Counter, is_superseded: bool) -> list[str]:
        failures, allowed = [], set()
        for report in study["reports"]:
            is_last = report == study["reports"][-1]
            reports, rest = set(), set()
            for path in (self.records.data / "results" / study["study"] / report).glob("*.dcm"):
                is_report = read_file_meta_info(path).MediaStorageSOPClassUID in REPORT_CLASSES.values()
                (reports if is_report else rest).add(path.stem)
                if archive == "pacs" and path.stem in held:
                    if hashlib.sha256(data_set_bytes(path)).hexdigest() != self.records.digests[path.stem]:
                        failures.append(f"{path.stem} is not the result file")
            allowed |= reports | rest
            if not reports:
                failures.append("a report has no files")
            found = len(reports & held.keys())
            if found != 1 and not (found == 0 and is_superseded and not is_last):
                failures.append(f"{found} reports of one revision")
            if is_last or not is_superseded:
                failures += [f"{uid} is missing" for uid in rest - held.keys()]
        return failures + [f"{uid} is no result of the study" for uid in held.keys() - allowed]

    def _alerts(self) -> None:
        r, failures = self.records, []
        texts, accepted = collections.defaultdict(set), collections.Counter()
        for each in r.hl7:
            if "text" in each:
                texts[each["id"]].add(each["text"])
            else:
                accepted[each["accepted"]] += 1
        failures += [f"message {identifier} came in two forms" for identifier, found in texts.items() if len(found) > 1]
        messages = collections.Counter(
            re.search(r"OBX\|1\|ST\|[^|]*\|\|([0-9.]+)", next(iter(texts[identifier])))[1] for identifier in accepted
        )
        findings = [each for each in r.webhooks if each["kind"] in ("finding", "correction")]
        events = collections.Counter(each["study"]["study_instance_uid"] for each in findings)
        expected = {each["study"]: each["alerts"] for each in r.studies}
        for name, found in (("RIS", messages), ("webhook", events)):
            for study in expected.keys() | found.keys():
                if found[study] != expected.get(study, 0):
                    failures.append(f"{study}: {found[study]} alerts by {name} instead of {expected.get(study, 0)}")
        again = sum(accepted.values()) - len(accepted)
        self.check(
            "no alert is lost or doubled",
            f"{len(accepted)} messages to the RIS ({again} accepted again after a kill), {len(findings)} events",
            failures,
        )
        kinds = collections.Counter(kind for (kind,) in r.rows("SELECT kind FROM operator_alert"))
        self.check(
            "operators are told of what happened and of nothing else",
            ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing",
            [f"{kind}" for kind in kinds.keys() - EXPECTED_ALERTS],
        )

    def _log(self) -> None:
        r = self.records
        errors = [each for each in r.log if each[1] not in ("warning",)]
        failures = collections.Counter()
        for at, level, metadata, message in errors:
            if message == "operator alert raised" and any(kind in metadata for kind in EXPECTED_ALERTS):
                continue
            troubles = EXPECTED_ERRORS.get(message)
            if not troubles or not r.is_troubled(at, at, *troubles):
                failures[f"{level}: {message} ({metadata.strip()[:160]})"] += 1
        warnings = collections.Counter(message for _, level, _, message in r.log if level == "warning")
        text = ", ".join(f"{count} {message}" for message, count in warnings.most_common(8))
        self.check(
            "no error in the log that nothing explains", f"{len(errors)} errors; warnings: {text}",
            [f"{count} × {text}" for text, count in failures.most_common()],
        )  # fmt: skip
        counts = r.description.get("counts", {})
        seen = {name: counts.get(name, 0) for name in ("pages", "live lines")}
        self.check(
            "the console answers", ", ".join(f"{count} {name}" for name, count in seen.items()),
            [f"{each['page']}: {each['status']}" for each in r.pages if not r.is_troubled(each["at"], each["at"])]
            + [f"no {name}" for name, count in seen.items() if r.is_over and not count],
        )  # fmt: skip

    def _resources(self) -> None:
        r, found, failures = self.records, [], []
        for lifetime, kind, key, studies, (median, low, high), most in slopes(r):
            unit = "KiB" if key == "anon" else key
            found.append(f"{kind} {median:+.0f} ({low:+.0f} to {high:+.0f}) {unit}")
            if median > most and low > 0:
                failures.append(
                    f"lifetime {lifetime}, {kind}: {median:+.0f} {unit} for 1000 studies ({low:+.0f} to {high:+.0f}, "
                    f"over {studies} studies), at most {most}"
                )
        if r.is_long and not found:
            failures.append("no lifetime is long enough for a slope")
        name = "memory, descriptors and threads are flat, for 1000 studies"
        self.check(name, "; ".join(found) or "too short to say", failures)
        zombies = self._lasting("zombies")
        strays = self._lasting("strays")
        self.check(
            "no zombies, no processes without their daemon", f"{len(r.samples)} samples",
            [f"zombie {pid} for {seconds:.0f} s" for pid, seconds in zombies if seconds > 1.5 * self._pause]
            + [f"process {pid} for {seconds:.0f} s" for pid, seconds in strays if seconds > MOST_STRAY_SECONDS],
        )
        wal = max((each["wal"] for each in r.samples), default=0)
        self.check(
            "the write-ahead log is bounded", f"{wal / (1 << 20):.1f} MiB at most",
            [f"more than {MOST_WAL_BYTES >> 20} MiB"] if wal > MOST_WAL_BYTES else [],
        )  # fmt: skip

    @property
    def _pause(self) -> float:
        moments = [each["at"] for each in self.records.samples]
        return float(np.median(np.diff(moments))) if len(moments) > 1 else 1

    def _lasting(self, key: str) -> list[tuple[int, float]]:
        """Processes, and how long they were seen."""
        seen: dict[int, list[float]] = {}
        for each in self.records.samples:
            for pid in each[key]:
                seen.setdefault(pid, []).append(each["at"])
        return [(pid, moments[-1] - moments[0]) for pid, moments in seen.items()]

    def _left(self) -> None:
        r = self.records
        if not r.is_over:
            return
        d = r.description
        failures = [f"{each} in incoming" for each in d["incoming"]]
        failures += [f"{each} among temporary files" for each in d["temporary"]]
        failures += [f"process {each}" for each in d["processes"]]
        failures += [f"{each.name} in the data folder" for each in r.data.iterdir() if each.name not in OUR_FILES]
        if d["exit_status"] != 0:
            failures.append(f"the node ended with {d['exit_status']}")
        files = {str(path) for path in (r.data / "spool" / "studies").glob("*/*")}
        kept = {path for (path,) in r.rows("SELECT path FROM instance WHERE purged_at IS NULL")}
        failures += [f"{path} is in {'the spool' if path in files else 'the ledger'} only" for path in files ^ kept]
        self.check("nothing is left over, spool and ledger agree", f"{len(files)} files in the spool", failures)
        due = d["ended"] - d["keep_seconds"] - MOST_RETENTION_LAG_SECONDS
        late = r.rows(
            f"SELECT study_uid FROM study WHERE has_files = 1 AND state = 'concluded' AND last_received_at < {due} "
            f"AND decision IS NOT 'ignored' AND (outcome IS NULL OR outcome = 'not a head CT' "
            f"OR EXISTS (SELECT 1 FROM delivery d WHERE d.study_uid = study.study_uid AND d.message IS NULL)) "
            f"AND NOT (outcome IS 'undetermined' AND decision IS NULL AND reason LIKE 'identity conflict%')"
        )
        (purged,) = r.rows("SELECT count(*) FROM study WHERE has_files = 0")[0]
        is_due = d["ended"] - d["begun"] > 2 * d["keep_seconds"]
        self.check(
            "retention keeps up", f"images of {purged} studies removed",
            [f"images of {study} are still there" for (study,) in late]
            + (["nothing was removed"] if is_due and not purged else []),
        )  # fmt: skip

    def _flags(self) -> None:
        found = [seconds for _, seconds in self.records.prompt]
        others = f"of {sum(each['is_prompt'] for each in self.records.studies)} that wait for nobody"
        if not found:
            is_wrong = ["no study was without trouble and other work"] if self.records.is_long else []
            return self.check("reports are in time", "none to measure", is_wrong)
        p50, p95 = np.percentile(found, (50, 95))
        self.check(
            "reports are in time",
            f"{len(found)} {others}, without troubles and other work on the machine: p50 {p50:.2f} s, p95 {p95:.2f} s, "
            f"most {max(found):.2f} s",
            [f"p95 above {MOST_FLAG_SECONDS_P95} s"] if p95 > MOST_FLAG_SECONDS_P95 else [],
        )

    def _troubles(self) -> None:
        texts = collections.Counter(each["text"] for each in self.records.troubles)
        self.check(
            "troubles went as planned", ", ".join(f"{count} × {text}" for text, count in texts.items()),
            [text for text in texts if text.startswith("failed")],
        )  # fmt: skip


def make_verdict(folder: Path) -> int:
    """Prints it and writes it down. Returns the exit status."""
    verdict = Verdict(Records(folder)).make()
    text = verdict.text() + f"\n{'good' if verdict.is_good else 'BAD'}\n"
    (folder / "verdict.txt").write_text(text)
    print(text, flush=True)
    return 0 if verdict.is_good else 1
