"""Cross-validated figures, calibration and thresholds, all from out-of-fold predictions below WORK.

Every study is scored by networks that have not seen its patient. The node runs the mean of all seeds, so the figures
are for that mean; single seeds are given beside it for their spread. Calibration and thresholds that a figure rests on
come from the other folds; those that a package ships come from all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import statistics as st
from .study import CLASSES

HEADS = {"combined": "study", "LSTM alone": "lstm_study", "top three alone": "top_three"}
PAPER_PREVALENCE = 0.06


@dataclass
class Case:
    """Out-of-fold outputs of one study, as `runs.predict` names them, or their mean over seeds."""

    identifier: str
    fold: int
    outputs: dict[str, np.ndarray]

    @property
    def is_positive(self) -> bool:
        return bool(self.outputs["study_labels"][0] == 1)

    @property
    def knows_slices(self) -> bool:
        return not np.isnan(self.outputs["labels"][:, 0]).any()


def load_predictions(work: Path) -> dict[int, list[Case]]:
    """Seed -> cases by identifier, of all finished folds below `work`."""
    found: dict[int, list[Case]] = {}
    for path in sorted(work.glob("seed-*/fold-*/predictions.npz")):
        seed, fold = (int(part.name.split("-")[1]) for part in (path.parent.parent, path.parent))
        outputs: dict[str, dict[str, np.ndarray]] = {}
        with np.load(path) as stored:
            for key in stored.files:
                identifier, name = key.rsplit("/", 1)
                outputs.setdefault(identifier, {})[name] = stored[key]
        for identifier, values in outputs.items():
            values["top_three"] = top_three(values["encoder_logits"])
            values.setdefault("study_labels", values["labels"].max(0))
            found.setdefault(seed, []).append(Case(identifier, fold, values))
    if not found:
        raise FileNotFoundError(f"no predictions below {work}: run crossvalidate first")
    return {seed: sorted(cases, key=lambda case: case.identifier) for seed, cases in found.items()}


def top_three(logits: np.ndarray) -> np.ndarray:
    """Slice logits [T,6] -> [6], the mean of the three highest after smoothing along z, as the head has it."""
    padded = np.concatenate([logits[:1], logits, logits[-1:]])
    smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return np.sort(smooth, 0)[-3:].mean(0)


def mean_of_seeds(predictions: dict[int, list[Case]]) -> list[Case]:
    """What the package would say: the mean of the seeds' outputs. Only studies that all seeds have scored."""
    by_identifier: dict[str, list[Case]] = {}
    for cases in predictions.values():
        for case in cases:
            by_identifier.setdefault(case.identifier, []).append(case)
    averaged = ["study", "lstm_study", "top_three", "slices", "instance", "attention", "encoder_logits"]
    found = []
    for identifier, same in sorted(by_identifier.items()):
        if len(same) == len(predictions):
            mean = {name: np.mean([case.outputs[name] for case in same], 0) for name in averaged}
            labels = {name: same[0].outputs[name] for name in ("labels", "study_labels")}
            found.append(Case(identifier, same[0].fold, {**mean, **labels}))
    return found


@dataclass
class OperatingPoints:
    """Calibration {study, slice: {a, b}}, study thresholds by name, and the slice threshold."""

    calibration: dict[str, dict[str, float]]
    thresholds: dict[str, float]
    slice_threshold: float

    @classmethod
    def fitted_on(cls, cases: list[Case], head: str = "study") -> OperatingPoints:
        logits = np.array([case.outputs[head][0] for case in cases])
        labels = np.array([case.is_positive for case in cases])
        labelled = [case for case in cases if case.knows_slices]
        slice_logits = np.concatenate([case.outputs["slices"] for case in labelled])
        slice_labels = np.concatenate([case.outputs["labels"][:, 0] for case in labelled])
        calibration = {"study": st.platt(logits, labels), "slice": st.platt(slice_logits, slice_labels)}
        probability = st.calibrated(logits, calibration["study"])
        balanced = st.balanced_threshold(probability, labels)
        thresholds = {
            "balanced": balanced,
            "high-sensitivity": min(balanced, st.sensitivity_threshold(probability, labels)),
            "high-ppv": max(balanced, st.specificity_threshold(probability, labels)),
        }
        slice_probability = st.calibrated(slice_logits, calibration["slice"])
        return cls(calibration, thresholds, st.best_f1_threshold(slice_probability, slice_labels))


