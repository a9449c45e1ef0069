"""What PyTorch says of real studies, for the node's tests: the same studies through Swift have to agree.

Probabilities within 1e-3, logits within 1e-2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from . import ctich, preprocess
from .export import shippable
from .inv3 import read_inv3
from .members import Members
from .painter import Sizes, paint
from .phantom import rounded
from .statistics import calibrated

PAINTED_SEEDS = (101, 202)
CTICH_PATIENTS = (61, 100)
CTICH_SPACING_MM = 5.0


def cases(head: Path, ctich_root: Path | None) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """(name, planes [slice][row][column] HU, positions [slice] mm, spacing mm) of every study compared."""
    planes, positions, spacing = read_inv3(head)
    yield "invesalius-head", planes, positions, spacing[2]
    for seed in PAINTED_SEEDS:
        painted, _, _ = paint(planes, positions, spacing[0], seed, Sizes())
        yield f"invesalius-head-painted-{seed}", painted, positions, spacing[2]
    if ctich_root is not None:
        slices = ctich.read_labels(ctich_root)
        for patient in CTICH_PATIENTS:
            folder = ctich_root / f"patient-{patient:03d}"
            planes = np.stack([ctich.read_hounsfield(folder, number) for number in slices[patient]])
            yield f"ct-ich-{patient}", planes, np.arange(len(planes)) * CTICH_SPACING_MM, CTICH_SPACING_MM


@torch.no_grad()
def write_parity(members: Members, package: Path, head: Path, ctich_root: Path | None, output: Path) -> None:
    """Writes the answers of the weights behind `package` as JSON. Raises where the package holds other weights."""
    description = json.loads((package / "model.json").read_text())
    encoder, study_head = shippable(members)
    rows = []
    for name, planes, positions, spacing_mm in cases(head, ctich_root):
        inputs, crop = preprocess.encoder_input(planes, positions, spacing_mm)
        batches = torch.from_numpy(inputs)[:, None].split(16)
        embedding, logits, _ = (torch.cat(parts) for parts in zip(*(encoder(batch) for batch in batches)))
        study, attention, slices = (values[0].numpy() for values in study_head(embedding[None], logits[None]))
        rows.append({
            "name": name,
            "crop": {"x": crop.x, "y": crop.y, "size": crop.size},
            "study_logits": rounded(study),
            "study_probability": round(float(calibrated(study[0], description["calibration"]["study"])), 6),
            "slice_logits": rounded(slices),
            "slice_probabilities": rounded(calibrated(slices, description["calibration"]["slice"])),
            "attention": rounded(attention),
        })
        print(f"{name}: study probability {rows[-1]['study_probability']:.4f}", flush=True)
    reference = {
        "computed_by": f"PyTorch {torch.__version__}",
        "package": {"name": description["name"], "version": description["version"]},
        "encoder_sha256": description["encoder"]["sha256"],
        "head_sha256": description["head"]["sha256"],
        "cases": rows,
    }
    output.write_text(json.dumps(reference, indent=1) + "\n")
