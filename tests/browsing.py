"""A real Chromium for the tests of pages: what it was asked for, what it complained of, and what axe-core finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 320, "height": 700}


def chromium() -> str:
    """Where Chromium is; without it the test is skipped, or fails where CI is set."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        missing("Chromium is not installed (Debian, Ubuntu: apt install chromium)")
    return found


def missing(what: str) -> NoReturn:
    """Skip with this reason, or fail where CI is set: there everything has to be judged."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright is not installed: see requirements-dev.txt")
    with sync_playwright() as playwright:
        # Without a sandbox only because root, as in a container, may have none.
        found = playwright.chromium.launch(executable_path=chromium(), chromium_sandbox=os.geteuid() != 0)
        try:
            yield found
        finally:
            found.close()


class Visit:
    """A page that was opened, with what it asked for and what it complained of meanwhile."""

    def __init__(self, browser: Browser, path: Path, fragment: str = "", **settings: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        context = browser.new_context(**{"viewport": WIDE, **settings})
        context.set_default_timeout(10_000)
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{path.resolve().as_uri()}#{fragment}" if fragment else path.resolve().as_uri())

    @property
    def foreign(self) -> list[str]:
        """What was asked for beside the page itself."""
        return self.requests[1:]

    def audit(self) -> list[str]:
        """What axe-core finds wrong, one sentence each."""
        package = find_spec("axe_playwright_python")
        if package is None or package.origin is None:
            missing("axe-core is not installed: see requirements-dev.txt")
        self.page.evaluate(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run()")["violations"]
        return [f"{one['id']}: {one['help']}: {node['html'][:160]}" for one in found for node in one["nodes"][:3]]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
