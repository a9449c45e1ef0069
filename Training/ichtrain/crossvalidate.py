"""Patient-wise cross-validation: folds, out-of-fold predictions, calibration and thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .ctich import Study
from .model import StudyHead
from .train import Sequence, encode, sequences_of, train_encoder, train_head

FIRST_NEGATIVE_ONLY_PATIENT = 98


def folds_of(studies: list[Study], folds: int, seed: int = 0) -> np.ndarray:
    """Fold number of every study, stratified by ICH and by patient number below 98."""
    rng = np.random.default_rng(seed)
    strata: dict[tuple[bool, bool], list[int]] = {}
    for index, study in enumerate(studies):
        strata.setdefault((study.is_positive, study.identifier < FIRST_NEGATIVE_ONLY_PATIENT), []).append(index)
    fold_of = np.empty(len(studies), int)
    offset = 0
    for _, members in sorted(strata.items()):
        for position, index in enumerate(rng.permutation(members)):
            fold_of[index] = (position + offset) % folds
        offset += len(members)
    return fold_of


def run_fold(studies: list[Study], fold_of: np.ndarray, fold: int, steps: int, seed: int, work: Path) -> None:
    """Trains on all studies but those of one fold; writes encoder, head and out-of-fold predictions below `work`.

    What is there already from a run of equal length and seed is used again.
    """
    training = [study for study, number in zip(studies, fold_of) if number != fold]
    held_out = [study for study, number in zip(studies, fold_of) if number == fold]
    folder = work / f"fold-{fold}"
    encoder = train_encoder(training, steps, seed + fold, folder / "encoder.pt")
    if (folder / "head.pt").exists():
        head = StudyHead()
        head.load_state_dict(torch.load(folder / "head.pt", weights_only=True))
        head.eval()
    else:
        head = train_head(sequences_of(encoder, training, seed + fold), seed + fold)
        torch.save(head.state_dict(), folder / "head.pt")
    predictions = {}
    for study in held_out:
        sequence = Sequence(*encode(encoder, study.inputs), torch.from_numpy(study.labels.astype(np.float32)))
        predictions[study.identifier] = predict(head, sequence)
    np.savez(folder / "predictions.npz", predictions=np.array(predictions, dtype=object))


@torch.no_grad()
def predict(head: StudyHead, sequence: Sequence) -> dict[str, np.ndarray]:
    """Everything about one held-out study: the head's outputs, their parts, and the labels [T,7]."""
    embedding, logits = sequence.embedding[None], sequence.logits[None]
    study, attention, slices = head(embedding, logits)
    lstm_study, _, instance = head.parts(embedding, logits)
    return {
        "study": study[0].numpy(),
        "attention": attention[0].numpy(),
        "slices": slices[0].numpy(),
        "lstm_study": lstm_study[0].numpy(),
        "instance": instance[0].numpy(),
        "encoder_logits": sequence.logits.numpy(),
        "labels": sequence.labels.numpy(),
    }
