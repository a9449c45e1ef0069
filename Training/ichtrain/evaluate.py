"""Figures with n and interval, Platt calibration, and thresholds, all from out-of-fold predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .crossvalidate import FIRST_NEGATIVE_ONLY_PATIENT
from .ctich import CLASSES

BOOTSTRAPS = 2000


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """AUC by ranks, ties counted half; NaN where one class is missing."""
    labels = np.asarray(labels).astype(bool)
    if labels.all() or not labels.any():
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = labels.sum()
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (~labels).sum()))


def with_interval(statistic, groups: list, seed: int = 0) -> dict[str, float | list[float]]:
    """statistic(groups) with its 95 % percentile interval; whole groups (patients) are drawn with replacement."""
    rng = np.random.default_rng(seed)
    draws = [statistic([groups[i] for i in rng.integers(0, len(groups), len(groups))]) for _ in range(BOOTSTRAPS)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"value": round(float(statistic(groups)), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def platt(logits: np.ndarray, labels: np.ndarray, iterations: int = 100) -> tuple[float, float]:
    """(a, b) of probability = sigmoid(a logit + b), by Newton's method on Platt's smoothed targets; a is positive."""
    labels = np.asarray(labels).astype(float)
    positives, negatives = labels.sum(), (1 - labels).sum()
    target = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x = np.stack([logits, np.ones_like(logits)], 1)
    parameters = np.array([1.0, 0.0])
    for _ in range(iterations):
        probability = 1 / (1 + np.exp(-x @ parameters))
        gradient = x.T @ (probability - target)
        hessian = (x * (probability * (1 - probability))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        parameters -= step * min(1.0, 2.0 / (np.abs(step).max() + 1e-9))
    return max(float(parameters[0]), 1e-3), float(parameters[1])


def calibrated(logits: np.ndarray, calibration: dict[str, float]) -> np.ndarray:
    return 1 / (1 + np.exp(-(calibration["a"] * np.asarray(logits, np.float64) + calibration["b"])))


def sensitivity_specificity(probabilities, labels, threshold: float) -> tuple[float, float]:
    labels = np.asarray(labels).astype(bool)
    flagged = np.asarray(probabilities) >= threshold
    return float(flagged[labels].mean()), float((~flagged[~labels]).mean())


def balanced_threshold(probabilities: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """Median over bootstrap draws of the threshold with the highest sensitivity + specificity."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(500):
        at = rng.integers(0, len(labels), len(labels))
        p, y = probabilities[at], labels[at].astype(bool)
        if y.all() or not y.any():
            continue
        edges = np.unique(p)
        middles = (edges[1:] + edges[:-1]) / 2
        scores = [sum(sensitivity_specificity(p, y, t)) for t in middles]
        found.append(middles[int(np.argmax(scores))])
    return float(np.median(found))


def sensitivity_threshold(probabilities: np.ndarray, labels: np.ndarray, sensitivity: float = 0.9) -> float:
    """The highest threshold that keeps at least this share of the positives."""
    positives = np.sort(probabilities[labels.astype(bool)])
    return float(positives[int(np.floor((1 - sensitivity) * len(positives)))] - 1e-6)


def specificity_threshold(probabilities: np.ndarray, labels: np.ndarray, specificity: float = 0.95) -> float:
    """The lowest threshold that keeps at least this share of the negatives unflagged."""
    negatives = np.sort(probabilities[~labels.astype(bool)])
    at = min(len(negatives) - 1, int(np.ceil(specificity * len(negatives))) - 1)
    return float(negatives[at] + 1e-6)


def best_f1_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the highest F1 over slices."""
    labels = labels.astype(bool)
    candidates = np.quantile(probabilities, np.linspace(0.5, 0.995, 200))

    def f1(threshold: float) -> float:
        flagged = probabilities >= threshold
        return 2 * (flagged & labels).sum() / max(1, flagged.sum() + labels.sum())

    return float(max(candidates, key=f1))


def load_predictions(work: Path) -> dict[int, dict[str, np.ndarray]]:
    """Out-of-fold predictions of all finished folds below `work`, by patient."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for path in sorted(work.glob("fold-*/predictions.npz")):
        with np.load(path, allow_pickle=True) as stored:
            found.update(stored["predictions"].item())
    return dict(sorted(found.items()))


