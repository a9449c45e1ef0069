"""Figures of merit against scipy 1.17, and against answers of statsmodels 0.15 that are written out here."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ichtrain import statistics as st  # noqa: E402


def readers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of two readers was right, for so many cases."""
    counts = [both, first, second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


class Statistics(unittest.TestCase):
    def test_auc_counts_ties_half(self) -> None:
        rng = np.random.default_rng(5)
        scores, labels = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
        u = stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
        self.assertAlmostEqual(st.area_under_curve(scores, labels), u / (labels.sum() * (~labels).sum()), 12)
        self.assertEqual(st.area_under_curve(np.ones(4), np.array([1, 0, 1, 0])), 0.5)
        self.assertTrue(np.isnan(st.area_under_curve(np.arange(3), np.ones(3))))

    def test_wilson_intervals(self) -> None:
        # statsmodels.stats.proportion.proportion_confint(k, n, method="wilson")
        for k, n, low, high in [(81, 263, 0.25529, 0.36621), (29, 29, 0.88303, 1), (0, 37, 0, 0.09406)]:
            found = st.wilson(k, n)
            np.testing.assert_allclose(found["interval"], [low, high], atol=6e-5)
        self.assertIsNone(st.wilson(0, 0))

    def test_mcnemar_is_exact_and_two_sided(self) -> None:
        # statsmodels.stats.contingency_tables.mcnemar(exact=True)
        for counts, p in [((30, 12, 3, 21), 0.03515625), ((30, 5, 5, 21), 1.0), ((1, 0, 9, 2), 0.00390625)]:
            found = st.mcnemar(*readers(*counts))
            self.assertEqual((found["only_first_right"], found["only_second_right"]), counts[1:3])
            self.assertAlmostEqual(found["p"], p, 4)
        self.assertEqual(st.mcnemar(*readers(3, 0, 0, 1))["p"], 1.0)

    def test_platt_is_a_logistic_regression_on_smoothed_targets(self) -> None:
        rng = np.random.default_rng(5)
        rng.integers(0, 6, 40), rng.random(40)
        logits = rng.normal(size=300)
        labels = rng.random(300) < 1 / (1 + np.exp(-(1.7 * logits - 0.6)))
        found = st.platt(logits, labels)
        # statsmodels GLM, binomial, on Platt's targets
        np.testing.assert_allclose([found["b"], found["a"]], [-0.62999589, 1.85420742], atol=1e-4)
        self.assertGreater(st.platt(-logits, labels)["a"], 0, "a worse score never means less")

    def test_ppv_follows_prevalence(self) -> None:
        self.assertAlmostEqual(st.positive_predictive_value(0.9, 0.95, 0.5), 0.45 / 0.475)
        self.assertAlmostEqual(st.positive_predictive_value(0.9, 0.95, 0.06), 0.054 / 0.101)
        self.assertTrue(np.isnan(st.positive_predictive_value(0.0, 1.0, 0.06)))

    def test_thresholds_keep_their_promise(self) -> None:
        rng = np.random.default_rng(3)
        labels = rng.random(200) < 0.4
        probabilities = np.clip(rng.normal(0.35 + 0.3 * labels, 0.15), 0, 1)
        low, high = st.sensitivity_threshold(probabilities, labels), st.specificity_threshold(probabilities, labels)
        sensitivity, _ = st.sensitivity_specificity(probabilities, labels, low)
        _, specificity = st.sensitivity_specificity(probabilities, labels, high)
        self.assertGreaterEqual(sensitivity, 0.9)
        self.assertGreaterEqual(specificity, 0.95)
        self.assertTrue(0.4 < st.balanced_threshold(probabilities, labels) < 0.6)

    def test_interval_is_repeatable_and_holds_the_value(self) -> None:
        rng = np.random.default_rng(1)
        groups = [(score, score + rng.normal() > 0) for score in rng.normal(size=80)]

        def auc(chosen) -> float:
            scores, labels = zip(*chosen)
            return st.area_under_curve(np.array(scores), np.array(labels))

        first, second = st.with_interval(auc, groups), st.with_interval(auc, groups)
        self.assertEqual(first, second)
        self.assertTrue(first["interval"][0] < first["value"] < first["interval"][1])

    def test_calibration_error(self) -> None:
        labels = np.tile([0, 1], 50)
        self.assertAlmostEqual(st.calibration_error(np.full(100, 0.5), labels, 1), 0)
        self.assertAlmostEqual(st.calibration_error(np.full(100, 0.8), labels, 1), 0.3)


if __name__ == "__main__":
    unittest.main()
