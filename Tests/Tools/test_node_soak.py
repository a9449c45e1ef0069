"""A hospital's day in a minute: every kind of study and of trouble that `make soak` brings, once at least; and that its
verdict fails where it has to."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import soak_verdict
from node_fixture import needs_node
from soak import Soak
from soak_cases import KINDS
from soak_plot import draw
from soak_verdict import Records, Verdict

SECONDS, SEED = 45, 4


@needs_node
class Day(unittest.TestCase):
    def test_a_day_goes_well_and_the_verdict_would_see_it_if_not(self):
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-soak-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name) / "soak"
        Soak(SECONDS / 3600, SEED, self.folder, studies_per_hour=0, is_short=True, say=str).run()
        verdict = Verdict(Records(self.folder)).make()
        self.assertTrue(verdict.is_good, verdict.text())
        records = Records(self.folder)
        self.assertEqual({each["kind"] for each in records.studies + records.attacks}, {each.name for each in KINDS})
        self.assertIn("<polyline", draw(self.folder).read_text())
        self.assert_harm_is_seen(records)

    def assert_harm_is_seen(self, r: Records) -> None:
        """What is written down, with one thing changed."""
        study = next(each for each in r.studies if each["alerts"] and "pacs" in each["destinations"])
        results = [each for each in r.arrivals if each["study"] == study["study"] and each["kept"]]
        heard = next(each for each in r.hl7 if study["study"] in each.get("text", ""))
        sample, others = r.samples[5], [each for each in r.studies if each is not study]
        later = sample | {"at": r.samples[-1]["at"] + 100, "zombies": [4711], "strays": [4712]}
        prompt = {"is_prompt": True, "losses": 0, "first_sent": 1, "last_acknowledged": 2}
        attack = {"case": 0, "kind": "objects that are broken", "complaints": ["a broken object was accepted"]}

        def without(name: str, key: str, value: str) -> dict[str, list]:
            return {name: [each for each in getattr(r, name) if value not in str(each.get(key))]}

        def more(name: str, *entries: dict) -> dict[str, list]:
            return {name: getattr(r, name) + list(entries)}

        for text, changed in {
            f"case {study['case']} did not": {"studies": [each for each in r.studies if each["case"] != study["case"]]},
            "reports instead of 7": {"studies": [*others, study | {"expected_reports": 7}]},
            "instead of negative": {"studies": [*others, study | {"expected": "negative"}]},
            "an image is lost": {"studies": [*others, study | {"complaints": ["an image is lost"]}]},
            "a broken object was accepted": more("attacks", attack),
            "which nobody sent": {"studies": others},
            "0 reports of one revision": without("arrivals", "sop", study["reports"][-1]),
            "is missing": without("arrivals", "sop", results[-1]["sop"]),
            "is not the result file": more("arrivals", results[-1] | {"digest": ""}),
            "is no result of the study": more("arrivals", results[-1] | {"sop": "1.2.3"}),
            "2 alerts by RIS": more("hl7", {"id": "0", "text": heard["text"]}, {"accepted": "0"}),
            "came in two forms": more("hl7", heard | {"text": heard["text"] + "NTE"}),
            "0 alerts by webhook": without("webhooks", "study", study["study"]),
            "zombie 4711": more("samples", later, later | {"at": later["at"] + 100}),
            "process 4712": more("samples", later, later | {"at": later["at"] + 100}),
            "more than 64 MiB": more("samples", sample | {"wal": 65 << 20}),
            "error: disk on fire": {"log": [*r.log, (0, "error", "", "disk on fire")]},
            "?: Fatal error": {"log": [*r.log, (0, "?", "", "Fatal error")]},
            "p95 above": {"troubles": [], "samples": [], "studies": [each | prompt for each in r.studies]},
            "failed: it burnt": more("troubles", {"text": "failed: it burnt", "begin": 0, "end": 0}),
            "the node ended with 1": {"description": r.description | {"exit_status": 1}},
            "left.dcm in incoming": {"description": r.description | {"incoming": ["left.dcm"]}},
        }.items():
            with self.subTest(text):
                records = Records(self.folder)
                for name, content in changed.items():
                    setattr(records, name, content)
                verdict = Verdict(records).make()
                self.assertFalse(verdict.is_good)
                self.assertIn(text, verdict.text())


class Slopes(unittest.TestCase):
    """Two hours of a daemon that breathes with its work."""

    STUDIES = 1000

    def growth(self, leak_kib: float) -> list[str]:
        random = np.random.default_rng(1)
        moments = np.arange(0, 7200, 5.0)
        records = mock.Mock(spec=Records)
        records.studies = [{"first_sent": at} for at in np.linspace(0, 7200, self.STUDIES)]
        records.samples = []
        for at in moments:
            busy = 20_000 * random.random() * (1 + np.sin(at / 600))
            anon = 50_000 + busy + leak_kib * at / 7200 * self.STUDIES / 1000
            daemon = {"anon": anon, "descriptors": 40 + int(4 * random.random()), "threads": 20}
            records.samples.append({"at": at, "lifetime": 1, "daemon": daemon, "children": {}})
        records.lifetimes = lambda: [(1, records.samples)]
        return [
            key for _, _, key, _, (median, low, _), most in soak_verdict.slopes(records) if median > most and low > 0
        ]

    def test_what_grows_is_found_and_what_comes_and_goes_is_not(self):
        self.assertEqual(self.growth(0), [])
        self.assertEqual(self.growth(soak_verdict.MOST_KIB["daemon"] / 2), [])
        self.assertEqual(self.growth(soak_verdict.MOST_KIB["daemon"] * 2), ["anon"])
