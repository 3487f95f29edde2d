"""The memory of scans heals: damaged it is begun anew, locked or out of reach it is done without."""

import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_video.video import known
from ssl_video.video import scan as scan_module
from ssl_video.video.info import Problem, VideoInfo
from ssl_video.video.known import Known
from ssl_video.video.scan import scan
from tests import videos

INFO = VideoInfo(40, 25.0, 64, 48, 1.6, "h264", content="0123456789abcdef")


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    """A memory of fifty files."""
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "cache"))
    memory = Known()
    for n in range(50):
        memory.put(f"/v/{n}.mp4", "1|1", INFO if n % 2 else Problem(f"/v/{n}.mp4", "it has no video stream"))
    memory.close()
    return tmp_path / "cache" / "probes.sqlite"


def zeros(base: Path) -> None:
    content = bytearray(base.read_bytes())
    content[:2048] = bytes(2048)
    base.write_bytes(content)


def zeros_inside(base: Path) -> None:
    content = bytearray(base.read_bytes())
    content[4096:6144] = bytes(2048)
    base.write_bytes(content)


def truncated(base: Path) -> None:
    base.write_bytes(base.read_bytes()[:5000])


def text(base: Path) -> None:
    base.write_text("no database, but text of some length\n" * 100)


def a_byte_of_its_words(base: Path) -> None:
    """The message of the data base has the byte, too, and is no UTF-8 any more."""
    base.write_bytes(base.read_bytes().replace(b"TABLE probes", b"\xd0ABLE probes"))


def folder(base: Path) -> None:
    base.unlink()
    (base / "below").mkdir(parents=True)


def another_layout(base: Path) -> None:
    base.unlink()
    with sqlite3.connect(base) as other:
        other.execute("CREATE TABLE probes (file TEXT, size INTEGER)")
    other.close()


def a_view(base: Path) -> None:
    base.unlink()
    with sqlite3.connect(base) as other:
        other.execute("CREATE VIEW probes AS SELECT 1 AS path, 2 AS state, 3 AS found")
    other.close()


DAMAGES = (zeros, zeros_inside, truncated, text, a_byte_of_its_words, folder, another_layout, a_view)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore:.*was damaged")
def test_a_damaged_memory_is_set_aside_and_begun_anew(base, damage):
    damage(base)
    memory = Known()
    for n in range(50):
        assert memory.get(f"/v/{n}.mp4", "1|1") in (None, INFO, Problem(f"/v/{n}.mp4", "it has no video stream"))
    memory.put("/v/new.mp4", "1|1", INFO)
    memory.close()
    assert list(base.parent.glob("probes.sqlite.damaged-*"))
    memory = Known()
    assert memory.get("/v/new.mp4", "1|1") == INFO
    memory.close()


@pytest.mark.filterwarnings("ignore:.*was damaged")
def test_no_byte_that_is_changed_ends_a_scan_or_changes_a_fact(base, tmp_path):
    whole = base.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 8):
            content[place] = rng.integers(0, 256)
        base.write_bytes(content[: int(rng.integers(1, len(content) + 1))] if rng.random() < 0.3 else content)
        memory = Known()
        for n in range(0, 50, 7):
            found = memory.get(f"/v/{n}.mp4", "1|1")
            assert found in (None, INFO, Problem(f"/v/{n}.mp4", "it has no video stream"))
        memory.put("/v/new.mp4", "1|1", INFO)
        memory.close()
        for aside in base.parent.glob("probes.sqlite*"):
            aside.unlink()


def test_what_is_not_of_our_making_is_not_known(base):
    other = sqlite3.connect(base)
    with other:
        other.execute("UPDATE probes SET found = replace(found, '40', '41')")
    other.close()
    memory = Known()
    assert {type(memory.get(f"/v/{n}.mp4", "1|1")) for n in range(1, 50, 2)} == {type(None)}
    memory.close()


def test_a_memory_that_is_locked_is_waited_for_and_then_done_without(base, monkeypatch, tmp_path):
    monkeypatch.setattr(known, "WAIT_S", 0.1)
    path = str(videos.mp4(tmp_path / "v.mp4", count=5))
    other = sqlite3.connect(base)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.warns(UserWarning, match="locked by another process"):
        assert isinstance(next(scan([path]))[1], VideoInfo)
    other.rollback()
    other.close()
    assert not list(base.parent.glob("*damaged*"))


def test_a_memory_that_can_only_be_read_is_read(base, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(known.sqlite3, "connect", lambda f, **_: connect(f"file:{f}?mode=ro", uri=True))
    memory = Known()
    memory.put("/v/new.mp4", "1|1", INFO)
    assert memory.get("/v/1.mp4", "1|1") == INFO and memory.get("/v/new.mp4", "1|1") is None
    memory.close()
    assert not list(base.parent.glob("*damaged*"))


def test_names_that_are_not_utf_8_are_known_again(base):
    memory = Known()
    memory.put("/v/caf\udce9.mp4", "1|1", INFO)
    assert memory.get("/v/caf\udce9.mp4", "1|1") == INFO
    memory.close()


def test_a_memory_of_another_version_is_passed_over(base, monkeypatch):
    monkeypatch.setattr(known, "VERSION", known.VERSION + 1)
    memory = Known()
    assert memory.get("/v/1.mp4", "1|1") is None
    memory.close()


def test_a_command_does_not_end_because_the_memory_is_damaged(base, tmp_path, monkeypatch):
    path = str(videos.mp4(tmp_path / "v.mp4", count=5))
    zeros(base)
    with pytest.warns(UserWarning, match="was damaged"):
        first = list(scan([path]))
    monkeypatch.setattr(scan_module, "CHILD", (sys.executable, "-c", "raise SystemExit(1)"))
    assert list(scan([path])) == first
    shutil.rmtree(base.parent)
