"""The console as people use it: every page in a real browser, in both themes, on a desk's screen and a phone's.

ICHNODE_PICTURES=folder keeps a picture of each page (make console-pictures)."""

import os
import subprocess
import unittest
from pathlib import Path

from browser import CHROMEDRIVER, CHROMIUM, DESK, PHONE, THEMES, browser
from node_fixture import (
    BLEED_SEED,
    ICHNODE,
    NodeTestCase,
    example_head,
    free_ports,
    needs_example_head,
    needs_node,
    phantom,
    storescu,
    wait_for,
)

PICTURES = os.environ.get("ICHNODE_PICTURES")
PASSWORD = "correct horse battery"
ABDOMEN = ("--body-part", "ABDOMEN", "--study-description", "CT ABDOMEN", "--series-description", "ABDOMEN 5.0")
PAGES = ("/", "/deliveries", "/alerts", "/peers", "/figures", "/system", "/model", "/configuration")

SIGN_OUT = """
fetch("/sign-out", { method: "POST", redirect: "manual",
  headers: { "X-CSRF-Token": document.querySelector("meta[name=csrf-token]").content } });
"""

# WCAG 2.2 on an open page, as far as a script can tell: contrast of each text (1.4.3), names of what can be used (4.1.2),
# one heading of the first level, no id twice.
FAULTS = r"""
const faults = [];
const parse = (text) => {
  const parts = text.match(/[\d.]+/g).map(Number);
  return parts.length < 4 ? [...parts, 1] : parts;
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const ground = (element) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    const colour = parse(getComputedStyle(each).backgroundColor);
    if (colour[3] > 0) layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const light = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = new Set();
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || seen.has(element)) continue;
  seen.add(element);
  if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  if (element.closest(":disabled, svg, canvas, script, style, noscript")) continue;
  const box = element.getBoundingClientRect();
  if (box.width < 2 || box.height < 2 || box.right < 0) continue;
  const style = getComputedStyle(element);
  const below = ground(element);
  const [a, b] = [light(over(parse(style.color), below)), light(below)].sort((x, y) => y - x);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < (isLarge ? 3 : 4.5) - 0.005)
    faults.push(`contrast ${contrast.toFixed(2)}: "${element.textContent.trim().slice(0, 40)}" (${style.color})`);
}
const named = (element) =>
  element.getAttribute("aria-label") || element.getAttribute("aria-labelledby") || element.textContent.trim() ||
  element.title || element.labels?.length || element.value || element.querySelector("img[alt], title");
for (const element of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, [role=button]"))
  if (!named(element)) faults.push(`no name: ${element.outerHTML.slice(0, 120)}`);
for (const image of document.querySelectorAll("img:not([alt])")) faults.push(`no alt: ${image.outerHTML.slice(0, 120)}`);
if (document.querySelectorAll("h1").length !== 1) faults.push(`${document.querySelectorAll("h1").length} h1`);
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) faults.push(`id twice: ${id}`);
return faults;
"""


