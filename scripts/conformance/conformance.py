#!/usr/bin/env python3
"""Writes the tables of docs/CONFORMANCE.md and docs/SECURITY.md: what the built programs say of themselves, and what
lies in objects that they make. A table stands between `<!-- generated: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))
from code_tables import code_tables  # noqa: E402
from object_tables import object_tables  # noqa: E402

DOCUMENTS = (ROOT / "docs" / "CONFORMANCE.md", ROOT / "docs" / "SECURITY.md")
BLOCK = re.compile(r"<!-- generated: (?P<name>[^>]+?) -->\n(?P<table>.*?)<!-- end -->", re.DOTALL)


def tables(programs: Path) -> dict[str, str]:
    """Markdown of all tables.

    programs: folder of ichnode and ichnode-dicom."""
    with tempfile.TemporaryDirectory(prefix="ichnode-conformance-") as folder:
        return code_tables(programs) | object_tables(programs / "ichnode", Path(folder))


def rewritten(text: str, found: dict[str, str]) -> str:
    """The document with the tables as they are.

    Raises KeyError for a table that there is not."""
    return BLOCK.sub(lambda block: f"<!-- generated: {block['name']} -->\n{found[block['name']]}<!-- end -->", text)


def names(text: str) -> list[str]:
    return [block["name"] for block in BLOCK.finditer(text)]


def difference(document: Path, found: dict[str, str]) -> str:
    """Empty where the document says what the programs do."""
    text = document.read_text()
    lines = (text.splitlines(), rewritten(text, found).splitlines())
    return "\n".join(difflib.unified_diff(*lines, document.name, "the programs", n=0, lineterm=""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, default=ROOT / ".build" / "debug", help="default: %(default)s")
    found = tables(parser.parse_args().programs)
    for document in DOCUMENTS:
        text = document.read_text()
        document.write_text(rewritten(text, found))
        print(f"{document.relative_to(ROOT)}: {len(names(text))} tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
