"""Training of the slice encoder and of the study head."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import paint
from .augment import BATCH_SIZE, Batch, SliceSampler, random_affine, scanner_look
from .study import CLASSES, PAINT_SIZE, Study
from .model import EMBEDDING_SIZE, SliceEncoder, StudyHead, slice_logits
from .preprocess import AIR_HU, INPUT_SIZE

LABEL_SMOOTHING = 0.05
STUDY_LOSS_WEIGHTS = torch.tensor([[1.0] + [0.3] * (len(CLASSES) - 1)])
ENCODER_RATE, HEAD_RATE = 5e-4, 1.5e-3
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass
class Sequence:
    """One pass of a study through the encoder: embedding [T,E], logits [T,6], labels [T,7], study labels [7].

    Labels are 1, 0, or NaN where unknown.
    """

    embedding: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
    study_labels: torch.Tensor


def smoothed(labels: torch.Tensor) -> torch.Tensor:
    return labels * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING


def known_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean binary cross entropy over the targets that are not NaN; zero where all are. weights: one a target."""
    known = ~torch.isnan(targets)
    each = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(0), reduction="none")
    each = each if weights is None else each * weights
    return (each * known).sum() / known.sum().clamp(min=1)


def batch_loss(encoder: SliceEncoder, batch: Batch) -> torch.Tensor:
    """BCE(any, smoothed) + 0.3 BCE(subtypes, fracture) + BCE(map log-sum-exp) + pixel BCE where blood is known.

    *any* is known for every slice of a batch; unknown subtypes and fractures count for nothing.
    """
    _, class_logits, lesion_map = encoder(batch.hounsfield)
    target = smoothed(batch.labels[:, 0])
    loss = F.binary_cross_entropy_with_logits(class_logits[:, 0], target)
    loss = loss + 0.3 * known_cross_entropy(class_logits[:, 1:], batch.labels[:, 1:])
    loss = loss + F.binary_cross_entropy_with_logits(torch.logsumexp(lesion_map.flatten(1), 1), target)
    blood = (batch.coverage > 0.4).float()
    unsure = (batch.coverage > 0.08) & (batch.coverage <= 0.4)
    weight = (~unsure).float() * batch.has_map.view(-1, 1, 1).float()
    per_cell = F.binary_cross_entropy_with_logits(lesion_map, blood, reduction="none") * weight
    per_blood = (per_cell * blood).sum((1, 2)) / (blood.sum((1, 2)) + 4)
    per_clean = (per_cell * (1 - blood)).sum((1, 2)) / 40
    return loss + (per_blood.sum() + per_clean.sum()) / batch.has_map.sum().clamp(min=1)


