#!/usr/bin/env python3
"""The whole path on a real head CT: a sender, the node, and an independent PACS that gets the results.

Sends the head CT of Debian's invesalius-examples as it is, then with a simulated haemorrhage; waits for the results in
Orthanc; prints both reports; leaves heatmaps and the summary as PNG files. Succeeds only if the first is negative, and
the second positive with a painted slice flagged."""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "validation"), str(ROOT / "Tests" / "Tools")]
from ct_series import CTVolume, write_series  # noqa: E402
from invesalius_head import demo_header, load_head  # noqa: E402
from paint_haemorrhage import Haemorrhage, paint  # noqa: E402
from processes import LOOPBACK, DemoFailure, Node, Pacs, find_tool, free_ports  # noqa: E402
from structured_report import TriageReport, read_triage_report  # noqa: E402

CALLING_AE_TITLE = "DEMOPACS"
# Series Numbers of captures.
HEATMAPS, SUMMARY = 9003, 9004
GRACE_SECONDS = 2
POLL_SECONDS = 0.05
RESULT_DEADLINE_SECONDS = 90
EXPECTED_SECONDS = 5


@dataclass
class Case:
    """One study on its way through."""

    label: str  # "clean" or "painted"
    expected: str  # outcome in the report
    folder: Path
    study_uid: str
    slices: int
    painted: set[int] = field(default_factory=set)  # instance numbers
    haemorrhage: Haemorrhage | None = None
    report: TriageReport | None = None
    seconds_to_report: float | None = None
    heatmaps: list[Path] = field(default_factory=list)
    summary: Path | None = None
    failures: list[str] = field(default_factory=list)


# --- Terminal ---------------------------------------------------------------------------------------------------------


