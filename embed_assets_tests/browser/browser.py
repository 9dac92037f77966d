"""A real browser without a window, that looks at Dagster's UI: Debian's chromium by selenium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
#: Seconds until a page must be there; a cold UI loads slowly on a busy machine.
_PATIENCE = 90


class Browser:
    """One window on a Dagster UI."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self._driver = driver
        self._url = url

    def visit(self, path: str, *texts: str) -> None:
        """Open a page of the UI, and wait until it shows all the texts."""
        self._driver.get(f"{self._url}{path}")
        for text in texts:
            self.wait_for(text)

    def wait_for(self, text: str) -> None:
        """Wait until a text is visible. Raises AssertionError with what is there instead."""
        try:
            WebDriverWait(self._driver, _PATIENCE).until(lambda _: text in self.text)
        except Exception as error:
            raise AssertionError(f"{text!r} is not on the page, which says: {self.text}") from error

    @property
    def text(self) -> str:
        """All visible text."""
        return str(self._driver.execute_script("return document.body.innerText"))

    def click(self, text: str) -> None:
        """Click on the first button or link of that text."""
        xpath = f"//*[self::button or self::a][contains(., {text!r})]"
        found = WebDriverWait(self._driver, _PATIENCE).until(
            lambda driver: driver.find_elements(By.XPATH, xpath)
        )
        found[0].click()

    def settle(self) -> None:
        """Wait until nothing fades or slides any more."""
        script = "return document.getAnimations().every(a => a.playState !== 'running')"
        WebDriverWait(self._driver, _PATIENCE).until(lambda driver: driver.execute_script(script))

    def pictures(self, n: int) -> list[tuple[int, int]]:
        """(width, height) in pixels of the report's pictures, once n of them are drawn.

        A picture that is not drawn counts as (0, 0).
        """
        script = (
            "return [...document.querySelectorAll('img[src^=\"data:image/png\"]')]"
            ".map(i => i.complete && i.offsetParent !== null "
            "? [i.naturalWidth, i.naturalHeight] : [0, 0])"
        )
        WebDriverWait(self._driver, _PATIENCE).until(
            lambda driver: len(driver.execute_script(script)) >= n
        )
        return [(int(w), int(h)) for w, h in self._driver.execute_script(script)]

    def save(self, file: Path) -> None:
        """A screenshot as PNG, once the page stands still."""
        self.settle()
        file.write_bytes(self._driver.get_screenshot_as_png())


@contextmanager
def browser(url: str, width: int = 2400, height: int = 900) -> Iterator[Browser]:
    """A browser that looks at the UI at `url`, and ends with the block.

    In a window of less than 2,400 pixels the graph of a pipeline shows no more than names.
    """
    assert CHROMIUM is not None
    assert CHROMEDRIVER is not None
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", f"--window-size={width},{height}", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        # chromium refuses its sandbox to root, as in a container.
        options.add_argument("--no-sandbox")
        options.add_argument("--disable-dev-shm-usage")
    driver = Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        driver.get(url)
        # Room for the page itself.
        driver.execute_script("localStorage.setItem('dagster-nav-collapsed', 'true')")
        yield Browser(driver, url)
    finally:
        driver.quit()