def hash_of(password: str) -> str:
    """As an administrator makes it."""
    done = subprocess.run(
        [ICHNODE, "console", "hash-password"], input=password, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


@needs_node
@needs_example_head
@unittest.skipUnless(CHROMIUM and CHROMEDRIVER, "Debian's chromium and chromium-driver are not installed")
class Console(NodeTestCase):
    """One node with a positive, a negative and an undetermined study, and a destination that does not answer."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        hashed = hash_of(PASSWORD)
        users = [{"name": name, "role": name, "password_hash": hashed} for name in ("viewer", "operator")]
        cls.console = cls.site.add_node(
            "console",
            console={"users": users},
            operator_alerts={"check_seconds": 1, "destination_minutes": 0.05},
            delivery={"first_retry_seconds": 1, "most_retry_seconds": 600},
        )
        cls.addClassCleanup(cls.console.stop)
        (cls.archive_port,) = free_ports(1)
        cls.console.add_peer("archive", ae_title="ARCHIVE", host="127.0.0.1", port=cls.archive_port)
        cls.console.change_route(destinations=["pacs", "archive"])
        cls.console.start()
        folder = cls.console.folder
        cls.positive = example_head(folder / "positive", "PAINTED", BLEED_SEED)
        cls.negative = phantom(folder / "negative", *cls.person("WEBER^KARL", "4711"))
        cls.undetermined = phantom(folder / "undetermined", "--slices", "30", *cls.person("YILMAZ^AYSE", "4712"))
        cls.undetermined.files[12].unlink()
        others = [
            phantom(folder / "abdomen", *cls.person("NOVAK^JANA", "4713"), "--uniform", "40", *ABDOMEN),
            phantom(folder / "contrast", *cls.person("SMITH^JOHN", "4714"), "--contrast"),
            phantom(folder / "second", *cls.person("MORI^HANA", "4715"), "--seed", "5"),
        ]
        storescu(cls.console, *(each.files[0].parent for each in (*others, cls.negative, cls.undetermined, cls.positive)))
        wait_for(
            lambda: "as it stands" in cls.console.command("study", "complete", cls.undetermined.uid),
            "the study that lacks a slice waits for it",
            10,
        )
        studies = (cls.positive, cls.negative, cls.undetermined)
        wait_for(
            lambda: all((cls.console.study(each.uid) or {"analyses": []})["analyses"] for each in studies),
            "all studies are analysed",
            60,
            cls.console.log_tail,
        )
        cls.chromium = cls.enterClassContext(browser())
        cls.chromium.sign_in(cls.console.url, "operator", PASSWORD)

    @staticmethod
    def person(name: str, number: str) -> list[str]:
        return ["--patient-name", name, "--patient-id", number, "--accession", f"A{number}"]

    def pages(self) -> dict[str, str]:
        """Path by a name for its picture."""
        found = {path.strip("/") or "worklist": path for path in PAGES}
        for name in ("positive", "negative", "undetermined"):
            found[f"study-{name}"] = f"/studies/{getattr(self, name).uid}"
        return found | {"viewer": f"/studies/{self.positive.uid}/images"}

    def open(self, path: str) -> None:
        self.chromium.open(self.console.url + path)

    def test_every_page_is_readable_on_a_desk_and_a_phone_in_both_themes(self):
        for name, path in self.pages().items():
            self.open(path)
            for size in (DESK, PHONE):
                self.chromium.resize(size)
                self.assertLessEqual(self.chromium.overflow(), 0, f"{path} at {size} is wider than the screen")
                for theme in THEMES:
                    with self.subTest(page=path, size=size, theme=theme):
                        self.chromium.theme(theme)
                        self.assertEqual(self.chromium.script(FAULTS), [])
            self.assertEqual(self.chromium.complaints(), [], path)
            if PICTURES:
                self.chromium.pictures(Path(PICTURES), name)
        self.chromium.resize(DESK)
        self.chromium.theme("light")

    def test_the_worklist_leads_to_the_study_by_keyboard(self):
        self.open("/")
        self.chromium.act(f"main a[href*='{self.positive.uid}']", lambda link: link.send_keys("\n"))
        self.chromium.wait(lambda: self.positive.uid in self.chromium.driver.current_url, "the study's page")
        self.assertIn("positive", self.chromium.text())

    def test_a_delivery_is_retried_and_the_page_says_so(self):
        owed = self.console.command("outbox", "list")
        self.assertIn("archive", owed)
        self.open("/deliveries")
        self.chromium.act("form[action$='/retry'] button", lambda button: button.click())
        self.chromium.wait(lambda: "tried again now" in self.chromium.text(), "what was done is shown")

    def test_a_viewer_sees_studies_and_may_do_nothing(self):
        with browser() as other:
            other.sign_in(self.console.url, "viewer", PASSWORD)
            other.open(f"{self.console.url}/studies/{self.positive.uid}")
            self.assertIn("positive", other.text())
            self.assertEqual(other.elements("main form[method=post]"), [])

    def test_no_patients_stay_on_the_screen_after_the_session(self):
        with browser() as other:
            other.sign_in(self.console.url, "viewer", PASSWORD)
            other.open(self.console.url + "/")
            other.wait(lambda: other.element("#live-state").text == "live", "the page is live")
            self.assertIn("WEBER", other.text())
            # As in another tab; the node says every 15 s that it is there, and then to nobody.
            other.script(SIGN_OUT)
            other.wait(lambda: "/sign-in" in other.driver.current_url, "the sign-in page", 25)
            self.assertNotIn("WEBER", other.text())

    def test_a_heatmap_is_scrolled(self):
        self.open(f"/studies/{self.positive.uid}/images")
        slider = self.chromium.element("input[type=range]")
        before = slider.get_attribute("value")
        picture = self.chromium.script("return document.querySelector('canvas').toDataURL()")
        slider.send_keys("\ue013\ue013\ue013")
        self.chromium.wait(lambda: slider.get_attribute("value") != before, "the slider moves")
        self.chromium.wait(
            lambda: self.chromium.script("return document.querySelector('canvas').toDataURL()") != picture,
            "another slice is drawn",
        )


if __name__ == "__main__":
    unittest.main()
