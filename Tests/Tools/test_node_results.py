"""Studies sent to the running node come back to the PACS as they should: what is reported, once, and in time."""

import io
import json
import os
import signal
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import pydicom
from enhanced_ct import enhanced_ct, read_slices, write
from node_fixture import (
    BLEED_SEED,
    GRACE_SECONDS,
    SHARED_DATA,
    NodeTestCase,
    Sender,
    Study,
    example_head,
    needs_example_head,
    needs_node,
    needs_shared_data,
    phantom,
    send_all,
    storescu,
    wait_for,
)
from structured_report import walk

SCANNER_IMAGES_PER_SECOND = 10
LEAST_SHARE_AHEAD = 0.9
# CT0012 of shared/data: says Brain in its Frame Anatomy Sequence, and in no attribute of a single-frame image.
ENHANCED_HEAD = "1.3.6.1.4.1.5962.1.2.10.1166562673.14401"


@needs_node
class Results(NodeTestCase):
    @needs_example_head
    def test_clean_head_comes_back_as_one_report_absent_without_captures(self):
        study = example_head(self.folder, "CLEAN")
        storescu(self.node, self.folder)
        report = self.assert_one_report(study)
        self.assertEqual(report.outcome, "Absent")
        self.assertEqual(report.flagged, [])
        for find in (self.pacs.captures, self.pacs.summaries, self.pacs.key_objects):
            self.assertEqual(find(study.uid), [])

    @needs_example_head
    def test_bleeding_head_comes_back_as_one_report_present_with_a_capture_for_each_flagged_slice(self):
        study = example_head(self.folder, "PAINTED", BLEED_SEED)
        storescu(self.node, self.folder)
        report = self.assert_one_report(study)
        self.assertEqual(report.outcome, "Present")
        self.assertTrue(report.flagged)
        self.assertEqual(len(self.pacs.captures(study.uid)), len(report.flagged))
        self.assertEqual(len(self.pacs.summaries(study.uid)), 1)
        self.assertEqual(self.pacs.key_objects(study.uid), [])
        sent = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in study.files}
        self.assertLessEqual({each.sop_instance_uid for each in report.flagged}, sent)

    @needs_example_head
    def test_at_scanner_pace_nearly_all_encoder_calls_end_before_the_study_is_complete(self):
        study = example_head(self.folder, "PACE")
        with Sender(self.node, study.files) as sender:
            self.assertEqual(len(sender.store_all(study.files, SCANNER_IMAGES_PER_SECOND)), len(study.files))
        self.assert_one_report(study)
        (trace,) = self.events(study, "trace")
        early, all_calls = (int(word) for word in trace.split() if word.isdigit())
        share = early / all_calls
        print(f"\n    trace at {SCANNER_IMAGES_PER_SECOND} images/s: {trace} ({share:.1%})", flush=True)
        self.assertGreaterEqual(all_calls, 10)
        self.assertGreaterEqual(share, LEAST_SHARE_AHEAD)

    def test_series_of_two_thousand_slices_comes_back_as_one_report_that_names_them_all(self):
        """As many as a series may have (`StudyEncoder`)."""
        thin = ["--slices", "2000", "--size", "64", "--spacing", "0.08", "--thickness", "0.5"]
        study = phantom(self.folder, "--bleed", "left", *thin)
        storescu(self.node, self.folder)
        started = time.monotonic()
        self.node.wait_until_delivered(study.uid, 120)
        seconds = time.monotonic() - started
        self.assertEqual(self.assert_one_report(study).outcome, "Present")
        content = self.pacs.download(self.pacs.find(study.uid, "SR")[0])
        ((series,),) = (
            each.ReferencedSeriesSequence
            for each in pydicom.dcmread(io.BytesIO(content)).CurrentRequestedProcedureEvidenceSequence
        )
        self.assertEqual(len(series.ReferencedSOPSequence), 2000)
        size = len(content) // 1000
        print(f"\n    2000 slices: report of {size} kB, delivered {seconds:.1f} s after the last", flush=True)
        self.assertLess(len(content), 1 << 20)

    def test_eight_studies_at_once_get_one_report_each(self):
        studies = [phantom(self.folder / str(n), "--patient-id", f"P{n}", "--seed", str(n)) for n in range(8)]
        with ThreadPoolExecutor(len(studies)) as pool:
            list(pool.map(lambda study: storescu(self.node, study.files[0].parent), studies))
        for study in studies:
            report = self.assert_one_report(study)
            self.assertEqual(report.study_uid, study.uid)
            self.assertEqual(len(self.node.stored(study.uid)), len(study.files))
        # Two are kept ready (warm_workers); more would be memory that nobody asked for.
        wait_for(lambda: len(self.node.children("receive")) == 2, "two receive workers are left", 10)

    def test_series_that_comes_while_its_study_is_analysed_gives_no_second_report(self):
        study = phantom(self.folder, "--localizer")
        (child,) = self.node.children("infer")
        os.kill(child, signal.SIGSTOP)
        try:
            for number, files in enumerate((study.files, [self.folder / "LOC0001.dcm"]), start=1):
                send_all(self.node, files)
                wait_for(lambda: self.times_assembled(study) == number, f"assembled {number} times", 20)
        finally:
            os.kill(child, signal.SIGCONT)
        self.assert_one_report(study)

    def times_assembled(self, study: Study) -> int:
        return sum("study assembled" in line and study.uid in line for line in self.node.log_text().splitlines())

    def test_study_sent_again_unchanged_gets_no_second_report(self):
        study = phantom(self.folder)
        storescu(self.node, self.folder)
        self.assert_one_report(study)
        storescu(self.node, self.folder)
        self.assert_one_report(study)
        self.assertEqual(len(self.node.stored(study.uid)), len(study.files))
        self.assertEqual(len(self.node.study(study.uid)["analyses"]), 1)

    def test_other_bytes_under_a_known_instance_are_kept_as_a_version_and_recorded(self):
        study = phantom(self.folder / "first")
        send_all(self.node, study.files)
        self.assert_one_report(study)
        changed = self.folder / "changed.dcm"
        ds = pydicom.dcmread(study.files[7])
        ds.ImageComments = "corrected"
        ds.save_as(changed, enforce_file_format=True)
        send_all(self.node, [changed])
        names = [path.name for path in self.node.stored(study.uid)]
        self.assertIn(f"{ds.SOPInstanceUID}.v2.dcm", names)
        self.assert_in_spool(study, [*study.files, changed])
        wait_for(lambda: self.events(study, "conflict"), "the version is in the study's history", 10)
        self.node.wait_until_settled(study.uid)

    def test_report_on_what_is_corrected_to_be_no_head_is_superseded_by_an_undetermined_one(self):
        study = phantom(self.folder)
        send_all(self.node, study.files)
        first = self.assert_one_report(study)
        for path in study.files:
            ds = pydicom.dcmread(path)
            ds.BodyPartExamined, ds.SeriesDescription = "ABDOMEN", "Abdomen"
            ds.save_as(path, enforce_file_format=True)
        send_all(self.node, study.files)
        wait_for(lambda: len(self.pacs.reports(study.uid)) == 2, "it is revised", 60, self.node.log_tail)
        known = self.node.wait_until_settled(study.uid)
        self.assertEqual(known["study"]["outcome"], "undetermined")
        (last,) = (each for each in self.pacs.reports(study.uid) if each.outcome == "Undetermined")
        self.assertNotEqual(first.outcome, last.outcome)
        self.assertIn("is not the head", "\n".join(last.comments))

    def test_missing_slice_is_waited_for_and_completes_the_study_when_it_comes(self):
        study = phantom(self.folder)
        late = study.files[9]
        send_all(self.node, [path for path in study.files if path != late])
        wait_for(lambda: self.node.study(study.uid), "the study is known", 10)
        with self.assertRaises(AssertionError):
            wait_for(
                lambda: self.node.study(study.uid)["study"]["state"] != "receiving", "left waiting", GRACE_SECONDS + 2
            )
        self.assertEqual(self.pacs.reports(study.uid), [])
        send_all(self.node, [late])
        self.assertIn(self.assert_one_report(study).outcome, ("Absent", "Present"))