def train_encoder(
    studies: list[Study],
    steps: int,
    seed: int,
    checkpoint: Path,
    device: torch.device | None = None,
    label: str = "",
) -> SliceEncoder:
    """Trains on all slices of `studies`; resumes from `checkpoint` where a run of equal length and seed was cut off.

    Every 100 steps the state goes to `checkpoint`. The sampler is reseeded from (seed, step) at each resumption.
    device: where to compute; by default a GPU where there is one. label: begins each line of progress.
    """
    keep_freed_memory()
    torch.manual_seed(seed)
    device = device or best_device()
    encoder = SliceEncoder().to(device, memory_format=torch.channels_last)
    groups = [{"params": encoder.body_parameters()}, {"params": encoder.new_parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=ENCODER_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[ENCODER_RATE, HEAD_RATE], total_steps=steps, pct_start=0.15
    )
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        if (state["steps"], state["seed"]) == (steps, seed):
            encoder.load_state_dict(state["encoder"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            first = state["step"]
    if first >= steps:
        return encoder.eval()
    sampler = SliceSampler(studies, seed * 100_003 + first)
    encoder.train()
    begun, running = time.monotonic(), 0.0
    for step in range(first, steps):
        loss = batch_loss(encoder, sampler.batch().to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        running = loss.item() if step == first else 0.97 * running + 0.03 * loss.item()
        done = step + 1 - first
        if done % 20 == 0 or step + 1 == steps:
            pace = (time.monotonic() - begun) / done
            left = pace * (steps - step - 1)
            text = f"{label}step {step + 1}/{steps} loss {running:.3f} {pace:.2f} s/step, {left / 60:.1f} min left"
            print(text, flush=True)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, encoder, optimizer, schedule, step + 1, steps, seed)
    return encoder.eval()


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def keep_freed_memory() -> None:
    """Asks glibc to keep freed memory for the next step: a tenth faster on a CPU, where page faults cost."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    except AttributeError:
        pass  # another C library: only slower


def save_checkpoint(checkpoint: Path, encoder, optimizer, schedule, step: int, steps: int, seed: int) -> None:
    """Writes the state beside its final name first, so that an interrupted write leaves the old state."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    temporary = checkpoint.with_suffix(".tmp")
    state = {"encoder": encoder.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save({**state, "step": step, "steps": steps, "seed": seed}, temporary)
    temporary.replace(checkpoint)


@torch.no_grad()
def encode(encoder: SliceEncoder, inputs: np.ndarray, batch: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Encoder inputs [T][192][192] HU -> (embedding [T,E], logits [T,6])."""
    embeddings, logits = [], []
    device = encoder.window_low.device
    for start in range(0, len(inputs), batch):
        x = torch.from_numpy(inputs[start : start + batch].astype(np.float32))[:, None].to(device)
        embedding, class_logits, lesion_map = encoder(x)
        embeddings.append(embedding.cpu())
        logits.append(slice_logits(class_logits, lesion_map).cpu())
    return torch.cat(embeddings), torch.cat(logits)


def augmented_inputs(rng: np.random.Generator, canvas: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """One study's canvas [T][256][256] -> encoder inputs [T][192][192], one random geometry and look for all slices."""
    matrix = torch.from_numpy(random_affine(rng, 0.6))[None].expand(len(canvas), 2, 3)
    stack = torch.from_numpy(np.stack([canvas.astype(np.float32) - AIR_HU, (distance > 0).astype(np.float32)], 1))
    grid = F.affine_grid(matrix, [len(canvas), 2, INPUT_SIZE, INPUT_SIZE], align_corners=False)
    sampled = F.grid_sample(stack, grid, align_corners=False)
    seed = int(rng.integers(2**31))
    return np.stack([
        scanner_look(np.random.default_rng(seed), plane + AIR_HU, inside > 0.5)
        for plane, inside in zip(sampled[:, 0].numpy(), sampled[:, 1])
    ])


def sequences_of(
    encoder: SliceEncoder, studies: list[Study], seed: int, looks: int = 1, painted: int = 2
) -> list[Sequence]:
    """What the head learns from: each study as it is and in random looks, and negatives with a painted lesion."""
    rng = np.random.default_rng(seed)
    found = []
    for study in studies:
        labels = torch.from_numpy(study.labels), torch.from_numpy(study.study_labels)
        found.append(Sequence(*encode(encoder, study.inputs), *labels))
        for _ in range(looks):
            found.append(Sequence(*encode(encoder, augmented_inputs(rng, study.canvas, study.distance)), *labels))
        for _ in range(0 if study.is_positive else painted):
            result = paint.paint_study(rng, study.canvas, study.distance)
            if result is None:
                continue
            canvas, visible, lesion = result
            blood, bleeds = (each.clone() for each in labels)
            blood[:, 0] = blood[:, CLASSES.index(lesion.kind)] = torch.from_numpy(visible.astype(np.float32))
            bleeds[0] = bleeds[CLASSES.index(lesion.kind)] = 1
            found.append(Sequence(*encode(encoder, augmented_inputs(rng, canvas, study.distance)), blood, bleeds))
    return found


def train_head(sequences: list[Sequence], seed: int, epochs: int = 12) -> StudyHead:
    """Study and slice losses together, on noisy embeddings and random contiguous parts of studies."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = StudyHead()
    everything = torch.cat([sequence.embedding for sequence in sequences])
    head.embedding_mean.copy_(everything.mean(0))
    head.embedding_scale.copy_(everything.std(0) + 0.05)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * len(sequences))
    head.train()
    for _ in range(epochs):
        for index in rng.permutation(len(sequences)):
            part = random_part(rng, sequences[index])
            noise = 0.4 * head.embedding_scale * torch.randn_like(part.embedding)
            logits = part.logits + 0.7 * torch.randn_like(part.logits) + 0.7 * torch.randn(1, 1)
            study, _, instance = head.parts((part.embedding + noise)[None], logits[None])
            target = smoothed(part.study_labels[None, : len(CLASSES)])
            loss = len(CLASSES) / 1.5 * known_cross_entropy(study, target, STUDY_LOSS_WEIGHTS)
            loss = loss + known_cross_entropy(instance[0], smoothed(part.labels[:, 0]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 2.0)
            optimizer.step()
            schedule.step()
    return head.eval()


def random_part(rng: np.random.Generator, sequence: Sequence) -> Sequence:
    """The whole study, or (half of the time) at least 60 % of it, to be ready for other coverage.

    What a part has follows from its slices; where those are not labelled, a positive study is left whole, because the
    blood may be in what would be cut off.
    """
    count = len(sequence.labels)
    doubtful = bool(torch.isnan(sequence.labels[:, 0]).any())
    if doubtful or rng.random() >= 0.5:
        return sequence
    start = int(rng.integers(0, max(1, count // 5)))
    stop = count - int(rng.integers(0, max(1, count // 5)))
    labels = sequence.labels[start:stop]
    return Sequence(sequence.embedding[start:stop], sequence.logits[start:stop], labels, labels.amax(0))
