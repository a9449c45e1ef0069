"""Runs: patient-wise cross-validation with its out-of-fold predictions, and training on everything."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .model import SliceEncoder, StudyHead
from .study import Study, save_arrays
from .train import encode, sequences_of, train_encoder, train_head


def folds_of(studies: list[Study], folds: int, seed: int = 0) -> np.ndarray:
    """Fold number of every study, stratified by haemorrhage and stratum; a patient's studies share one fold."""
    rng = np.random.default_rng(seed)
    patients: dict[str, list[int]] = {}
    for index, study in enumerate(studies):
        patients.setdefault(study.patient, []).append(index)
    strata: dict[tuple[bool, int], list[list[int]]] = {}
    for indices in patients.values():
        positive = any(studies[index].is_positive for index in indices)
        strata.setdefault((positive, studies[indices[0]].stratum), []).append(indices)
    fold_of = np.empty(len(studies), int)
    offset = 0
    for _, members in sorted(strata.items()):
        for position, number in enumerate(rng.permutation(len(members))):
            fold_of[members[number]] = (position + offset) % folds
        offset += len(members)
    return fold_of


ALL = "all"
"""Name of the run that holds nothing out: its weights are shipped."""


@dataclass(frozen=True)
class Run:
    """One training. fold: number of the held-out fold, or None to train on everything."""

    seed: int
    fold: int | None

    def folder(self, work: Path) -> Path:
        return work / f"seed-{self.seed}" / (ALL if self.fold is None else f"fold-{self.fold}")

    @property
    def weights_seed(self) -> int:
        return 1000 * self.seed + (999 if self.fold is None else self.fold)


def run_all(
    load: Callable[[], list[Study]], runs: list[Run], folds: int, steps: int, work: Path, jobs: int = 1
) -> None:
    """Does each run that is not done yet, `jobs` at a time, each in a process of its own with one thread.

    load: returns all studies; called in each process, so it has to be picklable and quick the second time.
    """
    if jobs == 1:
        for run in runs:
            do_run(load, run, folds, steps, work)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for future in [pool.submit(do_run, load, run, folds, steps, work) for run in runs]:
            future.result()


def do_run(load: Callable[[], list[Study]], run: Run, folds: int, steps: int, work: Path) -> None:
    """Trains encoder and head; of a fold, writes its out-of-fold predictions too. What is there already is kept."""
    folder = run.folder(work)
    label = f"{folder.parent.name} {folder.name}: "
    if (folder / "finished").exists():
        print(f"{label}done before", flush=True)
        return
    studies = load()
    fold_of = np.full(len(studies), -1) if run.fold is None else folds_of(studies, folds)
    training = [study for study, number in zip(studies, fold_of) if number != run.fold]
    encoder = train_encoder(training, steps, run.weights_seed, folder / "encoder.pt", label=label)
    head = load_or_train_head(encoder, training, run.weights_seed, folder / "head.pt")
    arrays = {}
    for study, number in zip(studies, fold_of):
        if number == run.fold:
            arrays.update({f"{study.identifier}/{name}": v for name, v in predict(encoder, head, study).items()})
    if run.fold is not None:
        save_arrays(folder / "predictions.npz", arrays)
    (folder / "finished").touch()
    print(f"{label}done", flush=True)


def load_or_train_head(encoder: SliceEncoder, studies: list[Study], seed: int, path: Path) -> StudyHead:
    """The head of a finished run, or a new one, trained on what `encoder` makes of `studies`."""
    if path.exists():
        head = StudyHead()
        head.load_state_dict(torch.load(path, weights_only=True))
        return head.eval()
    head = train_head(sequences_of(encoder, studies, seed), seed)
    torch.save(head.state_dict(), path)
    return head


@torch.no_grad()
def predict(encoder: SliceEncoder, head: StudyHead, study: Study) -> dict[str, np.ndarray]:
    """Everything about one held-out study of T slabs: the head's outputs, their parts, and the labels.

    study [6], attention [T], slices [T]; lstm_study [6] and instance [T] are the LSTM's own before mixing;
    encoder_logits [T,6], embedding [T,E]; labels [T,7], study_labels [7].
    """
    embedding, logits = encode(encoder, study.inputs)
    mixed, attention, slices = head(embedding[None], logits[None])
    lstm_study, _, instance = head.parts(embedding[None], logits[None])
    return {
        "study": mixed[0].numpy(),
        "attention": attention[0].numpy(),
        "slices": slices[0].numpy(),
        "lstm_study": lstm_study[0].numpy(),
        "instance": instance[0].numpy(),
        "encoder_logits": logits.numpy(),
        "embedding": embedding.numpy(),
        "labels": study.labels,
        "study_labels": study.study_labels,
    }
