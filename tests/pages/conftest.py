"""A small catalog with the spectra behind it, hostile names in it, and pages made of it; a real Chromium."""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from survey.catalog.catalog import CatalogResult
from survey.store.store import open_store
from tests.catalog import skies
from tests.catalog.test_catalog import run
from tests.commands import survey
from tests.reports.test_candidate_spectra import predict_store
from tests.training import lessons

COUNT, SHARD, TWICE = 240, 50, 40
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    '"><img src=x onerror=window.hacked=1>',
    "=HYPERLINK(1) {{ 7*7 }} ${1} \u2028 星 Ω'\"\\",
)
"""Names that must stay text, whatever reads them."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def vetted(tmp_path_factory: pytest.TempPathFactory) -> CatalogResult:
    """A catalog of toy stars; the last spectra are second visits of the first stars."""
    folder = tmp_path_factory.mktemp("pages")
    store = open_store(str(lessons.store(folder / "store", COUNT, SHARD)))
    labels = lessons.stars(COUNT)
    names = [f"J{number:04d}" for number in range(COUNT - TWICE)]
    rich = [n for n in np.flatnonzero((labels["FeH"] < -1) & (labels["CFe"] > 0.7)) if n < len(names)]
    for place, name in zip(rich, HOSTILE, strict=False):
        names[place] = name
    names += names[:TWICE]
    answers: dict[str, Any] = {name: labels[name] for name in skies.LABELS}
    for name in skies.LABELS:
        answers[name] = np.concatenate([answers[name][:-TWICE], answers[name][:TWICE]])
        answers |= {f"{name}_low": answers[name] - 0.2, f"{name}_high": answers[name] + 0.2}
    snr = np.random.default_rng(3).uniform(30, 90, COUNT)
    predict_store(folder, store, **answers, star=names, snr=snr, domain=np.full(COUNT, 0.5))
    return run(folder, exports=[])


@pytest.fixture(scope="session")
def vetting_page(vetted: CatalogResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page to vet the CEMP list; every second candidate comes again."""
    path = tmp_path_factory.mktemp("page") / "vetting.html"
    done = survey("report", f"of={vetted.folder}", "list=cemp", f"page={path}", "again=0.5")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="session")
def catalog_page(vetted: CatalogResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about the catalog."""
    path = tmp_path_factory.mktemp("page") / "catalog.html"
    done = survey("report", f"of={vetted.folder}", f"page={path}")
    assert done.returncode == 0, done.stderr
    return path


def _chromium() -> str | None:
    """A Chromium of this machine, or that of Playwright. CI, which runs as root, installs Debian's."""
    if found := _installed():
        return found
    if os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        with (Path(tempfile.gettempdir()) / "survey-chromium.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one of the processes of the tests installs it
            if not _installed():
                install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    subprocess.run(install, timeout=180, capture_output=True, check=False)
    return _installed()


def _installed() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@dataclass
class Visitor:
    """A browser window in which nothing can be loaded from a network, and all that its console has said."""

    context: Any
    page: Any
    said_by_console: list[str] = field(default_factory=list)

    def open(self, path: Path) -> Any:
        """A page from the disk, when it is ready."""
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Playwright for Python: pip install playwright")
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as player:
        try:
            started = player.chromium.launch(
                executable_path=_chromium(), args=["--headless", "--disable-gpu", "--no-sandbox"]
            )
        except Error:
            pytest.skip("needs Chromium: apt-get install chromium, or playwright install chromium")
        yield started
        started.close()


@pytest.fixture(scope="module")
def window(browser: Any) -> Iterator[Visitor]:
    """A window of a laptop."""
    yield from _window(browser, width=1280, height=800)


@pytest.fixture
def visitor(window: Visitor) -> Iterator[Visitor]:
    """A window of a laptop, with empty storage, without a network; its console must stay empty."""
    yield window
    window.page.evaluate("localStorage.clear()")
    window.page.goto("about:blank")
    assert window.said_by_console == []


@pytest.fixture
def phone(browser: Any) -> Iterator[Visitor]:
    """A window as wide as a phone."""
    yield from _window(browser, width=390, height=844)


@pytest.fixture(scope="module")
def vetting_window(browser: Any, vetting_page: Path) -> Iterator[Visitor]:
    """A window with the vetting page, of the tests that leave it as it was."""
    yield from _opened(browser, vetting_page)


@pytest.fixture(scope="module")
def catalog_window(browser: Any, catalog_page: Path) -> Iterator[Visitor]:
    """A window with the page about the catalog, of the tests that leave it as it was."""
    yield from _opened(browser, catalog_page)


@pytest.fixture
def vetting(vetting_window: Visitor) -> Iterator[Any]:
    """The vetting page as it opens, to be left like that; its console must stay empty."""
    yield vetting_window.page
    assert vetting_window.said_by_console == []


@pytest.fixture
def catalog(catalog_window: Visitor) -> Iterator[Any]:
    """The page about the catalog as it opens, to be left like that; its console must stay empty."""
    yield catalog_window.page
    assert catalog_window.said_by_console == []


def _opened(browser: Any, path: Path) -> Iterator[Visitor]:
    for visitor in _window(browser, width=1280, height=800):
        visitor.open(path)
        yield visitor


def _window(browser: Any, width: int, height: int) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    found = Visitor(context, context.new_page())
    found.page.on("console", lambda message: found.said_by_console.append(message.text))
    found.page.on("pageerror", lambda error: found.said_by_console.append(str(error)))
    yield found
    context.close()
    assert found.said_by_console == []