@needs_node
class BackToTheSender(NodeTestCase):
    def test_results_go_to_the_peer_that_has_the_senders_title_and_to_nobody_where_none_has(self):
        node = self.site.add_node("sender", routes=[{"name": "back", "destinations": ["sender"]}])
        self.addCleanup(node.stop)
        node.start()
        for number, (calling, expected) in enumerate(((" ORTHANC ", ["pacs"]), ("Orthanc", []))):
            study = phantom(self.folder / str(number), "--patient-id", f"P{number}", "--seed", str(number))
            storescu(node, study.files[0].parent, calling=calling)
            known = node.wait_until_settled(study.uid)
            self.assertEqual([each["destination"] for each in known["deliveries"]], expected, calling)
            self.assertEqual(len(self.pacs.reports(study.uid)), len(expected))
        self.assertEqual(known["study"]["outcome"], "undetermined")
        self.assertIn("no route takes calling AE title Orthanc", known["study"]["reason"])
        explained = node.command("route", "explain", "--config", str(node.configuration), "--calling", "Orthanc")
        self.assertIn("differs in case", explained)


@needs_node
class ObjectsByRoute(NodeTestCase):
    def positive(self, name: str, **route) -> Study:
        """A bleeding phantom of which the node of that name has sent everything."""
        node = self.site.add_node(name)
        configuration = json.loads(node.configuration.read_text())
        configuration["routes"][0] |= route
        node.configuration.write_text(json.dumps(configuration))
        self.addCleanup(node.stop)
        node.start()
        study = phantom(self.folder / name, "--bleed", "left")
        send_all(node, study.files)
        self.report = self.assert_one_report(study, node)
        self.assertEqual(self.report.outcome, "Present")
        return study

    def download(self, identifier: str) -> pydicom.Dataset:
        return pydicom.dcmread(io.BytesIO(self.pacs.download(identifier)))

    def test_key_objects_name_the_flagged_slices_and_the_heatmaps_that_the_pacs_holds(self):
        study = self.positive("key-objects", key_objects=True)
        (identifier,) = self.pacs.key_objects(study.uid)
        named = [
            each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for each in walk(self.download(identifier))
            if each.ValueType == "IMAGE"
        ]
        heatmaps = {self.download(each).SOPInstanceUID for each in self.pacs.captures(study.uid)}
        self.assertTrue(heatmaps)
        flagged = [each.sop_instance_uid for each in self.report.flagged]
        self.assertEqual(named[: len(flagged)], flagged)
        self.assertEqual(set(named[len(flagged) :]), heatmaps)
        (summary,) = self.pacs.summaries(study.uid)
        shown = [each.ReferencedSOPInstanceUID for each in self.download(summary).SourceImageSequence]
        self.assertLessEqual(set(shown), set(flagged))
        self.assertEqual(len(shown), min(len(flagged), 9))

    def test_without_summary_the_heatmaps_come_alone(self):
        study = self.positive("plain", summary=False)
        self.assertEqual(len(self.pacs.captures(study.uid)), len(self.report.flagged))
        self.assertEqual(self.pacs.summaries(study.uid), [])


