"""The viewer of the console: what a real node serves and a real browser draws is what the images, the report and the
captures hold."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
from enhanced_ct import enhanced_ct, read_slices, write
from node_fixture import NodeTestCase, Site, Study, needs_node, phantom, send_all, wait_for
from structured_report import PROBABILITY, SLICE_GROUP, measurement_groups, numeric_value, referenced_image
from structured_report import tracking_identifier
from transcode import TARGETS, transcode

try:
    from browser import CHROMEDRIVER, CHROMIUM, Browser
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
except ImportError:
    CHROMIUM = CHROMEDRIVER = None

TOKEN = "ichnode_of_a_test"
VIEWER = {"name": "test", "role": "viewer", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
SALIENCY = ("130404", "DCM")
# One slice in each, by turns.
SYNTAXES = [
    "implicit-little", "explicit-little", "deflated", "explicit-big", "jpeg-lossless-14", "jpeg-lossless-sv1",
    "jpeg-ls-lossless", "jpeg-2000-lossless", "rle",
]  # fmt: skip
# Of a capture of 128 by 128: between its text at the top and at the bottom, left of its scale.
FREE_OF_TEXT = (slice(34, 106), slice(3, 104))


def hounsfield(path: Path) -> np.ndarray:
    ds = pydicom.dcmread(path)
    return np.rint(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)).astype(int)


def windowed(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.clip(np.rint(((values - centre) / width + 0.5) * 255), 0, 255)


def transcoded(study: Study, folder: Path) -> Study:
    """The study with its slices in many transfer syntaxes; the pixels are the same."""
    folder.mkdir()
    targets = {target.name: target for target in TARGETS}
    files = []
    for number, path in enumerate(study.files):
        files.append(folder / path.name)
        transcode(path, targets[SYNTAXES[number % len(SYNTAXES)]], files[-1])
    return Study(study.uid, files)


@needs_node
class Viewer(NodeTestCase):
    @classmethod
    def setUpClass(cls):
        cls.site = Site(console={"tokens": [VIEWER]})
        cls.addClassCleanup(cls.site.stop)
        cls.site.start()
        temporary = tempfile.TemporaryDirectory(prefix="ichnode-viewer-")
        cls.addClassCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        thick = phantom(folder / "thick", "--bleed", "left")
        # Averaged to slabs.
        cls.thin = phantom(folder / "thin", "--bleed", "left", "--slices", "50", "--spacing", "2.4", "--seed", "2")
        cls.thick, cls.originals = transcoded(thick, folder / "transcoded"), thick.files
        cls.clean, cls.doomed = (phantom(folder / f"clean{seed}", "--seed", str(seed)) for seed in (3, 4))
        cls.frames = phantom(folder / "frames", "--seed", "5").files
        head = enhanced_ct(read_slices(cls.frames))
        cls.enhanced = Study(head.StudyInstanceUID, [write(head, folder / "enhanced" / "1.dcm", "jpeg-ls-lossless")])
        studies = (cls.thick, cls.thin, cls.clean, cls.doomed, cls.enhanced)
        for study in studies:
            send_all(cls.site.node, study.files)
        for study in studies:
            cls.site.node.wait_until_delivered(study.uid)

    def setUp(self):
        pass

    @property
    def url(self) -> str:
        return self.node.url

    def get(self, path: str, token: str | None = TOKEN, **headers: str) -> tuple[int, bytes, dict]:
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                return response.status, response.read(), dict(response.headers)
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read(), dict(answer.headers)

    def source(self, study: Study) -> str:
        status, body, _ = self.get(f"/studies/{study.uid}/images")
        self.assertEqual(status, 200, body)
        return body.decode().split('data-source="')[1].split('"')[0]

    def content(self, study: Study) -> dict:
        status, body, headers = self.get(self.source(study))
        self.assertEqual((status, headers["Cache-Control"]), (200, "private, no-store"))
        return json.loads(body)

    def report(self, study: Study) -> pydicom.Dataset:
        (found,) = self.pacs.find(study.uid, "SR")
        return pydicom.dcmread(io.BytesIO(self.pacs.download(found)))

    def test_pixels_are_those_of_the_images_in_whatever_syntax_feet_to_head(self):
        source = self.source(self.thick)
        syntaxes = set()
        for number, (path, original) in enumerate(zip(self.thick.files, self.originals, strict=True)):
            status, body, headers = self.get(f"{source}/{number}")
            self.assertEqual(status, 200, body)
            self.assertEqual(headers["Cache-Control"], "private, no-store")
            size = int(headers["Image-Rows"]), int(headers["Image-Columns"])
            syntax = pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID
            syntaxes.add(syntax)
            served = np.frombuffer(body, "<i2").reshape(size)
            np.testing.assert_array_equal(served, hounsfield(original), syntax.name)
        self.assertEqual(len(syntaxes), len(SYNTAXES))
        status, small, headers = self.get(f"{source}/{number}", **{"Accept-Encoding": "gzip"})
        self.assertEqual(headers["Content-Encoding"], "gzip")
        self.assertEqual(gzip.decompress(small), body)
        self.assertLess(len(small), len(body))

    def test_frames_of_an_enhanced_image_are_images(self):
        source = self.source(self.enhanced)
        for number, path in enumerate(self.frames):
            status, body, _ = self.get(f"{source}/{number}")
            self.assertEqual(status, 200, body)
            np.testing.assert_array_equal(np.frombuffer(body, "<i2"), hounsfield(path).ravel())

    def test_flags_and_numbers_are_those_of_the_report(self):
        for study in (self.thick, self.thin):
            content = self.content(study)
            positions = [image["position"] for image in content["images"]]
            self.assertEqual(positions, sorted(positions))
            headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in study.files]
            self.assertEqual(len(positions), len(headers))
            np.testing.assert_allclose(positions, [each.ImagePositionPatient[2] for each in headers], atol=1e-3)
            self.assertEqual([each["number"] for each in content["images"]], [each.InstanceNumber for each in headers])
            reported = {
                referenced_image(group): (numeric_value(group, PROBABILITY), numeric_value(group, SALIENCY))
                for group in measurement_groups(self.report(study))
                if tracking_identifier(group).startswith(SLICE_GROUP)
            }
            self.assertTrue(reported)
            flagged = {
                headers[each["representative"]].SOPInstanceUID: (each["probability"], each["attention"])
                for each in content["slices"]
                if each["isFlagged"]
            }
            self.assertEqual(set(flagged), set(reported))
            for uid, numbers in reported.items():
                np.testing.assert_allclose(flagged[uid], numbers, atol=1e-4)
        self.assertLess(len(content["slices"]), len(content["images"]))
        self.assertEqual(content["edges"], {"left": "R", "right": "L", "top": "A", "bottom": "P"})

    def test_only_who_may_see_patients_sees_images_and_nobody_sees_others(self):
        source = self.source(self.thick)
        for path in (f"/studies/{self.thick.uid}/images", source, f"{source}/0"):
            self.assertEqual(self.get(path, token=None)[0], 401, path)
        folder, _, name = source.rpartition("/")
        for path in (
            "/studies/1.2.3/images", f"{source}/20", f"{source}/-1", f"{source}/0.5", f"{folder}/{'0' * 32}/0",
            f"{folder}/..%2F{name}/0", f"/studies/{self.thin.uid}/images/{name}/0", "/studies/..%2F..%2F/images",
        ):  # fmt: skip
            self.assertEqual(self.get(path)[0], 404, path)
        wait_for(lambda: self.is_audited(self.thick), "who looked is in the audit trail", 10)

    def is_audited(self, study: Study) -> bool:
        """As accessed (PS3.15 §A.5.3.6) by who has the token."""
        lines = (self.node.folder / "data" / "audit" / "audit.log").read_text().splitlines()
        return any('"110103"' in line and 'UserID="test"' in line and study.uid in line for line in lines)

    def test_an_image_that_cannot_be_decoded_any_more_is_said_to_be_so(self):
        source = self.source(self.doomed)
        for path in self.node.stored(self.doomed.uid)[1:]:
            path.write_bytes(b"no DICOM")
        statuses = [self.get(f"{source}/{number}")[0] for number in range(20)]
        self.assertEqual(sorted(statuses), [200] + [422] * 19)
        if CHROMIUM and CHROMEDRIVER:
            broken = next(number for number, status in enumerate(statuses) if status == 422)
            browser = self.opened(self.doomed, is_drawn=False)
            self.press(Keys.HOME + Keys.ARROW_UP * broken)
            browser.wait(lambda: "cannot be shown" in browser.text(".stage-message"), "it says why")
            self.assertEqual(browser.element(".viewer").get_attribute("data-drawn"), "")
            browser.complaints()

    def test_a_study_without_a_kept_finding_gets_one_by_being_analysed_again(self):
        study = self.clean
        (kept,) = (self.node.folder / "data" / "results" / study.uid).glob("finding-*.json")
        before = json.loads(kept.read_text())
        kept.unlink()
        page = f"/studies/{study.uid}/images"
        self.assertIn(b"no finding was kept", self.get(page)[1])
        self.node.command("study", "reprocess", study.uid)
        wait_for(lambda: b"data-source" in self.get(page)[1], "the finding is kept again", 20)
        self.assertEqual(json.loads(kept.read_text()), before)

    def test_a_finding_that_cannot_be_kept_is_reported_all_the_same(self):
        node = self.site.add_node("unkept", console={"tokens": [VIEWER]})
        study = self.doomed
        name = self.source(study).rpartition("/")[2]
        # What the file is to be renamed to.
        (node.folder / "data" / "results" / study.uid / f"finding-{name}.json" / "taken").mkdir(parents=True)
        self.addCleanup(node.stop)
        node.start()
        send_all(node, study.files)
        known = node.wait_until_delivered(study.uid)
        self.assertEqual(known["study"]["outcome"], "negative")
        self.assertIn("a finding cannot be kept", node.log_text())
        with urllib.request.urlopen(f"{node.url}/metrics", timeout=10) as metrics:
            self.assertIn(b"ichnode_findings_not_kept_total 1\n", metrics.read())


    # In a browser

    def opened(self, study: Study, is_drawn: bool = True) -> Browser:
        """At a fresh page of the study, its most suspicious slice drawn."""
        if not (CHROMIUM and CHROMEDRIVER):
            self.skipTest("chromium and chromium-driver are not installed")
        cls = type(self)
        if not hasattr(cls, "browser"):
            cls.browser = Browser()
            cls.addClassCleanup(cls.browser.close)
            headers = {"headers": {"Authorization": f"Bearer {TOKEN}"}}
            cls.browser.driver.execute_cdp_cmd("Network.enable", {})
            cls.browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)
        cls.browser.open(f"{self.url}/studies/{study.uid}/images")
        cls.browser.wait(lambda: cls.browser.element(".slider").get_attribute("aria-valuetext"), "the viewer is ready")
        if is_drawn:
            self.wait_for_picture()
        return cls.browser

    def wait_for_picture(self, number: int | None = None) -> int:
        """Of an image by its place, or any; its place."""

        def drawn():
            section, slider = (self.browser.element(each) for each in (".viewer", ".slider"))
            place = section.get_attribute("data-drawn")
            is_asked = number is None or place == str(number)
            return place if place and is_asked and place == slider.get_property("value") else None

        return int(self.browser.wait(drawn, f"image {number} is drawn"))

    def press(self, keys: str) -> None:
        self.browser.element(".stage").send_keys(keys)

    def picture(self, size: int = 128) -> np.ndarray:
        """The image as drawn pixel for pixel, [row][column][R, G, B]."""
        values = self.browser.script(
            """
            return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
              const shown = document.querySelector(".stage canvas"), size = arguments[0];
              const [left, top] = [shown.width, shown.height].map((side) => Math.round((side - size) / 2));
              const canvas = document.createElement("canvas");
              [canvas.width, canvas.height] = [size, size];
              const context = canvas.getContext("2d", { willReadFrequently: true });
              context.drawImage(shown, -left, -top);
              resolve(Array.from(context.getImageData(0, 0, size, size).data));
            })));
            """,
            size,
        )
        return np.array(values).reshape(size, size, 4)[..., :3]

    def test_a_flagged_slice_looks_as_its_capture_and_without_activation_as_its_image(self):
        browser = self.opened(self.thick)
        content = self.content(self.thick)
        most = max(
            (each for each in content["slices"] if each["isFlagged"]), key=lambda each: each["probability"]
        )["representative"]
        self.assertEqual(self.wait_for_picture(), most)
        uid = pydicom.dcmread(self.originals[most], stop_before_pixels=True).SOPInstanceUID
        found = self.pacs.captures(self.thick.uid)
        captures = [pydicom.dcmread(io.BytesIO(self.pacs.download(each))) for each in found]
        (capture,) = (
            each for each in captures if each.SourceImageSequence[0].ReferencedSOPInstanceUID == uid
        )
        self.press("z")
        drawn = self.picture().astype(int)
        expected = capture.pixel_array.astype(int)
        np.testing.assert_allclose(drawn[FREE_OF_TEXT], expected[FREE_OF_TEXT], atol=3)
        self.press("o")
        plain = self.picture().astype(int)
        grey = windowed(hounsfield(self.originals[most]), 40, 80)
        np.testing.assert_allclose(plain, np.repeat(grey[..., None], 3, axis=2), atol=1)
        # Something was laid over it, or the comparison says nothing.
        self.assertGreater(np.abs(drawn - plain).max(), 40)
        self.press("o")
        np.testing.assert_array_equal(self.picture(), drawn)
        self.assertEqual(browser.complaints(), [])

    def test_windows_by_key_button_and_number_change_the_picture(self):
        browser = self.opened(self.thick)
        self.press("zo")
        place = self.wait_for_picture()
        values = hounsfield(self.originals[place])

        def shows(centre: int, width: int) -> None:
            grey = windowed(values, centre, width)
            np.testing.assert_allclose(self.picture()[..., 0], grey, atol=1, err_msg=f"{centre} {width}")

        for key, centre, width in (("1", 40, 80), ("2", 40, 40), ("3", 75, 200), ("4", 50, 130), ("6", 600, 2800)):
            self.press(key)
            shows(centre, width)
        browser.element("[data-key='5']").click()
        shows(40, 375)
        for which, number in (("centre", 100), ("width", 50)):
            field = browser.element(f"[data-window={which}]")
            field.clear()
            field.send_keys(str(number))
        shows(100, 50)
        stage = browser.element(".stage")
        # Right button: across changes the width, up and down the centre.
        mouse = ActionChains(browser.driver, 10)
        mouse.w3c_actions.pointer_action.move_to(stage).pointer_down(button=2).move_by(30, -20).pointer_up(button=2)
        mouse.w3c_actions.perform()
        shows(120, 80)
        self.assertEqual(browser.complaints(), [])

    def test_goes_through_the_series_by_keys_wheel_slider_chart_and_flags(self):
        browser = self.opened(self.thin)
        content = self.content(self.thin)
        flagged = [each["representative"] for each in content["slices"] if each["isFlagged"]]
        start = self.wait_for_picture()
        self.press(Keys.ARROW_UP)
        self.assertEqual(self.wait_for_picture(start + 1), start + 1)
        for key, place in ((Keys.HOME, 0), (Keys.PAGE_UP, 10), (Keys.END, 49), ("p", flagged[-1]), ("m", start)):
            self.press(key)
            self.wait_for_picture(place)
        self.press("n")
        self.wait_for_picture(next((each for each in flagged if each > start), start))
        self.press(Keys.HOME)
        stage = ScrollOrigin.from_element(browser.element(".stage"))
        ActionChains(browser.driver, 10).scroll_from_origin(stage, 0, -120).perform()
        self.wait_for_picture(1)
        slider = browser.element(".slider")
        slider.send_keys(Keys.ARROW_RIGHT)
        self.wait_for_picture(2)
        chart = browser.element(".chart")
        mouse = ActionChains(browser.driver, 10)
        mouse.move_to_element_with_offset(chart, chart.size["width"] // 2 - 3, 0).click().perform()
        self.wait_for_picture(49)
        # Each image with the slice that it went into.
        number = content["images"][49]["slice"]
        said = slider.get_attribute("aria-valuetext")
        self.assertIn(f"image 50 of 50, {content['images'][49]['position']:.1f} mm", said)
        self.assertIn(f"probability {content['slices'][number]['probability']:.3f}", said)
        self.assertEqual(browser.text("[data-show=number]"), str(content["images"][49]["number"]))
        browser.resize((390, 844))
        self.assertLessEqual(browser.overflow(), 0)
        browser.resize((1280, 900))
        self.assertEqual(browser.complaints(), [])


if __name__ == "__main__":
    unittest.main()
