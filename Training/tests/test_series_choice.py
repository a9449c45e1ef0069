"""Which series of a study, and which of its images, make the volume."""

from __future__ import annotations

import dataclasses
import random
import re
import unittest
from pathlib import Path

import numpy as np

from ichtrain import header_vocabulary, series
from ichtrain.dicom import CT_IMAGE_STORAGE, ImageHeader

VOCABULARY = Path(__file__).resolve().parents[2] / "Sources/ICHModel/Selection/HeaderVocabulary.swift"


def headers(uid: str = "1.2.3", count: int = 28, spacing: float = 5.0, **changes: object) -> list[ImageHeader]:
    """A plain axial head, feet to head."""
    plain = ImageHeader(
        CT_IMAGE_STORAGE, "", "1.2", uid, modality="CT", manufacturer="GE", series_description="Head", body_part="HEAD",
        kernel="SOFT", image_type=("ORIGINAL", "PRIMARY", "AXIAL"), orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing=(0.5, 0.5), slice_thickness=spacing, rows=512, columns=512, samples_per_pixel=1,
        photometric="MONOCHROME2", series_number=2, acquisition_number=1,
    )
    return [
        dataclasses.replace(
            plain, sop_instance_uid=f"{uid}.{number:03d}", position=(-125.0, -125.0, number * spacing),
            instance_number=number + 1, **changes,
        )
        for number in range(count)
    ]


def changed(found: list[ImageHeader], **changes: object) -> list[ImageHeader]:
    return [dataclasses.replace(header, **changes) for header in found]


def uids(choice: series.Choice) -> list[str]:
    return [one.header.sop_instance_uid for one in choice.slices]


class ChoiceTests(unittest.TestCase):
    def test_a_plain_head_feet_to_head_whatever_the_order_and_numbers(self) -> None:
        plain = headers()
        numbered = [dataclasses.replace(h, instance_number=28 - n) for n, h in enumerate(plain)]
        random.Random(1).shuffle(numbered)
        choice = series.choose(numbered)
        self.assertEqual(uids(choice), [h.sop_instance_uid for h in plain])
        self.assertEqual(choice.warnings, ())
        np.testing.assert_allclose(choice.positions_mm, np.arange(28) * 5.0)

    def test_reasons(self) -> None:
        cases = {
            "not a CT": {"modality": "MR"},
            "localizer": {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
            "secondary capture or derived image": {"image_type": ("DERIVED", "SECONDARY", "MPR")},
            "multi-frame object, not supported: convert it to CT Image Storage": {
                "sop_class": "1.2.840.10008.5.1.4.1.1.2.1"},
            "reformatted, not axial": {"orientation": (1, 0, 0, 0, 0, -1)},
            "no position, orientation or pixel spacing": {"orientation": None},
            "contrast agent given": {"contrast_agent": "ISOVUE300/100"},
            "angiography or perfusion": {"series_description": "CTA HEAD 0.6"},
            "body part CHEST is not the head": {"series_description": "CHEST"},
            "face, ear or sinuses, not the whole head": {"series_description": "NNH axial"},
            "bone kernel": {"kernel": "BONEPLUS"},
            "fewer than 64 rows or columns": {"rows": 63},
        }
        for reason, changes in cases.items():
            with self.subTest(reason):
                choice = series.choose(changed(headers(), **changes))
                self.assertEqual((choice.reason, choice.slices), (reason, ()))

    def test_a_study_of_two_patients_is_nobody_s(self) -> None:
        choice = series.choose(headers(patient_id="A")[:20] + headers(patient_id="B")[20:])
        self.assertEqual((choice.slices, choice.reason[:31]), ((), "its images name several patient"))
        self.assertTrue(series.choose(headers(patient_id="A")[:20] + headers()[20:]).slices)

    def test_contrast_by_description_in_several_languages(self) -> None:
        for text in ("HEAD POST CONTRAST", "Schädel mit KM", "Head c+"):
            self.assertEqual(series.choose(headers(series_description=text)).reason, "contrast agent given", text)
        for text in ("HEAD WITHOUT CONTRAST", "Kopf nativ ohne KM", "CRANEO SIN CONTRASTE", "crâne sans injection"):
            self.assertEqual(len(series.choose(headers(series_description=text)).slices), 28, text)

    def test_no_contrast_agent_is_named_none(self) -> None:
        for agent in ("NONE", "no", "", "None "):
            self.assertTrue(series.choose(headers(contrast_agent=agent)).slices, agent)

    def test_limits(self) -> None:
        self.assertEqual(series.choose(headers(count=7, spacing=20.0)).reason, "fewer than 8 slices")
        self.assertTrue(series.choose(headers(count=8, spacing=10.0)).slices)
        self.assertEqual(series.choose(headers(count=15)).reason, "covers only 75 mm")
        self.assertTrue(series.choose(headers(count=16)).slices)

    def test_soft_tissue_before_bone_and_five_millimetres_before_thin(self) -> None:
        bone = headers("1.2.1", kernel="BONE")
        thin = headers("1.2.2", count=240, spacing=0.625)
        soft = headers("1.2.3")
        thick = headers("1.2.4", count=19, spacing=8.0)
        for studies in (bone + thin + soft + thick, thick + soft + bone + thin):
            self.assertEqual(uids(series.choose(studies)), [h.sop_instance_uid for h in soft])
        self.assertEqual(series.choose(bone).reason, "bone kernel")
        self.assertEqual(len(series.choose(bone + thin).slices), 240)

    def test_the_whole_head_wins_over_a_part_and_original_over_derived(self) -> None:
        part, whole = headers("1.2.1", count=17), headers("1.2.2", count=160, spacing=1.0)
        self.assertEqual(len(series.choose(part + whole).slices), 160)
        derived = headers("1.2.1", image_type=("DERIVED", "PRIMARY", "AXIAL"))
        self.assertEqual(uids(series.choose(derived + headers()))[0], "1.2.3.000")

    def test_a_head_wins_over_a_neck_and_over_what_is_not_named(self) -> None:
        nameless = headers("1.2.1", series_description="", body_part="")
        neck = headers("1.2.2", series_description="Neck 5.0", body_part="NECK")
        self.assertEqual(uids(series.choose(nameless + neck + headers()))[0], "1.2.3.000")
        self.assertEqual(uids(series.choose(nameless + neck))[0], "1.2.1.000")

    def test_a_scout_and_a_repetition_in_the_series(self) -> None:
        scout = changed(headers(count=1), orientation=(0, 1, 0, 0, 0, -1), sop_instance_uid="1.9",
                        image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
        again = [dataclasses.replace(h, sop_instance_uid=h.sop_instance_uid + ".9", acquisition_number=2)
                 for h in headers()]
        choice = series.choose(scout + headers() + again)
        self.assertEqual(uids(choice), [h.sop_instance_uid for h in again])
        self.assertEqual(choice.warnings, ("28 images left out: beside the chosen volume",))

    def test_one_repeated_slice_is_not_averaged(self) -> None:
        again = [dataclasses.replace(headers()[4], sop_instance_uid="1.9", instance_number=90)]
        choice = series.choose(headers() + again)
        self.assertEqual(len(choice.slices), 28)
        self.assertEqual(uids(choice)[4], "1.9")

    def test_tilt(self) -> None:
        angle = np.radians(-18.5)
        tilted = [
            dataclasses.replace(h, orientation=(1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))))
            for h in headers()
        ]
        positions = series.choose(tilted).positions_mm
        self.assertEqual(len(positions), 28)
        np.testing.assert_allclose(np.diff(positions), 5 * np.cos(angle))
        steep = changed(headers(), orientation=(1, 0, 0, 0, float(np.cos(0.7)), float(np.sin(0.7))))
        self.assertEqual(series.choose(steep).reason, "reformatted, not axial")

    def test_head_first_supine_or_not_the_normal_points_to_the_head(self) -> None:
        prone = changed(headers(), orientation=(-1, 0, 0, 0, 1, 0))
        self.assertEqual(uids(series.choose(prone)), [h.sop_instance_uid for h in prone])

    def test_mixed_spacing_is_no_gap_and_a_missing_slice_is(self) -> None:
        # A real head: 4.22 mm through the base, 7.38 mm above.
        steps = [4.22] * 13 + [1.14] + [7.38] * 13
        mixed = [
            dataclasses.replace(h, position=(-125.0, -125.0, z)) for h, z in zip(headers(), np.cumsum([0.0, *steps]))
        ]
        self.assertEqual(series.choose(mixed).warnings, ())
        self.assertEqual(series.spacing_mm(series.choose(mixed).positions_mm), 4.22)
        self.assertEqual(len(series.gaps(h.position[2] for h in headers()[:10] + headers()[11:])), 1)
        self.assertIn("missing at 1 places", series.choose(headers()[:10] + headers()[11:]).warnings[0])


