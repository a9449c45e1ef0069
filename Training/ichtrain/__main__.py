"""Command line: crossvalidate, train, evaluate, challenge, export, reference, convert."""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
from pathlib import Path

import torch

from . import __version__, ctich, readers

HEAD = Path("/usr/share/doc/invesalius-examples/examples/Cranium.inv3")
PLACES = {"data", "cache", "work", "labels", "slice_labels", "output", "package", "head"}
"""Options that name places: a package's manifest shows their role and not the place."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="ichtrain", description="Train, measure and package the ICH model.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def schedule(sub: argparse.ArgumentParser) -> None:
        readers.add_arguments(sub)
        sub.add_argument("--work", type=Path, required=True, help="folder for checkpoints; a second run resumes there")
        sub.add_argument("--steps", type=int, default=1200, help="encoder steps of 16 slices (default 1200)")
        sub.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one network each (default 1 2 3)")
        sub.add_argument("--folds", type=int, default=5, help="folds by patient (default 5)")
        sub.add_argument("--jobs", type=int, default=1, help="networks to train at a time, one thread each (default 1)")

    schedule(command("crossvalidate", "Train per seed and fold, by patient; write out-of-fold predictions."))
    schedule(command("train", "Train on all studies, once per seed: the weights to ship."))

    evaluate = command("evaluate", "Figures, table and plots of a cross-validation.")
    evaluate.add_argument("--work", type=Path, required=True, help="folder of the cross-validation")
    evaluate.add_argument("--output", type=Path, help="folder for figures.json, roc.png and reliability.png")

    challenge = command("challenge", "Haemorrhages of another painter in brains that the networks never saw.")
    readers.add_arguments(challenge)
    challenge.add_argument("--work", type=Path, required=True, help="folder of a finished cross-validation")
    challenge.add_argument("--lesions", type=int, default=2, help="painted copies of each study (default 2)")

    foreign = command("foreign-head", "A package on a head from elsewhere, untouched and painted.")
    foreign.add_argument("--package", type=Path, required=True, help="package folder")
    foreign.add_argument("--head", type=Path, default=HEAD, help=f"Cranium.inv3 (default {HEAD})")
    foreign.add_argument("--lesions", type=int, default=10, help="painted copies of the head (default 10)")
    foreign.add_argument("--seed", type=int, default=101, help="seed of the first copy (default 101)")

    export = command("export", "Write a package from the weights of `train` and the cross-validation in WORK.")
    readers.add_arguments(export)
    export.add_argument("--work", type=Path, required=True, help="folder with the runs of train and crossvalidate")
    export.add_argument("--output", type=Path, required=True, help="package folder; its name is the package's name")
    export.add_argument("--version", default=__version__, help=f"package version (default {__version__})")

    reference = command("reference", "Write the references that the node's tests compare a package to.")
    reference.add_argument("--work", type=Path, required=True, help="folder with the runs of train")
    reference.add_argument("--package", type=Path, required=True, help="package that export wrote of them")
    reference.add_argument("--head", type=Path, default=HEAD, help=f"Cranium.inv3 (default {HEAD})")
    reference.add_argument("--ctich", type=Path, help="folder of CT-ICH; without, its studies are left out")
    reference.add_argument("--output", type=Path, required=True, help="folder for phantom.json and parity.json")

    convert = command("convert", "Write CT-ICH as DICOM series with tables of labels, for `ichnode evaluate`.")
    convert.add_argument("--data", type=Path, required=True, help="folder of CT-ICH")
    convert.add_argument("--output", type=Path, required=True, help="folder for the series and the tables")
    convert.add_argument("--patients", type=int, nargs="+", help="these only")
    return top




def run_schedule(options: argparse.Namespace) -> None:
    """train and crossvalidate."""
    from .runs import Run, run_all

    load = functools.partial(
        readers.load,
        options.layout,
        options.data,
        options.cache,
        options.labels,
        options.slice_labels,
        options.limit,
        options.processes,
    )
    studies = load()
    folds = range(options.folds) if options.command == "crossvalidate" else [None]
    subsets = ctich.subsets(studies) if options.layout == "ctich" else {}
    note = {
        "command": command_line(options),
        "steps": options.steps,
        "seeds": options.seeds,
        "folds": options.folds,
        "subsets": {name: sorted(identifiers) for name, identifiers in subsets.items()},
    }
    options.work.mkdir(parents=True, exist_ok=True)
    (options.work / f"{options.command}.json").write_text(json.dumps(note, indent=1) + "\n")
    del studies
    runs = [Run(seed, fold) for seed in options.seeds for fold in folds]
    run_all(load, runs, options.folds, options.steps, options.work, options.jobs)
    if options.command == "crossvalidate":
        evaluate(argparse.Namespace(work=options.work, output=None))


def command_line(options: argparse.Namespace) -> str:
    """The command as anybody could repeat it: places by their role."""
    words = ["python", "-m", "ichtrain", options.command]
    for name, value in vars(options).items():
        if name != "command" and value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *([name.upper()] if name in PLACES else map(str, values))]
    return shlex.join(words)


def summary_of(work: Path) -> tuple[dict, list]:
    """(what `evaluate.summarise` says, the mean of the seeds) of a cross-validation."""
    from .evaluate import load_predictions, mean_of_seeds, summarise

    predictions = load_predictions(work)
    subsets = json.loads((work / "crossvalidate.json").read_text())["subsets"]
    return summarise(predictions, {name: set(found) for name, found in subsets.items()}), mean_of_seeds(predictions)


def evaluate(options: argparse.Namespace) -> None:
    from .report import draw, table

    summary, cases = summary_of(options.work)
    print(table(summary["figures"]))
    if options.output is not None:
        draw(cases, options.output)
        (options.output / "figures.json").write_text(json.dumps(summary, indent=1) + "\n")


def challenge(options: argparse.Namespace) -> None:
    from .challenge import shortcuts

    folds = json.loads((options.work / "crossvalidate.json").read_text())["folds"]
    found = shortcuts(readers.load_from(options), options.work, folds, options.lesions)
    (options.work / "challenge.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "rows"}, indent=1))


def foreign_head(options: argparse.Namespace) -> None:
    from .challenge import foreign_head as rows_of

    rows = rows_of(options.package, options.head, options.lesions, options.seed)
    for row in rows:
        print(json.dumps(row))
    untouched, *painted = [row["positive"] for row in rows]
    print(f"untouched: {'positive' if untouched else 'negative'}; painted: {sum(painted)} of {len(painted)} positive")


def trained(work: Path):
    """The networks that `train` made."""
    from .members import Members
    from .runs import Run

    seeds = json.loads((work / "train.json").read_text())["seeds"]
    return Members([Run(seed, None).folder(work) for seed in seeds])


def export(options: argparse.Namespace) -> None:
    from .export import ctich_dataset, own_dataset, write_package

    studies = readers.load_from(options)
    notes = [json.loads((options.work / f"{name}.json").read_text()) for name in ("crossvalidate", "train")]
    training = {
        "studies": len(studies),
        "positive_studies": sum(study.is_positive for study in studies),
        "steps": notes[1]["steps"],
        "seeds": notes[1]["seeds"],
        "calibrated_on": f"out-of-fold predictions of {notes[0]['folds']} folds by patient, mean of "
        f"{len(notes[0]['seeds'])} seeds",
    }
    dataset = ctich_dataset(studies) if options.layout == "ctich" else own_dataset(studies)
    commands = [note["command"] for note in notes] + [command_line(options)]
    members, (summary, _) = trained(options.work), summary_of(options.work)
    write_package(options.output, members, summary, options.version, training, dataset, commands)


def reference(options: argparse.Namespace) -> None:
    from .parity import write_parity
    from .phantom import write_reference

    options.output.mkdir(parents=True, exist_ok=True)
    write_reference(options.package, options.output / "phantom.json")
    members = trained(options.work)
    write_parity(members, options.package, options.head, options.ctich, options.output / "parity.json")


def convert(options: argparse.Namespace) -> None:
    from .ctdicom import convert_ctich

    convert_ctich(options.data, options.output, options.patients)


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    actions = {
        "train": run_schedule,
        "crossvalidate": run_schedule,
        "evaluate": evaluate,
        "challenge": challenge,
        "foreign-head": foreign_head,
        "export": export,
        "reference": reference,
        "convert": convert,
    }
    try:
        actions[options.command](options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"ichtrain {options.command}: {error}")


if __name__ == "__main__":
    main()
