"""The lab and the book in a real browser: Debian's chromium, without a window, on this machine only.

`make test-browser` runs these tests. They are slow and need a browser, so pytest collects them only when this folder
is named: `pytest tests/browser`.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from lab_server import Lab, serve_lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PICTURES = ROOT / "build" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave this folder out of a run that does not name it."""
    paths = [(config.invocation_params.dir / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in paths) else True


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser that is installed; nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        names = ", ".join(NAMES)
        pytest.exit(f"None of {names} is on the PATH. On Debian: sudo apt install chromium", returncode=1)
    with sync_playwright() as playwright:
        # Chromium's sandbox does not work for root, who is what most containers have.
        browser = playwright.chromium.launch(executable_path=found, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh page; its last sight is kept as a picture, and it must have asked nobody but this machine."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    yield page
    page.screenshot(path=PICTURES / f"{request.node.name}.png")
    page.close()
    assert {urlsplit(url).hostname for url in asked} <= {None, "127.0.0.1"}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as `make lab` starts it, over a copy of the notebooks: what a run saves must not change ours."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended from outside ends its server, too
    folder = tmp_path_factory.mktemp("course")
    for source in (ROOT / "tools" / "lab.py", *ROOT.glob("notebooks/*.ipynb")):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(source, target)
    PICTURES.mkdir(parents=True, exist_ok=True)
    with serve_lab(folder, PICTURES / "lab.log") as served:
        yield served
