"""Figures of merit with their intervals, calibration and thresholds. Pure functions of scores and labels."""

from __future__ import annotations

import math

import numpy as np

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


def wilson(successes: int, trials: int) -> dict[str, float | int | list[float]] | None:
    """A proportion with Wilson's 95 % interval (Wilson 1927); None without trials."""
    if trials == 0:
        return None
    z, share = 1.959963984540054, successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    interval = [round(max(0.0, centre - half), 4), round(min(1.0, centre + half), 4)]
    return {"value": round(share, 4), "n": int(trials), "interval": interval}


def positive_predictive_value(sensitivity: float, specificity: float, prevalence: float) -> float:
    """By Bayes; NaN where nothing would be flagged."""
    flagged = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
    return sensitivity * prevalence / flagged if flagged > 0 else float("nan")


def mcnemar(first_correct: np.ndarray, second_correct: np.ndarray) -> dict[str, float | int]:
    """Two readers of the same cases: how often only one was right, and the exact two-sided binomial p value."""
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((~first_correct & second_correct).sum())
    n, k = only_first + only_second, min(only_first, only_second)
    p = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n) if n else 1.0
    return {"only_first_right": only_first, "only_second_right": only_second, "p": round(p, 4)}


def platt(logits: np.ndarray, labels: np.ndarray, iterations: int = 100) -> dict[str, float]:
    """{a, b} of probability = sigmoid(a logit + b), by Newton's method on Platt's smoothed targets; a is positive."""
    labels = np.asarray(labels).astype(float)
    positives, negatives = labels.sum(), (1 - labels).sum()
    target = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x = np.stack([logits, np.ones_like(logits)], 1).astype(np.float64)
    parameters = np.array([1.0, 0.0])
    for _ in range(iterations):
        probability = 1 / (1 + np.exp(-x @ parameters))
        gradient = x.T @ (probability - target)
        hessian = (x * (probability * (1 - probability))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        parameters -= step * min(1.0, 2.0 / (np.abs(step).max() + 1e-9))
    return {"a": max(float(parameters[0]), 1e-3), "b": float(parameters[1])}


def calibrated(logits: np.ndarray, calibration: dict[str, float]) -> np.ndarray:
    return 1 / (1 + np.exp(-(calibration["a"] * np.asarray(logits, np.float64) + calibration["b"])))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal count."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [len(part) * abs(probabilities[part].mean() - labels[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))


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
        if scores:
            found.append(middles[int(np.argmax(scores))])
    return float(np.median(found)) if found else 0.5


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
    """The threshold with the highest F1."""
    labels = labels.astype(bool)
    candidates = np.quantile(probabilities, np.linspace(0.5, 0.995, 200))

    def f1(threshold: float) -> float:
        flagged = probabilities >= threshold
        return 2 * (flagged & labels).sum() / max(1, flagged.sum() + labels.sum())

    return float(max(candidates, key=f1))
