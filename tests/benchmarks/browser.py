"""Opens a page in Debian's Chromium, and keeps what it complained of and what it asked the network for."""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Milliseconds until the explorer is drawn and the browser has painted.
PAINTED = """async () => {
    const first = (name) => performance.getEntriesByName(name)[0]?.startTime;
    while (!first("first-contentful-paint")) await new Promise((done) => setTimeout(done, 20));
    return Math.max(first("drawn"), first("first-contentful-paint"));
}"""
# Milliseconds from each of many moves of the sliders to the end of the next frame.
REACTIONS = """async () => {
    const took = [];
    for (const range of document.querySelectorAll("#sliders input[type=range]")) {
        for (let step = 0; step < 12; step++) {
            range.value = (step * 67) % 201;
            const begin = performance.now();
            range.dispatchEvent(new Event("input"));
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            took.push(performance.now() - begin);
        }
    }
    return took;
}"""


@dataclass
class Opened:
    """A page, with the addresses that it asked for and what went wrong in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def select(self) -> tuple[str, list[str]]:
        """The key that the page picks, empty where nothing fits, and the arguments of its `paretoformer` command."""
        name, *arguments = shlex.split(self.page.inner_text("#command"))
        assert name == "paretoformer"
        return str(self.page.locator("#pick").get_attribute("data-key")), arguments


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
