"""Fixtures shared by the suite."""

import gc
import os
import shutil
from pathlib import Path

import pytest

from ssl_video import processes

os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:  # two processes on two cores; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    processes.cores = lambda: 1  # the other core is the other process's, and a second child takes its time to start


def pytest_collection_finish() -> None:
    """What was imported lives to the end: the garbage collector need not look at its million objects every time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """As Python ends, all of it is to go: some libraries complain of what is left."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real videos: $SSL_VIDEO_TEST_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get("SSL_VIDEO_TEST_DATA")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no real videos at {root} (set SSL_VIDEO_TEST_DATA)")
    return root


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or writes the user's cache; the suite shares one of its own, so that a file is probed once."""
    os.environ["SSL_VIDEO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def children(tmp_path_factory):
    """The processes that scan and copy do not import numpy, av and torch for every few files of a test."""
    from ssl_video.video import cache, scan
    from tests import warm

    with warm.interpreter(tmp_path_factory.mktemp("children")) as python, pytest.MonkeyPatch.context() as patch:
        for module in (scan, cache):
            patch.setattr(module, "CHILD", (str(python), *module.CHILD[1:]))
        yield


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, Debian's."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
