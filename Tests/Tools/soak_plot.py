"""Draws a soak: studies, times to flag, memory, descriptors, deliveries and disk over the day, with its troubles."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Iterable

import numpy as np
from soak_verdict import Records

WIDTH, LEFT, RIGHT = 1000, 70, 160
# Above the first panel, for its title.
TITLE = 20
HEAD, HEIGHT, GAP, FOOT = 185, 120, 34, 40
BLUE, ORANGE, GREEN, PURPLE, GREY = "#2563a8", "#d9730d", "#2e7d4f", "#7a4fa3", "#8a8f98"
OUTAGE, RESTART = "#f3b8ae", "#444444"

Points = Iterable[tuple[float, float]]


class Picture:
    """Panels under each other with one axis of time: minutes of the run."""

    def __init__(self, minutes: float, panels: int):
        self.minutes, self.panels = minutes, panels
        self.height = HEAD + panels * (HEIGHT + GAP) + FOOT
        self.parts: list[str] = []

    def x(self, minute: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * minute / self.minutes

    def text(self, x: float, y: float, content: str, **attributes) -> None:
        options = {"fill": "#333", "font-size": 11} | {key.replace("_", "-"): each for key, each in attributes.items()}
        given = " ".join(f'{key}="{each}"' for key, each in options.items())
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {given}>{escape(content)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dash: str = "") -> None:
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"'
            + (f' stroke-dasharray="{dash}"' if dash else "") + "/>"
        )  # fmt: skip

    def troubles(self, troubles: list[dict], begun: float) -> None:
        """Bands for what lasts, lines for what is over at once; their names stand on top."""
        bottom = HEAD + self.panels * (HEIGHT + GAP) - GAP
        for each in sorted(troubles, key=lambda each: each["begin"]):
            begin, end = (self.x((each[key] - begun) / 60) for key in ("begin", "end"))
            is_restart = each["text"].startswith("node ")
            if is_restart or end - begin < 3:
                self.line(begin, HEAD - TITLE, begin, bottom, RESTART if is_restart else OUTAGE, 1, "3 3")
            else:
                height = bottom - HEAD + TITLE
                self.parts.append(
                    f'<rect x="{begin:.1f}" y="{HEAD - TITLE}" width="{end - begin:.1f}" height="{height}" '
                    f'fill="{OUTAGE}" fill-opacity="0.35"/>'
                )
            middle, y = begin if is_restart else (begin + end) / 2, HEAD - TITLE - 3
            self.text(
                middle + 3, y, each["text"], font_size=9.5, transform=f"rotate(-55 {middle + 3:.1f} {y})",
                fill="#222" if is_restart else "#9c3b2c",
            )  # fmt: skip

    def panel(self, index: int, title: str, most: float, is_logarithmic: bool = False, least: float = 0) -> Panel:
        return Panel(self, HEAD + index * (HEIGHT + GAP), title, most, is_logarithmic, least)

    def axis(self, seconds_an_hour: float) -> None:
        y = HEAD + self.panels * (HEIGHT + GAP) - GAP
        for hour in range(0, 25, 2 if self.x(seconds_an_hour / 60) - LEFT > 22 else 4):
            x = self.x(hour * seconds_an_hour / 60)
            if x > WIDTH - RIGHT + 1:
                break
            self.line(x, y, x, y + 4, "#666")
            self.text(x, y + 16, f"{hour:02}:00", text_anchor="middle")
        self.text(LEFT, y + 32, f"time of the hospital's day; all of it took {self.minutes:.0f} minutes", fill="#666")

    def write(self, path: Path) -> None:
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


class Panel:
    def __init__(self, picture: Picture, top: float, title: str, most: float, is_logarithmic: bool, least: float):
        self.picture, self.top, self.is_logarithmic, self.least = picture, top, is_logarithmic, least
        self.most = most if is_logarithmic else self._round(most)
        self.labels = 0
        picture.text(LEFT, top - 6, title, font_weight="bold")
        for tick in self._ticks():
            y = self.y(tick)
            picture.line(LEFT, y, WIDTH - RIGHT, y, "#e3e5e8")
            picture.text(LEFT - 7, y + 4, f"{tick:g}", text_anchor="end", fill="#666")
        picture.line(LEFT, top, LEFT, top + HEIGHT, "#999")

    @staticmethod
    def _round(most: float) -> float:
        """Up to a number that has plain quarters, and no less than 4."""
        power = 10 ** math.floor(math.log10(max(most, 4) / 4))
        return next(factor * power for factor in (4, 6, 8, 10, 12, 16, 20, 24, 30, 40) if factor * power >= most)

    def _ticks(self) -> list[float]:
        if not self.is_logarithmic:
            return [self.most * part / 4 for part in range(5)]
        powers = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        return [f * 10**p for p in powers for f in (1, 3) if self.least <= f * 10**p <= self.most]

    def y(self, value: float) -> float:
        if self.is_logarithmic:
            share = math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)
        else:
            share = value / self.most
        return self.top + HEIGHT * (1 - min(1.0, max(0.0, share)))

    def label(self, text: str, colour: str) -> None:
        y = self.top + 10 + 16 * self.labels
        self.labels += 1
        self.picture.line(WIDTH - RIGHT + 10, y - 4, WIDTH - RIGHT + 26, y - 4, colour, 3)
        self.picture.text(WIDTH - RIGHT + 32, y, text, font_size=10.5)

    def curve(self, pieces: Iterable[Points], text: str, colour: str) -> None:
        """Each piece is of one lifetime of the node."""
        for points in pieces:
            path = " ".join(f"{self.picture.x(minute):.1f},{self.y(value):.1f}" for minute, value in points)
            self.picture.parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4" stroke-linejoin="round"/>'
            )
        self.label(text, colour)

    def bars(self, points: Points, width: float, text: str, colour: str) -> None:
        for minute, value in points:
            x, y = self.picture.x(minute), self.y(value)
            self.picture.parts.append(
                f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{self.picture.x(minute + width) - x - 1:.1f}" '
                f'height="{self.top + HEIGHT - y:.1f}" fill="{colour}" fill-opacity="0.55"/>'
            )
        self.label(text, colour)

    def dots(self, points: Points, text: str, colour: str) -> None:
        for minute, value in points:
            self.picture.parts.append(
                f'<circle cx="{self.picture.x(minute):.1f}" cy="{self.y(value):.1f}" r="2" fill="{colour}" '
                f'fill-opacity="0.75"/>'
            )
        self.label(text, colour)


def draw(folder: Path) -> Path:
    r = Records(folder)
    begun, an_hour = r.description["begun"], r.description["seconds_an_hour"]
    lifetimes = [samples for _, samples in r.lifetimes() if samples]
    picture = Picture(max(each["at"] for samples in lifetimes for each in samples) / 60 - begun / 60, 6)
    picture.troubles(r.troubles, begun)

    def pieces(value) -> list[list[tuple[float, float]]]:
        found = []
        for samples in lifetimes:
            values = [((each["at"] - begun) / 60, value(each)) for each in samples]
            found.append([(minute, number) for minute, number in values if number is not None])
        return found

    def most(*curves) -> float:
        return max((number for curve in curves for piece in curve for _, number in piece), default=1)

    half = an_hour / 2
    counts = np.bincount([int((each["first_sent"] - begun) / half) for each in r.studies if each["first_sent"]])
    panel = picture.panel(0, "Studies in half an hour of the day", counts.max())
    panel.bars([(index * half / 60, int(count)) for index, count in enumerate(counts)], half / 60, "begun", BLUE)

    prompt = [(each["last_acknowledged"], seconds) for each, seconds in r.prompt]
    known = {each["study"] for each, _ in r.prompt}
    others = [
        (each["last_acknowledged"], seconds) for each in r.studies
        if each["study"] not in known and (seconds := r.flag_seconds(each)) is not None and seconds > 0
    ]  # fmt: skip
    panel = picture.panel(1, "Last image to report accepted, seconds", 600, is_logarithmic=True, least=1)
    panel.dots([((at - begun) / 60, seconds) for at, seconds in others], "waits, or in a trouble", GREY)
    panel.dots([((at - begun) / 60, seconds) for at, seconds in prompt], "by the node alone", BLUE)

    daemon = pieces(lambda each: each["daemon"]["anon"] / 1024)
    infer = pieces(lambda each: (each["children"].get("infer") or {"anon": None})["anon"])
    infer = [[(minute, number / 1024) for minute, number in piece] for piece in infer]
    workers = pieces(
        lambda each: sum(found["pss"] for kind, found in each["children"].items() if kind != "infer") / 1024
    )
    panel = picture.panel(2, "Memory, MiB", most(daemon, infer, workers))
    panel.curve(infer, "inference", ORANGE)
    panel.curve(daemon, "daemon", BLUE)
    panel.curve(workers, "all workers (PSS)", GREEN)

    descriptors = pieces(lambda each: each["daemon"]["descriptors"])
    threads = pieces(lambda each: each["daemon"]["threads"])
    processes = pieces(lambda each: sum(found["count"] for found in each["children"].values()))
    panel = picture.panel(3, "The daemon's descriptors, threads and children", most(descriptors, threads, processes))
    panel.curve(descriptors, "descriptors", BLUE)
    panel.curve(threads, "threads", ORANGE)
    panel.curve(processes, "children", GREEN)

    pending = pieces(lambda each: each["metrics"].get("outbox_pending"))
    uncommitted = pieces(lambda each: each["metrics"].get("outbox_uncommitted"))
    panel = picture.panel(4, "Deliveries owed", most(pending, uncommitted))
    panel.curve(pending, "not accepted", BLUE)
    panel.curve(uncommitted, "not committed", ORANGE)

    def size(name: str):
        return pieces(lambda each: each["folders"][name][0] / (1 << 20) if "folders" in each else None)

    folders = {name: size(name) for name in ("spool/studies", "results", "ledger", "audit")}
    wal = pieces(lambda each: each["wal"] / (1 << 20))
    panel = picture.panel(
        5, "Disk, MiB", max(most(*folders.values()), 10) * 1.5, is_logarithmic=True, least=0.1
    )
    labels = ("images", "results", "ledger", "audit")
    for (name, curve), text, colour in zip(folders.items(), labels, (BLUE, ORANGE, GREEN, PURPLE)):
        panel.curve(curve, text, colour)
    panel.curve(wal, "write-ahead log", GREY)
    picture.axis(an_hour)
    path = folder / "soak.svg"
    picture.write(path)
    return path