def heading(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def say(name: str, text: str) -> None:
    print(f"  {name:<18} {text}", flush=True)


def ranges(numbers: set[int]) -> str:
    """{4, 5, 6, 9} as "4-6, 9"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs) or "none"


# --- Steps ------------------------------------------------------------------------------------------------------------


def prepare(label: str, volume: CTVolume, run: str, folder: Path, haemorrhage: Haemorrhage | None) -> Case:
    header = demo_header(label.upper(), run)
    written = write_series(volume, header, folder)
    painted = {each["instance_number"] for each in written if haemorrhage and each["slice"] in haemorrhage.slices}
    return Case(
        label=label,
        expected="Present" if haemorrhage else "Absent",
        folder=folder,
        study_uid=header.study_uid,
        slices=len(written),
        painted=painted,
        haemorrhage=haemorrhage,
    )


def send(case: Case, called: str, port: int, log: Path) -> float:
    """Sends a series with DCMTK's storescu. Returns when (monotonic clock) the last C-STORE response arrived."""
    command = [find_tool("storescu", "dcmtk"), "--verbose", "--scan-directories", "--aetitle", CALLING_AE_TITLE]
    command += ["--call", called, LOOPBACK, str(port), str(case.folder)]
    last_response, successes, lines = 0.0, 0, []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            if "Received Store Response" in line:
                last_response = time.monotonic()
                successes += "(Success)" in line
            lines.append(line)
    log.write_text("".join(lines))
    if process.returncode != 0 or successes != case.slices:
        tail = "".join(f"  | {line}" for line in lines[-6:])
        raise DemoFailure(
            f"storescu to {called}: {successes} of {case.slices} images accepted, exit status {process.returncode}\n"
            f"the last lines of {log}:\n{tail}"
        )
    return last_response


def await_results(case: Case, pacs: Pacs, node: Node, last_response: float, output: Path) -> None:
    """Waits for the report in the PACS, then for one heatmap per flagged slice, and for a positive study the summary and
    the key objects; keeps all."""
    deadline = last_response + RESULT_DEADLINE_SECONDS
    found = _await(lambda: pacs.find(case.study_uid, "SR"), deadline, node)
    case.seconds_to_report = time.monotonic() - last_response
    if not found:
        raise DemoFailure(
            f"no report on the {case.label} study in the PACS {RESULT_DEADLINE_SECONDS} s after the last response\n"
            f"what the node says of it:\n{node.command('study', 'show', case.study_uid)}\n{node.log_tail()}"
        )
    report_bytes = pacs.download(found[0])
    (output / "report.dcm").write_bytes(report_bytes)
    case.report = read_triage_report(pydicom.dcmread(io.BytesIO(report_bytes)))

    wanted = len(case.report.flagged)

    def heatmaps() -> list[str]:
        return pacs.find(case.study_uid, "OT", HEATMAPS)

    images = _await(lambda: _at_least(heatmaps(), wanted), deadline, node) if wanted else []
    if len(images) < wanted:
        images = heatmaps()
        case.failures.append(f"{len(images)} heatmaps for {wanted} flagged slices")
    for identifier in images:
        case.heatmaps.append(_keep_heatmap(pacs.download(identifier), output))
    if not wanted:
        return
    summary = _await(lambda: pacs.find(case.study_uid, "OT", SUMMARY), deadline, node)
    key_objects = _await(lambda: pacs.find(case.study_uid, "KO"), deadline, node)
    if (len(summary), len(key_objects)) != (1, 1):
        case.failures.append(f"{len(summary)} summaries and {len(key_objects)} key object selections, expected one each")
        return
    case.summary = _keep_picture(pacs.download(summary[0]), output / "summary.dcm")
    (output / "key-objects.dcm").write_bytes(pacs.download(key_objects[0]))


def keep_sources(case: Case, output: Path) -> None:
    """The first slice and the flagged ones, beside the results, for `make validate` to compare with."""
    (output / "source").mkdir()
    wanted = {1, *(each.instance_number for each in case.report.flagged)}
    for path in case.folder.iterdir():
        if pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber in wanted:
            shutil.copy(path, output / "source")


def _await(query, deadline: float, node: Node):
    """The first non-empty answer, or an empty list at the deadline."""
    while True:
        if answer := query():
            return answer
        node.require_running()
        if time.monotonic() > deadline:
            return []
        time.sleep(POLL_SECONDS)


def _at_least(found: list[str], count: int) -> list[str]:
    return found if len(found) >= count else []


def _keep_heatmap(content: bytes, output: Path) -> Path:
    number = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).get("InstanceNumber")
    return _keep_picture(content, output / f"heatmap-{int(number or 0):03d}.dcm")


def _keep_picture(content: bytes, path: Path) -> Path:
    ds = pydicom.dcmread(io.BytesIO(content))
    path.write_bytes(content)
    Image.fromarray(np.ascontiguousarray(ds.pixel_array)).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def judge(case: Case) -> None:
    report = case.report
    if report.outcome != case.expected:
        case.failures.append(f"outcome is {report.outcome}, expected {case.expected}")
    if report.study_uid != case.study_uid:
        case.failures.append(f"the report is on study {report.study_uid}, sent was {case.study_uid}")
    flagged = {each.instance_number for each in report.flagged}
    if case.expected == "Present" and not flagged & case.painted:
        case.failures.append(f"no painted slice is flagged: painted {ranges(case.painted)}, flagged {ranges(flagged)}")
    if case.expected == "Absent" and flagged:
        case.failures.append(f"slices flagged in a scan without haemorrhage: {ranges(flagged)}")


