"""Cross-validated figures as text and as pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from . import statistics as st  # noqa: E402
from .evaluate import HEADS, PAPER_PREVALENCE, Case, cross_fitted, probabilities  # noqa: E402

PAPER = "paper, held-out local test (n = 7,243): AUC 0.96 (0.96-0.97), PPV 85.7 %; external (n = 491): 0.96, 89.3 %"


def shown(figure: dict | None, digits: int = 3) -> str:
    """A figure with its interval."""
    if figure is None:
        return "-"
    low, high = figure["interval"]
    return f"{figure['value']:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(figures: dict) -> str:
    """The figures of `evaluate.summarise` as lines of text, the paper's table among them."""
    lines = []
    for name, of_subset in figures.items():
        if name == "heads":
            continue
        top = of_subset["top_slice_is_positive"]
        seeds = of_subset["seeds"].values()
        study_aucs = ", ".join(f"{seed['study_auc']:.3f}" for seed in seeds)
        slice_aucs = ", ".join(f"{seed['slice_auc']:.3f}" for seed in seeds)
        lines += [
            f"{name}: {of_subset['studies']} studies, {of_subset['positive_studies']} positive, "
            f"{of_subset['slices']} slices; out of fold, 95 % intervals",
            f"  study AUC               {shown(of_subset['study_auc'])}; single seeds {study_aucs}",
            f"  slice AUC               {shown(of_subset['slice_auc'])}; single seeds {slice_aucs}",
            f"  top slice is positive   {shown(top)}, n = {top['n'] if top else 0}",
        ]
        for threshold, at in of_subset["at"].items():
            lines.append(
                f"  {threshold:<16} sensitivity {shown(at['sensitivity'])}, specificity {shown(at['specificity'])}, "
                f"PPV {shown(at['ppv'])}, PPV at {PAPER_PREVALENCE:.0%} "
                f"{shown(at.get(f'ppv_at_prevalence_{PAPER_PREVALENCE}'))}"
            )
        slices = of_subset["slices_at_threshold"]
        lines.append(
            f"  slices flagged   sensitivity {shown(slices['sensitivity'])}, specificity {shown(slices['specificity'])}"
        )
        lines.append("  subtypes (slice AUC)    " + ", ".join(
            f"{subtype} {value['slice_auc']:.2f}" for subtype, value in of_subset["subtypes"].items()
        ))
        lines.append(f"  calibration             {of_subset['calibration']}")
    lines += ["", "Study heads, each at its own `balanced` threshold from the other folds"]
    for name in HEADS:
        head = figures["heads"][name]
        lines.append(
            f"  {name:<16} AUC {shown(head['study_auc'])}, PPV {shown(head['ppv'])}, sensitivity "
            f"{shown(head['sensitivity'])}, specificity {shown(head['specificity'])}"
        )
    for pair, test in figures["heads"]["mcnemar"].items():
        lines.append(
            f"  McNemar {pair}: {test['only_first_right']} right by the first alone, {test['only_second_right']} by "
            f"the second alone, p = {test['p']}"
        )
    lines.append(f"  {PAPER}")
    return "\n".join(lines)


def draw(cases: list[Case], folder: Path) -> None:
    """Writes `roc.png` and `reliability.png` of out-of-fold cases."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.array([case.is_positive for case in cases])
    figure, axes = pyplot.subplots(figsize=(5, 5), layout="constrained")
    for name, head in HEADS.items():
        scores = np.array([case.outputs[head][0] for case in cases])
        order = np.argsort(-scores, kind="stable")
        hits = np.concatenate([[0], np.cumsum(labels[order]) / labels.sum()])
        alarms = np.concatenate([[0], np.cumsum(~labels[order]) / (~labels).sum()])
        auc = st.area_under_curve(scores, labels)
        axes.step(alarms, hits, where="post", label=f"{name}: AUC {auc:.3f}", linewidth=2 if name == "combined" else 1)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    title = f"Out of fold, {len(cases)} studies, {labels.sum()} positive"
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=title, xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower right")
    figure.savefig(folder / "roc.png", dpi=120)
    pyplot.close(figure)

    probability = probabilities(cases, cross_fitted(cases))
    figure, axes = pyplot.subplots(figsize=(5, 5), layout="constrained")
    for part in np.array_split(np.argsort(probability, kind="stable"), 5):
        found = st.wilson(int(labels[part].sum()), len(part))
        low, high = found["interval"]
        value = found["value"]
        axes.errorbar(probability[part].mean(), value, [[value - low], [high - value]], fmt="o", color="C0", capsize=3)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    title = f"Calibrated on the other folds, fifths of {len(cases)} studies"
    axes.set(xlabel="mean probability", ylabel="share with haemorrhage", title=title, xlim=(0, 1), ylim=(0, 1))
    figure.savefig(folder / "reliability.png", dpi=120)
    pyplot.close(figure)
