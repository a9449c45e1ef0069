"""Results as Markdown and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from cases import Case, Figures, Spread, Verdict, verdicts
from receivers import KINDS
from surroundings import on_one_line

ECHO_TITLES = {
    "rate": "open, C-ECHO, release, as fast as it goes",
    "paced": "open, C-ECHO, release, 20 a second",
    "echo": "C-ECHO on an open association",
}


def number(value: float | None) -> str:
    """Three significant digits, never an exponent."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread_text(spread: Spread | None) -> str:
    if spread is None:
        return "not measured"
    if spread.least == spread.most:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.least)}–{number(spread.most)})"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def requirement(verdict: Verdict) -> str:
    if verdict.least is not None:
        return f"≥ {verdict.least:g}"
    return f"≤ {verdict.most:g}" if verdict.most is not None else ""


def image_rows(figures: Figures, cases: list[Case], sender: str, medium: str) -> list[list[str]]:
    rows = []
    for case in cases:
        if (case.sender, case.medium) != (sender, medium) or not (measured := figures.measured(case)):
            continue
        rows.append(
            [
                KINDS[case.receiver].title + (" --fork" if forks(case) else ""),
                str(case.associations),
                str(measured[0]["images"]),
                spread_text(figures.spread(case, "per_second")),
                *(number(spread.median) if (spread := figures.spread(case, f)) else "" for f in ("p50_ms", "p99_ms")),
                number(figures.spread(case, "cpu_ms_per_image").median),
                number(spread.median) if (spread := figures.spread(case, "opening_cpu_ms")) else "",
                KINDS[case.receiver].promise,
            ]
        )
    return rows


def forks(case: Case) -> bool:
    return case.receiver.startswith("storescp") and case.associations > 1


def echo_rows(figures: Figures, cases: list[Case]) -> list[list[str]]:
    rows = []
    for case in cases:
        if case.sends_images or not (measured := figures.measured(case)):
            continue
        rows.append(
            [
                KINDS[case.receiver].title + (" --fork" if forks(case) else ""),
                ECHO_TITLES[case.sender],
                str(case.associations),
                str(measured[0]["count"]),
                *(spread_text(figures.spread(case, field)) for field in ("per_second", "p50_ms", "p99_ms")),
                number(figures.spread(case, "cpu_ms_each").median),
            ]
        )
    return rows


def verdict_text(verdict: Verdict) -> str:
    if not verdict.is_required or verdict.spread is None:
        return ""
    return "met" if verdict.is_met else "**missed**"


def verdict_rows(found: list[Verdict]) -> list[list[str]]:
    return [
        [
            f"{each.title}{f' ({each.unit})' if each.unit else ''}",
            spread_text(each.spread),
            requirement(each),
            verdict_text(each),
        ]
        for each in found
        if each.is_required or each.spread
    ]


def markdown(results: dict, cases: list[Case]) -> str:
    figures = Figures(results["measurements"])
    run = results["run"]
    parts = [
        "# Receiving, beside its peers",
        on_one_line(results["environment"]),
        f"Repeats: {run['repeats']}. {run['images']} images of {run['object_bytes']} bytes in {run['studies']} studies;"
        " medians, with the least and the most. [How it is measured, and what the columns mean](README.md)",
        "## Ratios\n\n" + table(["", "ratio or figure", "required", ""], verdict_rows(verdicts(figures))),
    ]
    header = ["receiver", "associations", "images", "images/s", "p50 ms", "p99 ms", "CPU ms/image", "opening, CPU ms"]
    for sender, medium, title in (
        ("storescu", "disk", "Stock storescu, disk"),
        ("dcmsend", "disk", "dcmsend, disk"),
        ("fast", "disk", "Fast sender, disk"),
        ("fast", "memory", "Fast sender, tmpfs"),
    ):
        if rows := image_rows(figures, cases, sender, medium):
            parts.append(f"## {title}\n\n" + table([*header, "done before the answer"], rows))
    if rows := echo_rows(figures, cases):
        header = ["receiver", "", "at once", "n", "a second", "p50 ms", "p99 ms", "CPU ms each"]
        parts.append("## C-ECHO\n\n" + table(header, rows))
    for title, field in (("Failed", "failures"), ("Doubtful", "doubts")):
        if results[field]:
            parts.append(f"## {title}\n\n" + "\n".join(f"- {each}" for each in results[field]))
    return "\n\n".join(parts) + "\n"


def write_results(results: dict, cases: list[Case], folder: Path) -> str:
    """Writes receive.md and receive.json; returns the Markdown."""
    figures = Figures(results["measurements"])
    text = markdown(results, cases)
    results = results | {
        "verdicts": [
            {
                "title": each.title,
                "unit": each.unit,
                **(vars(each.spread) if each.spread else {}),
                "required": requirement(each),
                "met": each.is_met,
            }
            for each in verdicts(figures)
        ]
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "receive.md").write_text(text)
    (folder / "receive.json").write_text(json.dumps(results, indent=1) + "\n")
    return text