@needs_node
class IncompleteStudies(NodeTestCase):
    def test_at_the_deadline_a_study_with_a_gap_is_undetermined_and_the_report_names_the_position(self):
        node = self.site.add_node("impatient", completion={"quiet_seconds": 2, "deadline_seconds": 3})
        study = phantom(self.folder)
        left_out = study.files.pop(9)
        position = pydicom.dcmread(left_out, stop_before_pixels=True).SliceLocation
        self.addCleanup(node.stop)
        node.start()
        send_all(node, study.files)
        report = self.assert_one_report(study, node)
        self.assertEqual(report.outcome, "Undetermined")
        self.assertIn(f"no slice at {position:.1f} mm", "\n".join(report.comments))


@needs_node
class MultiFrameHeads(NodeTestCase):
    def head(self, *options: str) -> list[pydicom.Dataset]:
        return read_slices(phantom(self.folder / "single", *options).files)

    def enhanced(self, name: str, *objects: pydicom.Dataset, syntax: str = "explicit-little") -> Study:
        files = [write(each, self.folder / name / f"{n}.dcm", syntax) for n, each in enumerate(objects)]
        return Study(objects[0].StudyInstanceUID, files)

    def test_bleeding_enhanced_head_comes_back_with_a_capture_for_each_flagged_frame(self):
        for syntax in ("explicit-little", "jpeg-ls-lossless"):
            with self.subTest(syntax):
                head = enhanced_ct(self.head("--bleed", "left"))
                study = self.enhanced(syntax, head, syntax=syntax)
                send_all(self.node, study.files)
                report = self.assert_one_report(study)
                self.assertEqual(report.outcome, "Present")
                self.assertTrue(report.flagged)
                self.assertEqual(len(self.pacs.captures(study.uid)), len(report.flagged))
                self.assertEqual({each.sop_instance_uid for each in report.flagged}, {head.SOPInstanceUID})
                self.assertEqual(len({each.instance_number for each in report.flagged}), len(report.flagged))
                self.assert_in_spool(study, study.files)
                # Sent again it is known.
                send_all(self.node, study.files)
                self.assert_one_report(study)

    def test_missing_part_of_a_concatenation_is_waited_for_across_a_restart(self):
        node = self.site.add_node("parts")
        self.addCleanup(node.stop)
        node.start()
        slices = self.head()
        uid = f"{slices[0].SeriesInstanceUID[:60]}.9"
        parts = [enhanced_ct(slices[:4], part=(1, 2, 0, uid)), enhanced_ct(slices[4:], part=(2, 2, 4, uid))]
        study = self.enhanced("parts", *parts)
        send_all(node, study.files[1:])
        wait_for(lambda: node.study(study.uid), "the study is known", 10)
        with self.assertRaises(AssertionError):
            wait_for(lambda: node.study(study.uid)["study"]["state"] != "receiving", "left waiting", GRACE_SECONDS + 2)
        node.kill()
        node.start()
        send_all(node, study.files[:1])
        report = self.assert_one_report(study, node)
        self.assertIn(report.outcome, ("Absent", "Present"))
        (series,) = node.study(study.uid)["series"]
        self.assertIn("20 axial images", series["reason"])
        self.assertEqual(series["instanceCount"], 2)

    def test_enhanced_head_whose_groups_cannot_be_read_is_stored_and_undetermined(self):
        head = enhanced_ct(self.head())
        head.PerFrameFunctionalGroupsSequence.pop()
        study = self.enhanced("short", head)
        send_all(self.node, study.files)
        report = self.assert_one_report(study)
        self.assertEqual(report.outcome, "Undetermined")
        self.assertIn("another number of frames than of their functional groups", "\n".join(report.comments))
        self.assert_in_spool(study, study.files)


