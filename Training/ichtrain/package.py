"""A model package as the node reads it: `model.json`, `encoder.onnx`, `head.onnx`, run through onnxruntime."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from . import preprocess
from .statistics import calibrated


@dataclass
class Outcome:
    """What a package says of one study of T slabs. inputs: [T][S][S] HU; logits [T,6]; lesion_map [T,M,M] logits."""

    crop: preprocess.Crop
    inputs: np.ndarray
    logits: np.ndarray
    lesion_map: np.ndarray
    study_logits: np.ndarray
    attention: np.ndarray
    slice_logits: np.ndarray
    study_probability: float
    slice_probabilities: np.ndarray


class Package:
    """Opens a package folder; single-threaded, on the CPU."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.description = json.loads((folder / "model.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        paths = [folder / self.description[part]["file"] for part in ("encoder", "head")]
        self.encoder, self.head = (onnxruntime.InferenceSession(path, options) for path in paths)

    def run(self, planes: np.ndarray, positions_mm: np.ndarray, spacing_mm: float) -> Outcome:
        """Planes [slice][row][column] HU, feet to head -> outcome, by the contract in `preprocess`."""
        inputs, crop = preprocess.encoder_input(planes, positions_mm, spacing_mm, self.description["input_size"])
        parts = [self.encoder.run(None, {"hounsfield": inputs[i : i + 16, None]}) for i in range(0, len(inputs), 16)]
        embedding, logits, lesion_map = (np.concatenate(part) for part in zip(*parts))
        return self.finish(crop, inputs, embedding, logits, lesion_map)

    def finish(self, crop, inputs, embedding, logits, lesion_map) -> Outcome:
        study, attention, slices = self.head.run(None, {"embedding": embedding[None], "logits": logits[None]})
        calibration = self.description["calibration"]
        return Outcome(
            crop,
            inputs,
            logits,
            lesion_map,
            study[0],
            attention[0],
            slices[0],
            float(calibrated(study[0, 0], calibration["study"])),
            calibrated(slices[0], calibration["slice"]),
        )
