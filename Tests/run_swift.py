#!/usr/bin/env python3
"""Runs the Swift tests that were built, in parallel. What fails beside a thousand others is run again alone, and that
counts; the end says which these were: a test that loses a race is a fault of the test. A crash counts at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile

COMMAND = ("swift", "test", "--skip-build", "--disable-xctest")
MOST_SECONDS = 900
# Of more than these the machine is not the cause.
MOST_AGAIN = 5
ENDED = re.compile(r"([✔✘]) Test (\w+)\(.*\) (?:with \d+ test cases? )?(?:passed|failed) after ")
# A run that crashed does not say it.
SUMMARY = re.compile(r"✘ Test run with \d+ tests? .*failed after ")


def run(*arguments: str) -> tuple[int, list[str]]:
    """Exit status and lines, which are printed as they come."""
    lines = []
    # What tests leave in the folder for temporary files goes with it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            ["timeout", "--kill-after=10", str(MOST_SECONDS), *COMMAND, *arguments],
            env={**os.environ, "TMPDIR": folder, "SWIFT_BACKTRACE": "enable=no"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        return process.wait(), lines


def ended(lines: list[str], mark: str) -> set[str]:
    """Names of the tests that ended with this mark."""
    return {match[2] for line in lines if (match := ENDED.search(line)) and match[1] == mark}


def main() -> int:
    status, lines = run("--parallel")
    if status == 0:
        return 0
    failed = ended(lines, "✘")
    if not any(SUMMARY.search(line) for line in lines) or not 0 < len(failed) <= MOST_AGAIN:
        return status
    print(f"\nrun again alone: {', '.join(sorted(failed))}", flush=True)
    status, lines = run("--no-parallel", "--filter", rf"\b({'|'.join(failed)})\(")
    # A filter that finds nothing is no success.
    is_good = status == 0 and failed <= ended(lines, "✔")
    print(f"{'passed alone' if is_good else 'failed again'}: {', '.join(sorted(failed))}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