def show(case: Case, output: Path) -> None:
    report = case.report
    dump = subprocess.run(
        [find_tool("dsrdump", "dcmtk"), str(output / "report.dcm")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    (output / "report.txt").write_text(dump.stdout)
    if dump.returncode != 0:
        case.failures.append(f"dsrdump refuses the report: see {output / 'report.txt'}")
    print("\n".join(f"    {line}" for line in _abridged(dump.stdout.rstrip().splitlines())), "\n")
    say("outcome", f"{report.outcome} (expected {case.expected})")
    say("probability", "none given" if report.probability is None else f"{report.probability:.3f}")
    flagged = {each.instance_number for each in report.flagged}
    say("flagged slices", f"{ranges(flagged)}  ({len(flagged)})")
    if case.painted:
        both = len(flagged & case.painted)
        say("painted slices", f"{ranges(case.painted)}  ({len(case.painted)})")
        say("agreement", f"{both} of {len(flagged)} flagged are painted, {both} of {len(case.painted)} painted flagged")
    within = "within" if case.seconds_to_report <= EXPECTED_SECONDS else "OVER"
    say(
        "seconds to report",
        f"{case.seconds_to_report:.2f} from the last C-STORE response to its arrival in the PACS, grace"
        f" {GRACE_SECONDS} s included ({within} {EXPECTED_SECONDS} s)",
    )
    say("heatmaps", f"{len(case.heatmaps)} in {output}" if case.heatmaps else "none")
    say("summary", str(case.summary or "none"))
    for failure in case.failures:
        say("FAILED", failure)


def _abridged(lines: list[str], limit: int = 6) -> list[str]:
    """The dump with the image library, which names every slice, cut to its first lines."""
    result, depth, run = [], None, []

    def close():
        result.extend(run[:limit])
        if len(run) > limit:
            result.append(f"{' ' * (depth + 2)}... {len(run) - limit} more lines of the image library in report.txt")

    for line in lines:
        indent = len(line) - len(line.lstrip())
        if depth is not None and line.strip() and indent <= depth:
            close()
            depth, run = None, []
        if depth is not None:
            run.append(line)
            continue
        result.append(line)
        if '"Image Library")' in line:
            depth = indent
    if depth is not None:
        close()
    return result


# --- All of it --------------------------------------------------------------------------------------------------------


def choose_model(path: Path | None) -> Path:
    if path is None:
        found = sorted(each.parent for each in (ROOT / "Models").glob("*/model.json"))
        if len(found) != 1:
            names = ", ".join(each.name for each in found) or "none"
            raise DemoFailure(
                f"Models/ should hold one model package (a folder with model.json), found {names}: use --model"
            )
        path = found[0]
    if not (path / "model.json").is_file():
        raise DemoFailure(f"{path} has no model.json: not a model package")
    return path


def run(arguments: argparse.Namespace) -> int:
    for tool, package in (("storescu", "dcmtk"), ("dsrdump", "dcmtk"), ("Orthanc", "orthanc")):
        find_tool(tool, package)
    if not arguments.ichnode.is_file():
        raise DemoFailure(f"{arguments.ichnode} is missing: build first (make build)")
    model = choose_model(arguments.model)
    work, output = arguments.work.resolve(), arguments.output.resolve()

    heading(f"Demo, seed {arguments.seed}  (the same again: make demo SEED={arguments.seed})")
    # The run's number keeps the patients of two runs apart.
    run_number = f"{int(time.time()):x}".upper()
    volume = load_head()
    started = time.monotonic()
    painted_pixels, haemorrhage = paint(volume, arguments.seed)
    painted_volume = CTVolume(**{**volume.__dict__, "hounsfield": painted_pixels})
    cases = [
        prepare("clean", volume, run_number, work / "clean", None),
        prepare("painted", painted_volume, run_number, work / "painted", haemorrhage),
    ]
    (work / "painted.json").write_text(json.dumps(asdict(haemorrhage), indent=2))
    say("head CT", f"{cases[0].slices} slices of Debian's invesalius-examples as DICOM, with and without haemorrhage")
    rim = f", oedema rim {haemorrhage.oedema_rim_mm} mm" if haemorrhage.oedema_rim_mm else ""
    say(
        "painted",
        f"{haemorrhage.kind}, {haemorrhage.volume_ml} ml, {haemorrhage.diameter_mm} mm long, mean"
        f" {haemorrhage.mean_hounsfield} HU{rim} ({time.monotonic() - started:.1f} s)",
    )

    (node_port,) = free_ports(1)
    node = Node(arguments.ichnode, model, work / "node", node_port, GRACE_SECONDS)
    with Pacs(work / "pacs", node_port) as pacs:
        say("PACS", f"Orthanc, DICOM port {pacs.dicom_port}, {pacs.url}")
        node.configure(pacs)
        with node:
            say(
                "node",
                f"{arguments.ichnode.parent.name} build, DICOM port {node.dicom_port}, {node.url}, model {model.name}",
            )
            for case in cases:
                heading(f"The {case.label} scan: {case.slices} slices, calling AE title {CALLING_AE_TITLE}")
                folder = output / case.label
                folder.mkdir(parents=True)
                send(case, pacs.ae_title, pacs.dicom_port, work / f"storescu-{case.label}-to-pacs.log")
                sent = time.monotonic()
                last_response = send(case, "ICHNODE", node.dicom_port, work / f"storescu-{case.label}-to-node.log")
                say("sent", f"{case.slices} images to the node in {last_response - sent:.2f} s, every one accepted")
                await_results(case, pacs, node, last_response, folder)
                keep_sources(case, folder)
                judge(case)
                show(case, folder)
        if node.exit_status != 0:
            raise DemoFailure(f"the node ended with status {node.exit_status} after SIGTERM\n{node.log_tail()}")

    summary = [
        {
            "scan": case.label,
            "seed": arguments.seed,
            "outcome": case.report.outcome,
            "probability": case.report.probability,
            "flagged": sorted(each.instance_number for each in case.report.flagged),
            "painted": sorted(case.painted),
            "seconds_to_report": round(case.seconds_to_report, 3),
            "heatmaps": len(case.heatmaps),
            "failures": case.failures,
        }
        for case in cases
    ]
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    heading("Result")
    failures = [f"{case.label}: {failure}" for case in cases for failure in case.failures]
    for failure in failures:
        say("FAILED", failure)
    if failures:
        say("logs", str(work))
        return 1
    say("passed", f"clean scan negative, painted scan positive; reports and heatmaps in {output}")
    if slow := [case.label for case in cases if case.seconds_to_report > EXPECTED_SECONDS]:
        say("slow", f"more than {EXPECTED_SECONDS} s to the report: {', '.join(slow)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="decides the haemorrhage (default: a random one, printed)")
    parser.add_argument(
        "--ichnode", type=Path, default=ROOT / ".build" / "debug" / "ichnode", help="executable of the node"
    )
    parser.add_argument("--model", type=Path, help="model package (default: the one in Models/)")
    parser.add_argument("--work", type=Path, default=ROOT / ".demo", help="servers' files and logs; emptied first")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="results; emptied first")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = secrets.randbelow(1_000_000)
    if not re.fullmatch(r"[^\"\\]*", str(arguments.work.resolve())):
        parser.error("the path of --work has a quote or backslash in it")

    arguments.work.mkdir(parents=True, exist_ok=True)
    # A polite kill unwinds like Ctrl-C, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Held until the process ends.
    lock = (arguments.work / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(
            f"demo: another demo runs with {arguments.work}: wait for it, or use --work and --output", file=sys.stderr
        )
        return 1
    for folder in (arguments.work, arguments.output):
        _empty(folder)
    try:
        return run(arguments)
    except DemoFailure as failure:
        print(f"\ndemo: {failure}\ndemo: logs are in {arguments.work}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as failure:
        print(f"\ndemo: {type(failure).__name__}: {failure}\ndemo: logs are in {arguments.work}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130


def _empty(folder: Path) -> None:
    """Removes what an earlier run left. Refuses a folder that is not the demo's."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / ".made-by-demo"
    strangers = [each.name for each in folder.iterdir() if each.name not in (".lock", marker.name)]
    if strangers and not marker.exists():
        raise SystemExit(
            f"demo: {folder} holds files that the demo did not make ({strangers[0]}, …): choose another folder"
        )
    for each in folder.iterdir():
        if each.name == ".lock":
            continue
        shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    marker.touch()


if __name__ == "__main__":
    sys.exit(main())
