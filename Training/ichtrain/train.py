"""Training of the slice encoder and of the study head."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import paint
from .augment import BATCH_SIZE, Batch, SliceSampler, random_affine, scanner_look
from .ctich import CLASSES, PAINT_SIZE, Study
from .model import EMBEDDING_SIZE, SliceEncoder, StudyHead, slice_logits
from .preprocess import AIR_HU, INPUT_SIZE

LABEL_SMOOTHING = 0.05
ENCODER_RATE, HEAD_RATE = 5e-4, 1.5e-3


@dataclass
class Sequence:
    """One pass of a study through the encoder: embedding [T,E], logits [T,6], labels [T,7] float."""

    embedding: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor


def batch_loss(encoder: SliceEncoder, batch: Batch) -> torch.Tensor:
    """BCE(any, smoothed) + 0.3 BCE(subtypes, fracture) + BCE(map log-sum-exp) + pixel BCE where blood is known."""
    _, class_logits, lesion_map = encoder(batch.hounsfield)
    target = batch.labels[:, 0] * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
    loss = F.binary_cross_entropy_with_logits(class_logits[:, 0], target)
    loss = loss + 0.3 * F.binary_cross_entropy_with_logits(class_logits[:, 1:], batch.labels[:, 1:])
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
    initial: Path | None = None,
) -> SliceEncoder:
    """Trains on all slices of `studies`; resumes from `checkpoint` where a run of equal length and seed was cut off.

    initial: checkpoint of an earlier run to go on from, at half the learning rates, instead of ImageNet's.
    Every 100 steps the state goes to `checkpoint`. The sampler is reseeded from (seed, step) at each resumption.
    """
    torch.manual_seed(seed)
    encoder = SliceEncoder().to(memory_format=torch.channels_last)
    encoder.freeze()
    heads = [*encoder.classifier.parameters(), *encoder.lesion.parameters(), *encoder.smooth.parameters()]
    for lateral in (encoder.lateral8, encoder.lateral16, encoder.lateral32):
        heads += list(lateral.parameters())
    known = {id(parameter) for parameter in heads}
    body = [p for p in encoder.parameters() if p.requires_grad and id(p) not in known]
    rates = [ENCODER_RATE, HEAD_RATE]
    if initial is not None:
        encoder.load_state_dict(torch.load(initial, weights_only=True)["encoder"])
        rates = [rate / 2 for rate in rates]
    optimizer = torch.optim.AdamW([{"params": body}, {"params": heads}], lr=ENCODER_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=steps, pct_start=0.15)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
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
        loss = batch_loss(encoder, sampler.batch())
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
            print(f"step {step + 1}/{steps} loss {running:.3f} {pace:.2f} s/step, {left / 60:.1f} min left", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, encoder, optimizer, schedule, step + 1, steps, seed)
    return encoder.eval()


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
    for start in range(0, len(inputs), batch):
        x = torch.from_numpy(inputs[start : start + batch].astype(np.float32))[:, None]
        embedding, class_logits, lesion_map = encoder(x.contiguous(memory_format=torch.channels_last))
        embeddings.append(embedding)
        logits.append(slice_logits(class_logits, lesion_map))
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
        labels = torch.from_numpy(study.labels.astype(np.float32))
        found.append(Sequence(*encode(encoder, study.inputs), labels))
        for _ in range(looks):
            found.append(Sequence(*encode(encoder, augmented_inputs(rng, study.canvas, study.distance)), labels))
        for _ in range(0 if study.is_positive else painted):
            result = paint.paint_study(rng, study.canvas, study.distance)
            if result is None:
                continue
            canvas, visible, lesion = result
            blood = labels.clone()
            blood[:, 0] = blood[:, CLASSES.index(lesion.kind)] = torch.from_numpy(visible.astype(np.float32))
            found.append(Sequence(*encode(encoder, augmented_inputs(rng, canvas, study.distance)), blood))
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
            any_slice = part.labels[:, 0] * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
            target = part.labels.amax(0)[None, : len(CLASSES)] * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
            weights = torch.tensor([[1.0] + [0.3] * (len(CLASSES) - 1)])
            loss = F.binary_cross_entropy_with_logits(study, target, weights.expand_as(study), reduction="sum") / 1.5
            loss = loss + F.binary_cross_entropy_with_logits(instance[0], any_slice)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 2.0)
            optimizer.step()
            schedule.step()
    return head.eval()


def random_part(rng: np.random.Generator, sequence: Sequence) -> Sequence:
    """The whole study, or (half of the time) at least 60 % of it, to be ready for other coverage; either direction."""
    count = len(sequence.labels)
    start, stop = 0, count
    if rng.random() < 0.5:
        start = int(rng.integers(0, max(1, count // 5)))
        stop = count - int(rng.integers(0, max(1, count // 5)))
    return replace(
        sequence,
        embedding=sequence.embedding[start:stop],
        logits=sequence.logits[start:stop],
        labels=sequence.labels[start:stop],
    )
