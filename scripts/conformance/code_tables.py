"""Tables of what ichnode and ichnode-dicom say of themselves (`conformance`, a verb that their help does not show)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Callable, Iterable

from pydicom.datadict import dictionary_description
from pydicom.uid import UID, UID_dictionary

Rows = Iterable[list[str]]

# Retired before the dictionary at hand was made, or of a trial (earlier editions of PS3.4 Annex B).
FURTHER_NAMES = {
    "1.2.840.10008.5.1.4.1.1.9.1.1.1": "Waveform Storage - Trial (Retired)",
}
# What a site sets for DICOM; the other sections are in etc/ichnode.yaml.
SECTIONS = ("node", "dicom", "tls", "disk", "completion", "retention", "delivery", "audit", "peers[]", "routes[]")


def markdown(columns: str, rows: Rows) -> str:
    """columns: separated by |"""
    heads = [head.strip() for head in columns.split("|")]
    lines = [heads, ["---"] * len(heads), *rows]
    for line in lines:
        assert len(line) == len(heads), line
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def name(uid: str) -> str:
    """PS3.6 Table A-1, with "(Retired)" where it is."""
    if uid in FURTHER_NAMES:
        return FURTHER_NAMES[uid]
    known = UID_dictionary[uid]
    return known[0].split(":")[0] + (" (Retired)" if known[3] == "Retired" and "(Retired)" not in known[0] else "")


def from_programs(programs: Path) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for program in ("ichnode-dicom", "ichnode"):
        asked = subprocess.run(
            [programs / program, "conformance"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
        )
        for key, rows in json.loads(asked.stdout).items():
            found[key] = found.get(key, []) + rows
    return found


def code_tables(programs: Path) -> dict[str, str]:
    found = from_programs(programs)
    used: set[str] = set()

    def table(title: str, columns: str, key: str, cells: Callable[[list[str]], list[str]] = list) -> None:
        used.add(key)
        result[title] = markdown(columns, (cells(row) for row in found[key]))

    def limits(title: str, *keys: str) -> None:
        used.update(keys)
        rows = [row for key in keys for row in found[key]]
        result[title] = markdown(
            "what | at most | set by", ([what, most, f"`{key}`" if key else "–"] for what, most, key in rows)
        )

    result: dict[str, str] = {}
    table("implementation", "item | value", "implementation")
    table("transfer syntaxes", "name | UID", "transfer syntaxes", lambda row: [name(row[0]), row[0]])
    all_syntaxes = {row[0] for row in found["transfer syntaxes"]}
    table(
        "other classes",
        "SOP class | UID | transfer syntaxes | role of the proposer",
        "other classes",
        lambda row: [
            name(row[0]),
            row[0],
            "as for storage" if set(row[1].split()) == all_syntaxes else ", ".join(map(name, row[1].split())),
            "SCU" if UID(row[0]).keyword == "Verification" else "SCP, with or without role selection",
        ],
    )
    used.add("storage classes")
    classes = sorted((name(row[0]), row[0]) for row in found["storage classes"])
    for title, is_retired in (("storage classes", False), ("retired storage classes", True)):
        result[title] = markdown(
            "SOP class | UID",
            [[text.removesuffix(" (Retired)"), uid] for text, uid in classes if ("(Retired)" in text) == is_retired],
        )
    table("context refusals", "result | when", "context refusals")
    table("rejections", "result / source / reason | PS3.8 Table 9-21 | when", "rejections")
    for key in ("store statuses", "report statuses", "other statuses"):
        table(key, "status | meaning here", key)
    table(
        "requested contexts",
        "SOP class | UID | transfer syntaxes, in this order",
        "requested contexts",
        lambda row: [name(row[0]), row[0], ", ".join(map(name, row[1:]))],
    )
    table("delivery statuses", "status | meaning | the object is", "delivery statuses")
    table("move statuses", "status | what the node says of it", "move statuses")
    table("commitment statuses", "status | what the node says of it", "commitment statuses")
    table("commitment failures", "Failure Reason (0008,1197) | meaning | the object is", "commitment failures")
    limits("limits", "reception limits", "assembly limits", "image limits", "result limits", "requestor limits")
    table("timeouts", "of associations that the node opens | time", "timeouts")
    table(
        "attributes read",
        "attribute | tag",
        "attributes read",
        lambda row: [dictionary_description(int("".join(row), 16)), f"({','.join(row)})"],
    )
    used.add("character sets")
    result["character sets"] = markdown("defined terms | characters have", character_sets(found["character sets"]))
    table("cipher suites", "version | suite", "cipher suites", lambda row: [row[0].replace("v", " "), row[1]])
    table("audit codes", "kind | code | scheme | meaning", "audit codes")
    used.add("parameters")
    result["parameters"] = markdown("parameter | default", parameters(found["parameters"]))
    table(
        "confinement", "verb | address space | file size | CPU time | files | network | nice", "confinement", confined
    )
    table("deadlines", "what | at most", "deadlines")
    unused = set(found) - used
    assert not unused, f"the programs say more than the documents do: {sorted(unused)}"
    return result


def confined(row: list[str]) -> list[str]:
    verbs = ", ".join(f"`{verb}`" for verb in row[0].split(", "))
    return [verbs, *row[1:]]


def parameters(rows: Rows) -> Rows:
    """The node's title, where a key has it as its default, stands for whatever that title is."""
    title = next(fallback for section, key, fallback in rows if (section, key) == ("node", "ae_title"))
    for section, key, fallback in rows:
        section = section.replace("[0]", "[]")
        if section not in SECTIONS:
            continue
        if fallback == title and section != "node":
            fallback = "that of `node.ae_title`"
        elif fallback:
            fallback = f"`{fallback}`"
        yield [f"`{section}.{key}`", fallback or "–"]


def character_sets(rows: Rows) -> Rows:
    """Defined terms of PS3.3 Tables C.12-2 to C.12-5."""
    whole = [row[0] for row in rows if not row[0][0].isdigit()]
    numbers = [tuple(map(int, row[0].split())) for row in rows if row[0][0].isdigit()]
    single = [number for number, size in numbers if size == 1]
    double = [number for number, size in numbers if size == 2]
    # ISO-IR 6 and 14 are parts of others without code extensions.
    yield ["none (ISO-IR 6), " + ", ".join(f"ISO_IR {n}" for n in single if n not in (6, 14)), "1 byte"]
    yield [", ".join(f"ISO 2022 IR {n}" for n in single if n != 14), "1 byte, code extensions"]
    yield [", ".join(f"ISO 2022 IR {n}" for n in double), "2 bytes, code extensions"]
    yield [", ".join(term for term in whole if term != "ISO_IR 13"), "1 to 4 bytes"]