@needs_node
@needs_shared_data
class RealObjects(NodeTestCase):
    """Everything in shared/data/dicom, sent in one association each."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sent: dict[str, Study] = {}
        for folder in sorted(path for path in (SHARED_DATA / "dicom").iterdir() if path.is_dir()):
            files = sorted(path for path in folder.rglob("*") if path.is_file() and pydicom.misc.is_dicom(path))
            send_all(cls.site.node, files)
            for path in files:
                uid = pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID
                study = cls.sent.setdefault(uid, Study(uid, []))
                study.files.append(path)

    def studies(self, folder: str) -> list[Study]:
        found = [each for each in self.sent.values() if folder in each.files[0].parts]
        self.assertTrue(found)
        return found

    def test_every_data_set_is_stored_as_it_was_sent_in_all_transfer_syntaxes(self):
        for study in self.sent.values():
            self.assert_in_spool(study, study.files)
        syntaxes = {
            pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
            for study in self.studies("transfer-syntaxes")
            for path in self.node.stored(study.uid)
        }
        self.assertEqual(len(syntaxes), 15)

    def test_tilted_real_head_is_analysed(self):
        (study,) = self.studies("ge-head-tilt")
        report = self.assert_one_report(study)
        self.assertIn(report.outcome, ("Present", "Absent"))
        self.assertIsNotNone(report.probability)

    def test_plastic_phantoms_are_undetermined_for_want_of_brain(self):
        for folder in ("philips-phantom-trauma", "philips-phantom-stereotaxis"):
            (study,) = self.studies(folder)
            report = self.assert_one_report(study)
            self.assertEqual(report.outcome, "Undetermined", folder)
            self.assertIn("no brain tissue", "\n".join(report.comments))
            self.assertEqual(self.pacs.captures(study.uid), [])

    def test_chest_is_recorded_as_no_head_ct_and_nothing_is_sent_for_it(self):
        for study in self.studies("transfer-syntaxes"):
            if study.uid == ENHANCED_HEAD:
                continue
            known = self.node.wait_until_settled(study.uid)
            self.assertEqual(known["study"]["outcome"], "not a head CT", self.node.command("study", "show", study.uid))
            self.assertEqual(known["deliveries"], [])
            self.assertEqual(self.pacs.reports(study.uid), [])

    def test_enhanced_perfusion_map_of_a_head_is_undetermined(self):
        (study,) = (each for each in self.studies("transfer-syntaxes") if each.uid == ENHANCED_HEAD)
        report = self.assert_one_report(study)
        self.assertEqual(report.outcome, "Undetermined")
        self.assertIn("secondary capture or derived image", "\n".join(report.comments))


if __name__ == "__main__":
    unittest.main()
