"""Headless Chromium for the tests of the console, and its pictures: both themes, a desk's screen and a phone's."""

from __future__ import annotations

import base64
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")
DESK = (1280, 900)
PHONE = (390, 844)
THEMES = ("light", "dark")


class Browser:
    """One browser with a profile of its own. What its pages complain about on the console of the browser is kept."""

    def __init__(self, size: tuple[int, int] = DESK, is_certificate_checked: bool = True):
        self._profile = tempfile.TemporaryDirectory(prefix="ichnode-browser-")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new",
            # Tests run as root in a container.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={self._profile.name}",
        ):
            options.add_argument(argument)
        options.accept_insecure_certs = not is_certificate_checked
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
        self.driver.set_page_load_timeout(30)
        self.resize(size)

    def resize(self, size: tuple[int, int]) -> None:
        """Of the page, not of the window: a phone's width is below the least of a window."""
        width, height = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 720},
        )

    def theme(self, theme: str) -> None:
        """As the system of the user has it."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> None:
        self.driver.get(url)

    def sign_in(self, url: str, user: str, password: str) -> None:
        self.open(f"{url}/sign-in")
        self.element("input[name=user]").send_keys(user)
        self.element("input[name=password]").send_keys(password)
        self.element("main form button").click()
        self.wait(lambda: "/sign-in" not in self.driver.current_url, "signed in")

    def element(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def elements(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def act(self, selector: str, action) -> None:
        """Does something with an element, on pages that exchange theirs while they are read."""

        def done():
            try:
                action(self.element(selector))
                return True
            except (NoSuchElementException, StaleElementReferenceException):
                return False

        self.wait(done, selector)

    def text(self, selector: str = "main") -> str:
        return self.element(selector).text

    def script(self, text: str, *arguments):
        return self.driver.execute_script(text, *arguments)

    def wait(self, condition, what: str, seconds: float = 10):
        try:
            # Pages change while they are looked at.
            waiting = WebDriverWait(self.driver, seconds, 0.05, [StaleElementReferenceException])
            return waiting.until(lambda _: condition())
        except TimeoutException:
            text = self.text("body")[:2000]
            raise AssertionError(f"not in {seconds:g} s: {what}\n{self.driver.current_url}\n{text}") from None

    def complaints(self) -> list[str]:
        """Errors and refusals of the content security policy since the last call."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window: a page that has to be pushed about on a phone."""
        return self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def picture(self, path: Path) -> None:
        """Of the whole page, at most 4000 pixels high."""
        height = min(4000, self.script("return document.documentElement.scrollHeight"))
        width = self.script("return document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        answer = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pictures(self, folder: Path, name: str) -> None:
        """Of the open page in both themes, on a desk's screen and on a phone's."""
        for size, where in ((DESK, "desk"), (PHONE, "phone")):
            self.resize(size)
            for theme in THEMES:
                self.theme(theme)
                self.picture(folder / f"{name}-{where}-{theme}.png")
        self.resize(DESK)
        self.theme("light")

    def close(self) -> None:
        self.driver.quit()
        self._profile.cleanup()


@contextmanager
def browser(**options):
    opened = Browser(**options)
    try:
        yield opened
    finally:
        opened.close()
