"""Encoder, head, their ensembles, and what becomes of them in a package."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ichtrain import export  # noqa: E402
from ichtrain.evaluate import top_three  # noqa: E402
from ichtrain.model import (  # noqa: E402
    EMBEDDING_SIZE,
    EncoderEnsemble,
    HeadEnsemble,
    SliceEncoder,
    StudyHead,
    mean_of_top_three,
    slice_logits,
    smooth_along_z,
)
from ichtrain.runs import Run  # noqa: E402
from ichtrain.train import known_cross_entropy  # noqa: E402


class Networks(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        cls.encoders = [SliceEncoder() for _ in range(2)]
        cls.inputs = 30 + 60 * torch.randn(4, 1, 192, 192)
        with torch.no_grad():
            for encoder in cls.encoders:
                encoder.train()(cls.inputs)
                encoder.eval()
        cls.heads = [StudyHead().eval() for _ in range(2)]

    @torch.no_grad()
    def test_ensemble_is_the_mean_of_its_members(self) -> None:
        embedding, logits, lesion_map = EncoderEnsemble(self.encoders)(self.inputs)
        study, attention, slices = HeadEnsemble(self.heads)(embedding[None], logits[None])
        alone = []
        for encoder, head in zip(self.encoders, self.heads):
            own_embedding, class_logits, own_map = encoder(self.inputs)
            own_logits = slice_logits(class_logits, own_map)
            alone.append((own_logits, own_map, *head(own_embedding[None], own_logits[None])))
        for found, parts in zip((logits, lesion_map, study, attention, slices), zip(*alone)):
            torch.testing.assert_close(found, sum(parts) / 2, atol=1e-4, rtol=1e-4)
        self.assertAlmostEqual(float(attention.sum()), 1, 5)

    def test_ensemble_refuses_members_with_other_stems(self) -> None:
        other = SliceEncoder(pretrained=False)
        with self.assertRaisesRegex(ValueError, "frozen stem"):
            EncoderEnsemble([self.encoders[0], other])

    @torch.no_grad()
    def test_export_folds_norms_without_changing_answers(self) -> None:
        member = SliceEncoder().eval()
        before = member(self.inputs)
        export.fold_batch_norms(member)
        self.assertFalse([m for m in member.modules() if isinstance(m, torch.nn.BatchNorm2d)])
        for want, have in zip(before, member(self.inputs)):
            torch.testing.assert_close(have, want, atol=1e-3, rtol=1e-3)

    def test_training_leaves_the_stem_alone(self) -> None:
        encoder = SliceEncoder().train()
        self.assertFalse(encoder.stem.training)
        trained = {id(p) for p in [*encoder.body_parameters(), *encoder.new_parameters()]}
        self.assertEqual(trained, {id(p) for p in encoder.parameters() if p.requires_grad})
        self.assertFalse(trained & {id(p) for p in encoder.stem.parameters()})

    def test_unknown_labels_count_for_nothing(self) -> None:
        logits = torch.tensor([[0.3, -2.0]], requires_grad=True)
        loss = known_cross_entropy(logits, torch.tensor([[1.0, torch.nan]]))
        loss.backward()
        self.assertAlmostEqual(loss.item(), float(np.log1p(np.exp(-0.3))), 5)
        self.assertEqual(logits.grad[0, 1].item(), 0)
        self.assertEqual(known_cross_entropy(logits, torch.full((1, 2), torch.nan)).item(), 0)

    def test_top_three_alone_is_what_the_head_mixes_in(self) -> None:
        for slices in (1, 2, 3, 17):
            logits = torch.randn(1, slices, 6)
            want = mean_of_top_three(smooth_along_z(logits))[0].numpy()
            np.testing.assert_allclose(top_three(logits[0].numpy()), want, atol=1e-5)

    def test_head_takes_one_slice_and_four_hundred(self) -> None:
        for slices in (1, 400):
            with torch.no_grad():
                embedding, logits = torch.randn(1, slices, EMBEDDING_SIZE), torch.randn(1, slices, 6)
                study, attention, each = self.heads[0](embedding, logits)
            self.assertEqual((study.shape, attention.shape, each.shape), ((1, 6), (1, slices), (1, slices)))
            self.assertTrue(torch.isfinite(study).all())

    def test_no_two_runs_share_a_seed_or_a_folder(self) -> None:
        runs = [Run(seed, fold) for seed in (1, 2, 3) for fold in (0, 1, 2, 3, 4, None)]
        self.assertEqual(len({run.weights_seed for run in runs}), len(runs))
        self.assertEqual(len({run.folder(Path("work")) for run in runs}), len(runs))


if __name__ == "__main__":
    unittest.main()