def cross_fitted(cases: list[Case], head: str = "study") -> dict[str, OperatingPoints]:
    """Identifier -> operating points fitted on the cases of all other folds."""
    points = {}
    for fold in sorted({case.fold for case in cases}):
        fitted = OperatingPoints.fitted_on([case for case in cases if case.fold != fold], head)
        points.update({case.identifier: fitted for case in cases if case.fold == fold})
    return points


def summarise(predictions: dict[int, list[Case]], subsets: dict[str, set[str]] | None = None) -> dict:
    """What a package ships (calibration, thresholds, figures). subsets: name -> identifiers, figures of their own."""
    mean = mean_of_seeds(predictions)
    points = OperatingPoints.fitted_on(mean)
    named = {"all": {case.identifier for case in mean}, **(subsets or {})}
    seeds = {f"seed {seed}": cases for seed, cases in predictions.items()}
    figures = {}
    for name, identifiers in named.items():
        chosen = [case for case in mean if case.identifier in identifiers]
        figures[name] = {
            **figures_of(chosen, cross_fitted(mean)),
            "seeds": {
                seed: brief_figures([case for case in cases if case.identifier in identifiers])
                for seed, cases in seeds.items()
            },
        }
    figures["heads"] = compare_heads(mean)
    return {
        "calibration": points.calibration,
        "thresholds": points.thresholds,
        "slice_threshold": points.slice_threshold,
        "figures": figures,
    }


def study_auc(cases: list[Case], head: str = "study", column: int = 0) -> float:
    known = [case for case in cases if not np.isnan(case.outputs["study_labels"][column])]
    scores = np.array([case.outputs[head][column] for case in known])
    return st.area_under_curve(scores, np.array([case.outputs["study_labels"][column] for case in known]))


def slice_auc(cases: list[Case], name: str = "slices", column: int = 0) -> float:
    """Over all slices whose label is known."""
    scores = [c.outputs[name] if c.outputs[name].ndim == 1 else c.outputs[name][:, column] for c in cases]
    labels = np.concatenate([case.outputs["labels"][:, column] for case in cases])
    known = ~np.isnan(labels)
    return st.area_under_curve(np.concatenate(scores)[known], labels[known])


def top_slices(cases: list[Case]) -> dict | None:
    """How often the highest slice of a positive study is truly positive."""
    positive = [case for case in cases if case.is_positive and case.knows_slices]
    hits = sum(case.outputs["labels"][int(np.argmax(case.outputs["slices"])), 0] == 1 for case in positive)
    return st.wilson(int(hits), len(positive))


def brief_figures(cases: list[Case]) -> dict:
    return {
        "study_auc": round(study_auc(cases), 4),
        "slice_auc": round(slice_auc(cases), 4),
        "top_slice_is_positive": top_slices(cases),
    }


def figures_of(cases: list[Case], points: dict[str, OperatingPoints]) -> dict:
    """Everything the model card quotes of a set of cases. points: by identifier, fitted without the case's fold."""
    out = {
        "studies": len(cases),
        "positive_studies": sum(case.is_positive for case in cases),
        "slices": sum(len(case.outputs["labels"]) for case in cases),
        "study_auc": st.with_interval(study_auc, cases),
        "slice_auc": st.with_interval(slice_auc, cases),
        "slice_auc_encoder_unsmoothed": round(slice_auc(cases, "encoder_logits"), 4),
        "slice_auc_instance": round(slice_auc(cases, "instance"), 4),
        "slice_auc_attention": round(slice_auc(cases, "attention"), 4),
        "top_slice_is_positive": top_slices(cases),
        "subtypes": {
            name: {
                "study_auc": round(study_auc(cases, "study", column), 4),
                "slice_auc": round(slice_auc(cases, "encoder_logits", column), 4),
            }
            for column, name in enumerate(CLASSES[1:], start=1)
        },
        "at": {name: at_threshold(cases, points, name) for name in ("balanced", "high-sensitivity", "high-ppv")},
        "slices_at_threshold": slices_at_threshold(cases, points),
        "calibration": calibration_figures(cases, points),
    }
    return out