class VocabularyTests(unittest.TestCase):
    def test_kernels(self) -> None:
        known = {
            ("GE MEDICAL SYSTEMS", "BONE"): True, ("GE MEDICAL SYSTEMS", "STD+"): False, ("SIEMENS", "H60s"): True,
            ("SIEMENS", "H31s"): False, ("SIEMENS", "Hr60f\\3"): True, ("Philips", "UB"): False,
            ("Philips", "D"): True, ("TOSHIBA", "FC30"): True, ("TOSHIBA", "FC21"): False, ("CANON", "FC81"): True,
            ("X", "Y"): None,
        }
        for (maker, kernel), is_bone in known.items():
            self.assertEqual(header_vocabulary.is_bone_kernel(kernel, maker), is_bone, kernel)

    @unittest.skipUnless(VOCABULARY.exists(), "the node's sources are not beside this folder")
    def test_the_node_knows_the_same_words(self) -> None:
        source = VOCABULARY.read_text()
        for swift, python in re.findall(r"(\w+)=(\w+)", """
            headBodyParts=HEAD_BODY_PARTS partBodyParts=PART_BODY_PARTS unspecifiedBodyParts=UNSPECIFIED_BODY_PARTS
            head=HEAD partOfHead=PART_OF_HEAD otherBody=OTHER_BODY angiography=ANGIOGRAPHY boneText=BONE_TEXT
            withoutContrast=WITHOUT_CONTRAST withContrast=WITH_CONTRAST derivedText=DERIVED_TEXT
            localizerTypes=LOCALIZER_TYPES derivedTypes=DERIVED_TYPES contrastTypes=CONTRAST_TYPES
            noContrast=NO_CONTRAST
        """):
            start = rf"static let {swift}(?:: Set<String> = | = Pattern\(wordsFrom: )"
            body = re.search(start + r"\[(.*?)\](?:\)|\n)", source, re.DOTALL)[1]
            terms = re.findall(r'"([^"]*)"', body)
            own = getattr(header_vocabulary, python)
            with self.subTest(swift):
                if isinstance(own, frozenset):
                    self.assertEqual(set(terms), own)
                else:
                    self.assertEqual(header_vocabulary.words_pattern(*terms).pattern, own.pattern)


if __name__ == "__main__":
    unittest.main()