def summarise(predictions: dict[int, dict[str, np.ndarray]]) -> dict:
    """Calibration, thresholds and figures from out-of-fold predictions {patient: outputs of crossvalidate.predict}."""
    patients = list(predictions)
    study_logits = np.array([predictions[p]["study"][0] for p in patients])
    study_labels = np.array([predictions[p]["labels"][:, 0].max() for p in patients])
    slice_logits = np.concatenate([predictions[p]["slices"] for p in patients])
    slice_labels = np.concatenate([predictions[p]["labels"][:, 0] for p in patients])
    calibration = {
        name: dict(zip("ab", platt(logits, labels)))
        for name, logits, labels in (("study", study_logits, study_labels), ("slice", slice_logits, slice_labels))
    }
    study_probability = calibrated(study_logits, calibration["study"])
    thresholds = {
        "balanced": balanced_threshold(study_probability, study_labels),
        "high-sensitivity": sensitivity_threshold(study_probability, study_labels),
        "high-ppv": specificity_threshold(study_probability, study_labels),
    }
    thresholds["high-sensitivity"] = min(thresholds["high-sensitivity"], thresholds["balanced"])
    thresholds["high-ppv"] = max(thresholds["high-ppv"], thresholds["balanced"])
    slice_threshold = best_f1_threshold(calibrated(slice_logits, calibration["slice"]), slice_labels)
    return {
        "calibration": calibration,
        "thresholds": thresholds,
        "slice_threshold": slice_threshold,
        "figures": figures(predictions, calibration, thresholds, slice_threshold),
    }


def figures(predictions, calibration, thresholds, slice_threshold) -> dict:
    """Everything the model card quotes, for all held-out studies and for patients 49 to 97."""
    every = list(predictions.items())
    early = [(patient, p) for patient, p in every if patient < FIRST_NEGATIVE_ONLY_PATIENT]
    out = {"all": subset_figures(every), "patients_49_to_97": subset_figures(early)}
    for name, threshold in thresholds.items():
        for key, subset in (("all", every), ("patients_49_to_97", early)):
            out[key][f"at_{name}"] = at_threshold(subset, calibration["study"], threshold)
    positives = [p for _, p in every if p["labels"][:, 0].any()]
    top = [bool(p["labels"][int(np.argmax(p["slices"])), 0]) for p in positives]
    out["top_slice_is_positive"] = f"{sum(top)}/{len(top)}"
    labels = np.concatenate([p["labels"][:, 0] for _, p in every]).astype(bool)
    flagged = np.concatenate([calibrated(p["slices"], calibration["slice"]) for _, p in every]) >= slice_threshold
    out["slices_at_threshold"] = {
        "n": int(len(labels)),
        "sensitivity": round(float(flagged[labels].mean()), 3),
        "specificity": round(float((~flagged[~labels]).mean()), 3),
    }
    return out


def subset_figures(subset: list) -> dict:
    """AUCs of a list of (patient, predictions), intervals by drawing patients."""

    def study_auc(chosen, score=lambda p: p["study"][0]):
        return area_under_curve(np.array([score(p) for _, p in chosen]), [p["labels"][:, 0].max() for _, p in chosen])

    def slice_auc(chosen, key="slices", column=0):
        labels = np.concatenate([p["labels"][:, column] for _, p in chosen])
        scores = [p[key] if p[key].ndim == 1 else p[key][:, column] for _, p in chosen]
        return area_under_curve(np.concatenate(scores), labels)

    out = {
        "studies": len(subset),
        "positive_studies": int(sum(p["labels"][:, 0].max() for _, p in subset)),
        "slices": int(sum(len(p["labels"]) for _, p in subset)),
        "study_auc": with_interval(study_auc, subset),
        "slice_auc": with_interval(slice_auc, subset),
        "study_auc_lstm_only": round(study_auc(subset, lambda p: p["lstm_study"][0]), 4),
        "slice_auc_encoder_only": round(slice_auc(subset, "encoder_logits"), 4),
        "slice_auc_attention": round(slice_auc(subset, "attention"), 4),
        "slice_auc_instance": round(slice_auc(subset, "instance"), 4),
    }
    for column, name in enumerate(CLASSES[1:], start=1):
        out[f"slice_auc_{name}"] = round(slice_auc(subset, "encoder_logits", column), 4)
    return out


def at_threshold(subset: list, calibration: dict[str, float], threshold: float) -> dict:
    """Sensitivity, specificity and PPV of a list of (patient, predictions) at one study threshold, with intervals."""

    def flags(chosen):
        probability = calibrated(np.array([p["study"][0] for _, p in chosen]), calibration)
        return probability >= threshold, np.array([p["labels"][:, 0].max() for _, p in chosen]) > 0

    def sensitivity(chosen):
        flagged, labels = flags(chosen)
        return flagged[labels].mean() if labels.any() else np.nan

    def specificity(chosen):
        flagged, labels = flags(chosen)
        return (~flagged[~labels]).mean() if (~labels).any() else np.nan

    flagged, labels = flags(subset)
    return {
        "sensitivity": with_interval(sensitivity, subset),
        "specificity": with_interval(specificity, subset),
        "ppv": round(float(labels[flagged].mean()), 3) if flagged.any() else None,
    }
