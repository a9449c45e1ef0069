#!/usr/bin/env python3
"""Man pages of ichnode and of each of its commands, from what the program says of itself, and ichnode.yaml(5) from the
annotated example: man_pages.py ICHNODE EXAMPLE OUTPUT_FOLDER."""

import json
import re
import subprocess
import sys
from pathlib import Path


def roff(text: str) -> str:
    """Plain text as roff takes it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def option(argument: dict) -> str:
    """Name and value as a user types them."""
    if argument["kind"] == "positional":
        return f"\\fI{roff(argument['valueName'].upper())}\\fR"
    names = ", ".join(
        "\\fB" + roff(("--" if each["kind"] == "long" else "-") + each["name"]) + "\\fR" for each in argument["names"]
    )
    return names if argument["kind"] == "flag" else f"{names} \\fI{roff(argument['valueName'])}\\fR"


def command_page(path: list[str], command: dict, version: str) -> str:
    name = "-".join(path)
    lines = [
        f'.TH {name.upper()} 1 "" "ICHNode {version}" "ICHNode"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(command.get('abstract', '').rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {roff(' '.join(path))}",
    ]
    shown = [each for each in command.get("arguments", []) if each.get("shouldDisplay", True)]
    for argument in shown:
        text = option(argument)
        lines.append(f"[{text}]" if argument["isOptional"] else text)
    commands = [each for each in command.get("subcommands", []) if each.get("shouldDisplay", True)]
    commands = [each for each in commands if each["commandName"] != "help"]
    if commands:
        lines.append("\\fICOMMAND\\fR")
    if command.get("discussion"):
        lines += [".SH DESCRIPTION", *paragraphs(command["discussion"])]
    if shown:
        lines.append(".SH OPTIONS")
        for argument in shown:
            lines += [".TP", option(argument), roff(argument.get("abstract", ""))]
            if argument.get("defaultValue"):
                lines.append(f"Default: {roff(argument['defaultValue'])}.")
    if commands:
        lines.append(".SH COMMANDS")
        for each in commands:
            lines += [".TP", f"\\fB{roff(each['commandName'])}\\fR", roff(each.get("abstract", ""))]
            lines.append(f"See \\fB{roff('-'.join(path + [each['commandName']]))}\\fR(1).")
    lines += [".SH SEE ALSO"]
    others = ["-".join(path[:-1])] if len(path) > 1 else []
    lines.append(", ".join(f"\\fB{roff(each)}\\fR(1)" for each in others) + (", " if others else ""))
    lines.append("\\fBichnode.yaml\\fR(5), /usr/share/doc/ichnode/OPERATIONS.md")
    return "\n".join(line for line in lines if line) + "\n"


def paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for part in text.split("\n\n"):
        lines += [".PP", roff(" ".join(part.split("\n")))]
    return lines


def command_pages(path: list[str], command: dict, version: str) -> dict[str, str]:
    pages = {"-".join(path): command_page(path, command, version)}
    for each in command.get("subcommands", []):
        if each["commandName"] != "help" and each.get("shouldDisplay", True):
            pages |= command_pages([*path, each["commandName"]], each, version)
    return pages


def configuration_page(example: str, version: str) -> str:
    return "\n".join(
        [
            f'.TH ICHNODE.YAML 5 "" "ICHNode {version}" "ICHNode"',
            ".SH NAME",
            "ichnode.yaml \\- configuration of ichnode",
            ".SH SYNOPSIS",
            "/etc/ichnode/ichnode.yaml",
            ".SH DESCRIPTION",
            "YAML. Every key with its default and its reason; what is left out has its default. A key that is not known",
            "is an error. \\fBichnode config check\\fR says what is wrong, line by line.",
            ".PP",
            ".nf",
            roff(example.rstrip("\n")),
            ".fi",
            ".SH SEE ALSO",
            "\\fBichnode\\fR(1), \\fBichnode\\-config\\-check\\fR(1), \\fBichnode\\-doctor\\fR(1)",
        ]
    ) + "\n"


def main() -> None:
    program, example, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    told = subprocess.run([program, "--experimental-dump-help"], check=True, capture_output=True, text=True).stdout
    pages = command_pages(["ichnode"], json.loads(told)["command"], version)
    for section, contents in ((1, pages), (5, {"ichnode.yaml": configuration_page(example.read_text(), version)})):
        folder = output / f"man{section}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / f"{name}.{section}").write_text(text)


if __name__ == "__main__":
    main()
