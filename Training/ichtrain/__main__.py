"""Command line: train, crossvalidate, evaluate, export, reference."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

import torch

from . import __version__, ctich
from .challenge import challenge
from .crossvalidate import folds_of, run_fold
from .evaluate import load_predictions, summarise
from .export import write_package
from .model import SliceEncoder, StudyHead
from .phantom import write_reference
from .train import sequences_of, train_encoder, train_head


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="ichtrain", description="Train, measure and package the ICH model.")
    top.add_argument("--threads", type=int, default=1, help="threads for PyTorch (default 1)")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, data: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if data:
            sub.add_argument("--data", type=Path, required=True, help="folder of CT-ICH: labels.csv, patient-NNN/")
            sub.add_argument("--cache", type=Path, required=True, help="folder for preprocessed studies, 500 MB")
        return sub

    def schedule(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--work", type=Path, required=True, help="folder for checkpoints; a second run resumes there")
        sub.add_argument("--steps", type=int, default=700, help="encoder steps of 16 slices (default 700)")
        sub.add_argument("--seed", type=int, default=1, help="seed of weights, order, painting (default 1)")

    train = command("train", "Train encoder and head on all studies.")
    schedule(train)
    train.add_argument("--part", default="final", help="subfolder of WORK to write to (default final)")
    train.add_argument("--initial", type=Path, help="encoder.pt of an earlier run to go on from, at half the rates")
    fold = command("crossvalidate", "Train per fold, by patient; write out-of-fold predictions and the summary.")
    schedule(fold)
    fold.add_argument("--folds", type=int, default=3, help="number of folds (default 3)")
    fold.add_argument("--only", type=int, nargs="*", help="run these folds only")

    evaluate = command("evaluate", "Summarise cross-validation, or try a package on a head it never saw.", False)
    evaluate.add_argument("--work", type=Path, help="folder of a cross-validation: print its figures")
    evaluate.add_argument("--package", type=Path, help="package folder to challenge; needs --head")
    evaluate.add_argument("--head", type=Path, help="Cranium.inv3 of Debian's invesalius-examples")
    evaluate.add_argument("--lesions", type=int, default=12, help="painted copies of the head (default 12)")
    evaluate.add_argument("--seed", type=int, default=7, help="seed of the painted copies (default 7)")

    export = command("export", "Write a package from WORK/final (or a fold) and the cross-validation in WORK.")
    export.add_argument("--work", type=Path, required=True, help="folder with final/ and fold-*/")
    export.add_argument("--part", default="final", help="subfolder whose weights to ship (default final)")
    export.add_argument("--output", type=Path, required=True, help="package folder; its name is the package's name")
    export.add_argument("--version", default=__version__, help=f"package version (default {__version__})")

    export.add_argument("--note", default="", help="a sentence on how these runs differ from the plain recipe")

    reference = command("reference", "Write the phantom reference that the node's tests compare to.", False)
    reference.add_argument("--package", type=Path, required=True, help="package folder")
    reference.add_argument("--output", type=Path, required=True, help="JSON file to write")
    return top


def train_final(options: argparse.Namespace) -> None:
    studies = ctich.load(options.data, options.cache)
    folder = options.work / options.part
    encoder = train_encoder(studies, options.steps, options.seed, folder / "encoder.pt", options.initial)
    head = train_head(sequences_of(encoder, studies, options.seed), options.seed)
    torch.save(head.state_dict(), folder / "head.pt")
    note_run(folder, options)


def cross_validate(options: argparse.Namespace) -> None:
    studies = ctich.load(options.data, options.cache)
    fold_of = folds_of(studies, options.folds)
    for fold in range(options.folds) if options.only is None else options.only:
        print(f"fold {fold}: {int((fold_of == fold).sum())} studies held out", flush=True)
        run_fold(studies, fold_of, fold, options.steps, options.seed, options.work)
        note_run(options.work / f"fold-{fold}", options, fold)
    print(json.dumps(summarise(load_predictions(options.work)), indent=1))


def note_run(folder: Path, options: argparse.Namespace, fold: int | None = None) -> None:
    """Leaves beside the weights how they were made. Folders are named by role, not by place."""
    words = [options.command, "--data", "DATA", "--cache", "CACHE", "--work", "WORK"]
    words += ["--steps", str(options.steps), "--seed", str(options.seed)]
    if options.command == "crossvalidate":
        words += ["--folds", str(options.folds), "--only", str(fold)]
    else:
        words += ["--part", options.part]
    if options.command == "train" and options.initial is not None:
        words += ["--initial", f"WORK/{options.initial.parent.name}/{options.initial.name}"]
    run = {"steps": options.steps, "seed": options.seed, "command": "python -m ichtrain " + shlex.join(words)}
    (folder / "run.json").write_text(json.dumps(run, indent=1) + "\n")


def evaluate(options: argparse.Namespace) -> None:
    if options.work is not None:
        print(json.dumps(summarise(load_predictions(options.work)), indent=1))
    if options.package is not None:
        if options.head is None:
            sys.exit("evaluate --package needs --head")
        for row in challenge(options.package, options.head, options.lesions, options.seed):
            print(json.dumps(row))


def export(options: argparse.Namespace) -> None:
    studies = ctich.load(options.data, options.cache)
    folder = options.work / options.part
    encoder, head = SliceEncoder(pretrained=False), StudyHead()
    encoder.load_state_dict(torch.load(folder / "encoder.pt", weights_only=True)["encoder"])
    head.load_state_dict(torch.load(folder / "head.pt", weights_only=True))
    run = json.loads((folder / "run.json").read_text())
    folds = [json.loads(path.read_text()) for path in sorted(options.work.glob("fold-*/run.json"))]
    training = {
        "studies": len(studies),
        "positive_studies": sum(study.is_positive for study in studies),
        "steps_of_last_run": run["steps"],
        "seed_of_last_run": run["seed"],
        "calibrated_on": f"out-of-fold predictions of {len(folds)} folds by patient",
    }
    runs = sorted(options.work.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    if options.note:
        training["note"] = options.note
    commands = list(dict.fromkeys(json.loads(path.read_text())["command"] for path in runs))
    summary = summarise(load_predictions(options.work))
    write_package(options.output, encoder.eval(), head.eval(), summary, options.version, training, studies, commands)


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    if options.command == "reference":
        write_reference(options.package, options.output)
    else:
        actions = {"train": train_final, "crossvalidate": cross_validate, "evaluate": evaluate, "export": export}
        actions[options.command](options)


if __name__ == "__main__":
    main()
