"""Opens a page in Debian's Chromium, and keeps what it complained of and what it asked the network for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@dataclass
class Opened:
    """A page, with the addresses that it asked for and what went wrong in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def select(self) -> tuple[str, list[str]]:
        """The key that the page picks, empty where nothing fits, and the arguments of the command it gives."""
        return str(self.page.locator("#pick").get_attribute("data-key")), self.page.inner_text("#command").split()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "The page is tested in Chromium, which is not installed. Cure: apt-get install chromium"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, file: Path, viewport: Any = DESKTOP) -> Opened:
    """The page in `file`, drawn."""
    opened = Opened(browser.new_page(viewport=viewport))
    opened.page.set_default_timeout(10_000)
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on("console", lambda message: opened.errors.append(message.text) if message.type == "error" else None)
    opened.page.goto(file.as_uri())
    return opened
