"""Trained encoders and heads of several seeds, run as the package that they become."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .model import EncoderEnsemble, HeadEnsemble, SliceEncoder, StudyHead


@dataclass
class Answer:
    """What the members together say of T slabs: study logits [6], slice logits [T], attention [T], maps [T,M,M]."""

    study: np.ndarray
    slices: np.ndarray
    attention: np.ndarray
    lesion_map: np.ndarray


class Members:
    """Encoders and heads from the folders of `train` or `crossvalidate` runs (`encoder.pt`, `head.pt`)."""

    def __init__(self, folders: list[Path]):
        missing = [folder for folder in folders if not (folder / "head.pt").exists()]
        if missing or not folders:
            names = ", ".join(map(str, missing)) or "none named"
            raise FileNotFoundError(f"unfinished runs: {names}; train them first")
        self.encoders = [load_encoder(folder / "encoder.pt") for folder in folders]
        self.heads = [load_head(folder / "head.pt") for folder in folders]
        self.encoder, self.head = EncoderEnsemble(self.encoders).eval(), HeadEnsemble(self.heads).eval()

    @torch.no_grad()
    def run(self, inputs: np.ndarray) -> Answer:
        """Encoder inputs [T][192][192] HU -> answer."""
        batches = torch.from_numpy(inputs.astype(np.float32))[:, None].split(16)
        embedding, logits, maps = (torch.cat(parts) for parts in zip(*(self.encoder(batch) for batch in batches)))
        study, attention, slices = self.head(embedding[None], logits[None])
        return Answer(study[0].numpy(), slices[0].numpy(), attention[0].numpy(), maps.numpy())


def load_encoder(path: Path) -> SliceEncoder:
    encoder = SliceEncoder(pretrained=False)
    encoder.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["encoder"])
    return encoder.eval()


def load_head(path: Path) -> StudyHead:
    head = StudyHead()
    head.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return head.eval()