def probabilities(cases: list[Case], points: dict[str, OperatingPoints], head: str = "study") -> np.ndarray:
    """Study probabilities, each calibrated without the case's own fold."""
    pairs = [(case.outputs[head][0], points[case.identifier].calibration["study"]) for case in cases]
    return np.array([float(st.calibrated(logit, calibration)) for logit, calibration in pairs])


def flags(cases: list[Case], points: dict[str, OperatingPoints], name: str, head: str = "study") -> np.ndarray:
    """Which cases are called positive, each at the threshold of the other folds."""
    return probabilities(cases, points, head) >= np.array([points[c.identifier].thresholds[name] for c in cases])


def at_threshold(cases: list[Case], points: dict[str, OperatingPoints], name: str, head: str = "study") -> dict:
    """Sensitivity, specificity and PPV with Wilson's intervals, and PPV at the paper's hospital prevalence."""
    flagged = flags(cases, points, name, head)
    labels = np.array([case.is_positive for case in cases])
    found = {
        "sensitivity": st.wilson(int(flagged[labels].sum()), int(labels.sum())),
        "specificity": st.wilson(int((~flagged[~labels]).sum()), int((~labels).sum())),
        "ppv": st.wilson(int(labels[flagged].sum()), int(flagged.sum())),
    }
    if found["sensitivity"] and found["specificity"]:
        (low, high), (worst, best) = (found[key]["interval"] for key in ("sensitivity", "specificity"))
        ppv = st.positive_predictive_value
        found[f"ppv_at_prevalence_{PAPER_PREVALENCE}"] = {
            "value": round(ppv(found["sensitivity"]["value"], found["specificity"]["value"], PAPER_PREVALENCE), 4),
            "interval": [round(ppv(low, worst, PAPER_PREVALENCE), 4), round(ppv(high, best, PAPER_PREVALENCE), 4)],
        }
    return found


def slices_at_threshold(cases: list[Case], points: dict[str, OperatingPoints]) -> dict:
    labels, flagged = [], []
    for case in cases:
        if case.knows_slices:
            own = points[case.identifier]
            probability = st.calibrated(case.outputs["slices"], own.calibration["slice"])
            labels.append(case.outputs["labels"][:, 0] == 1), flagged.append(probability >= own.slice_threshold)
    labels, flagged = np.concatenate(labels), np.concatenate(flagged)
    return {
        "sensitivity": st.wilson(int(flagged[labels].sum()), int(labels.sum())),
        "specificity": st.wilson(int((~flagged[~labels]).sum()), int((~labels).sum())),
    }


def calibration_figures(cases: list[Case], points: dict[str, OperatingPoints]) -> dict:
    probability = probabilities(cases, points)
    labels = np.array([case.is_positive for case in cases]).astype(float)
    return {
        "brier": round(float(((probability - labels) ** 2).mean()), 4),
        "brier_of_the_prevalence": round(float(labels.mean() * (1 - labels.mean())), 4),
        "expected_calibration_error": round(st.calibration_error(probability, labels, 5), 4),
    }


def compare_heads(cases: list[Case]) -> dict:
    """The attention-BiLSTM's study logit, the mean of the top three slice logits, and both, at `balanced` each."""
    labels = np.array([case.is_positive for case in cases])
    correct, found = {}, {}
    for name, head in HEADS.items():
        points = cross_fitted(cases, head)
        correct[name] = flags(cases, points, "balanced", head) == labels
        auc = st.with_interval(lambda chosen, head=head: study_auc(chosen, head), cases)
        found[name] = {"study_auc": auc, **at_threshold(cases, points, "balanced", head)}
    names = list(HEADS)
    found["mcnemar"] = {
        f"{first} / {second}": st.mcnemar(correct[first], correct[second])
        for i, first in enumerate(names)
        for second in names[i + 1 :]
    }
    return found
