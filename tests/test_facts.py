"""What the machine did is no fact about a file: what is kept of files, in which state, and what is never kept."""

import errno
import json
import os
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from ssl_video.cli import main
from ssl_video.datasets import cached as copies
from ssl_video.datasets.base import ListedVideo, VideoList
from ssl_video.datasets.prepare import copy_videos, scan_to_manifest
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.statistics import _statistic, statistics_of
from ssl_video.errors import UserError
from ssl_video.video import cache, known
from ssl_video.video import scan as scan_module
from ssl_video.video.children import Children, OutputError
from ssl_video.video.content import state_of
from ssl_video.video.info import FileChanged, Problem, VideoError, VideoInfo, behind
from ssl_video.video.scan import scan, scan_one
from tests import videos, warm

CHILD = """
import errno, os, signal, sys, time
from dataclasses import asdict
from pathlib import Path
from ssl_video.video import children, scan
from ssl_video.video.alive import beat
from ssl_video.video.info import VideoError
def reply(path):
    {body}
    return asdict(scan.scan_one(path))
children.answer_requests(reply)
"""


@pytest.fixture(autouse=True)
def a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def video(tmp_path) -> str:
    return str(videos.mp4(tmp_path / "v.mp4", count=9))


def scanned_by(monkeypatch, body: str, *paths: str, **options) -> list[VideoInfo | Problem]:
    """What a scan finds whose children do ``body`` first."""
    with monkeypatch.context() as patched:
        patched.setattr(scan_module, "CHILD", (sys.executable, "-c", CHILD.format(body=body.replace("\n", "\n    "))))
        return [found for _, found in scan(paths, **options)]


def reason_of(found: VideoInfo | Problem) -> str:
    assert isinstance(found, Problem)
    return found.reason


PASSING = {
    "no memory": "raise MemoryError()",
    "FFmpeg without memory": "import av; av.error.err_check(-errno.ENOMEM)",
    "torch without memory": 'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
    "a full disk": "raise OSError(errno.ENOSPC, 'No space left on device')",
    "a disk that fails": "raise OSError(errno.EIO, 'Input/output error')",
    "a network disk that is gone": "raise OSError(errno.ESTALE, 'Stale file handle')",
    "a package that is gone": "import no_such_package",
    "permission, behind an error of ours": (
        "try: raise PermissionError(errno.EACCES, 'no')\nexcept OSError: raise VideoError('it cannot be decoded')"
    ),
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "ended": "os.kill(os.getpid(), signal.SIGTERM)",
    "an exit": "os._exit(3)",
    "hanging": "time.sleep(60)",
}


@pytest.mark.parametrize("body", PASSING.values(), ids=list(PASSING))
def test_what_the_machine_does_is_asked_anew(video, monkeypatch, body):
    (found,) = scanned_by(monkeypatch, body, video, time_limit_s=1.0)
    assert isinstance(found, Problem) and found.passing, found
    assert isinstance(next(scan([video]))[1], VideoInfo)


def test_what_the_bytes_say_is_kept_until_another_decoder_comes(tmp_path, monkeypatch):
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    ((_, found),) = scan([str(path)])
    assert isinstance(found, Problem) and not found.passing
    assert scanned_by(monkeypatch, "os._exit(3)", str(path)) == [found]
    monkeypatch.setattr(known, "DECODER", "PyAV 99")
    assert "was ended" in reason_of(*scanned_by(monkeypatch, "os._exit(3)", str(path)))


def test_a_crash_is_tried_again_alone_and_then_kept(video, tmp_path, monkeypatch):
    body = f"with open({str(tmp_path / 'tried')!r}, 'a') as f: f.write('x')\nos.abort()"
    found = scanned_by(monkeypatch, body, video)
    assert "crashed" in reason_of(*found) and (tmp_path / "tried").read_text() == "xx"
    assert [f for _, f in scan([video])] == found


def test_a_child_that_is_killed_once_gives_the_facts_at_the_second_try(tmp_path, monkeypatch):
    paths = [str(videos.mp4(tmp_path / f"{n}.mp4", count=5)) for n in range(4)]
    body = (
        f"mark = Path({str(tmp_path)!r}) / f'{{Path(path).stem}}.tried'\n"
        "if not mark.exists():\n    mark.touch()\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    found = scanned_by(monkeypatch, body, *paths, workers=2)
    assert all(isinstance(one, VideoInfo) for one in found)


def test_a_child_that_cannot_start_says_why_and_nothing_is_kept(video, monkeypatch):
    monkeypatch.setattr(scan_module, "CHILD", (sys.executable, "-c", "import no_such_package"))
    ((_, found),) = scan([video])
    assert "did not start" in reason_of(found) and "No module named 'no_such_package'" in reason_of(found)


def test_a_file_that_grows_while_it_is_scanned_is_not_kept(video, monkeypatch):
    (found,) = scanned_by(monkeypatch, "open(path, 'ab').write(b'more')", video)
    assert isinstance(found, Problem) and found.passing and "changed while it was read" in found.reason
    assert isinstance(next(scan([video]))[1], VideoInfo)


def test_a_file_that_changes_while_it_is_read_in_this_process_is_no_video(video, monkeypatch):
    monkeypatch.setattr(
        scan_module, "_scan_file", lambda path: Path(path).write_bytes(b"x") and VideoInfo(1, 1, 1, 1, 1, "h264")
    )
    with pytest.raises(FileChanged):
        scan_one(video)


def test_rights_are_no_change(video):
    before = state_of(video)
    os.chmod(video, 0o600)  # noqa: PTH101
    assert state_of(video) == before


def test_no_permission_is_said_and_asked_anew(video, monkeypatch):
    def refused(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", video)

    with monkeypatch.context() as patched:
        patched.setattr("ssl_video.video.children.os.open", refused)
        assert next(scan([video]))[1] == Problem(video, "permission denied", passing=True)
    assert isinstance(next(scan([video]))[1], VideoInfo)


def test_a_picture_that_is_changed_in_its_folder_is_noticed(tmp_path):
    from PIL import Image

    (tmp_path / "p").mkdir()
    for n in range(3):
        Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(tmp_path / "p" / f"{n}.png")
    assert isinstance(next(scan([str(tmp_path / "p")]))[1], VideoInfo)
    (tmp_path / "p" / "1.png").write_bytes(b"no picture")
    assert "1.png cannot be decoded" in reason_of(next(scan([str(tmp_path / "p")]))[1])


def test_reasons_are_told_by_what_lies_behind_them():
    assert behind(av.error.InvalidDataError(1, "Invalid data")) is None
    assert behind(OSError("image file is truncated")) is None
    assert behind(OSError(errno.EINVAL, "Invalid argument")) is None
    assert behind(OSError(errno.ETIMEDOUT, "Connection timed out")) is not None
    assert behind(FileChanged()) is not None


def test_a_scan_that_gets_on_is_not_late_however_long_it_takes(video, monkeypatch):
    often = "import ssl_video.video.alive as alive\nalive.EVERY_S = 0.01"  # a loaded machine may be late with a word
    body = f"{often}\nend = time.monotonic() + 2.5\nwhile time.monotonic() < end: beat()"
    (found,) = scanned_by(monkeypatch, body, video, time_limit_s=2)
    assert isinstance(found, VideoInfo)


def test_every_packet_counts_as_getting_on(video, monkeypatch):
    said = []
    monkeypatch.setattr("ssl_video.video.alive._say", lambda: said.append(1))
    monkeypatch.setattr("ssl_video.video.alive.EVERY_S", 0.0)
    scan_one(video)
    assert len(said) >= 9


def test_a_child_that_hangs_is_late_and_the_reason_names_the_option(video, monkeypatch):
    (found,) = scanned_by(monkeypatch, "time.sleep(60)", video, time_limit_s=1.0)
    assert "did not get on for 1 s; 'ssl-video data scan --time-limit' takes more seconds" in reason_of(found)


def test_the_scan_has_a_time_limit_as_an_option(video, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scan_module, "CHILD", (sys.executable, "-c", CHILD.format(body="time.sleep(60)")))
    assert main(["data", "scan", video, "--time-limit", "0.5", "--out", str(tmp_path / "m.csv")]) == 2
    assert "did not get on for 0.5 s" in capsys.readouterr().out
    assert main(["data", "scan", video, "--time-limit", "0"]) == 2
    assert "--time-limit" in capsys.readouterr().err


# copies and flow


def listed(*paths: str):
    return scanned(VideoList("some", tuple(ListedVideo(p) for p in paths)))


@pytest.fixture
def small_files(monkeypatch):
    """No file of this process and its children may be larger than 20 kB."""
    monkeypatch.setattr(cache, "CHILD", (sys.executable, *cache.CHILD[1:]))  # which inherit it
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def noise(path: Path) -> str:
    from ssl_video.video.writer import Encoding, write_video

    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(24))
    write_video(path, frames, encoding=Encoding({"crf": "30"}))
    return str(path)


@pytest.mark.parametrize("kind", ["raw", "h264", "farneback"])
def test_a_folder_that_is_full_ends_the_command(tmp_path, kind, request):
    videos_of = listed(*(noise(tmp_path / f"{n}.mp4") for n in range(2)))
    request.getfixturevalue("small_files")
    out = tmp_path / "out"
    with pytest.raises(UserError) as error:
        copies.copied(videos_of, kind, None, out, workers=1)
    assert str(error.value) == f"{out} is full (File too large): name another --out."
    assert [p.name for p in out.iterdir()] == []


def test_a_training_does_not_go_on_with_the_copies_that_found_room(tmp_path, request, capsys):
    for n in range(2):
        (tmp_path / "videos").mkdir(exist_ok=True)
        noise(tmp_path / "videos" / f"{n}.mp4")
    assert main(["data", "scan", str(tmp_path / "videos"), "--out", str(tmp_path / "m.csv")]) == 0
    request.getfixturevalue("small_files")
    out = str(tmp_path / "run")
    words = ["pretrain", "--data", str(tmp_path / "m.csv"), "--cache", "raw", "--steps", "2", "--out", out]
    assert main([*words, "--pretext.frames", "4"]) == 2
    assert (
        "is full (File too large): use --cache none, or name another place by SSL_VIDEO_CACHE."
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_to_write_is_not_the_video_s_fault(video, tmp_path, monkeypatch, number):
    def refused(*_args, **_options):
        raise OutputError(number, os.strerror(number))

    one = listed(video)
    monkeypatch.setattr(Children, "request", refused)
    with pytest.raises(UserError) as error:
        copies.copied(one, "raw", None, tmp_path / "out")
    how = "is full" if number in (errno.ENOSPC, errno.EDQUOT) else "cannot be written"
    assert f"{tmp_path / 'out'} {how} ({os.strerror(number)})" in str(error.value)


def test_a_video_that_cannot_be_read_is_told_from_a_copy_that_cannot_be_written(video, tmp_path):
    Path(video).unlink()
    with pytest.raises(VideoError):
        cache.make_copy(video, 9, tmp_path / "copy.npy", "raw", None)


@pytest.fixture
def copy(video, tmp_path) -> Path:
    cache.make_copy(video, 9, tmp_path / "copy.npy", "raw", None)
    assert cache.finished(video, tmp_path / "copy.npy") is not None
    return tmp_path / "copy.npy"


def test_a_copy_that_is_damaged_is_made_again(video, copy):
    size = copy.stat().st_size
    with copy.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(2048))
    assert copy.stat().st_size == size and cache.finished(video, copy) is None


def test_a_copy_of_another_version_is_made_again(video, copy, monkeypatch):
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    assert cache.finished(video, copy) is None


@pytest.mark.parametrize("note", ["", "{", "[]", "null", '{"version": 2}', '{"version": 2, "source": 1, "info": null}'])
def test_a_note_that_is_damaged_is_no_copy(video, copy, note):
    copy.with_suffix(".json").write_text(note)
    assert cache.finished(video, copy) is None


def test_a_source_that_changes_while_it_is_copied_leaves_no_copy(video, tmp_path, monkeypatch):
    whole = cache.iterate_frames

    def growing(path):
        yield from whole(path)
        with Path(path).open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(cache, "iterate_frames", growing)
    with pytest.raises(FileChanged):
        cache.make_copy(video, 9, tmp_path / "copy.npy", "raw", None)
    assert not list(tmp_path.glob("*copy*"))


def test_a_wrong_copy_never_takes_the_place_of_a_right_one(video, copy):
    before = copy.read_bytes()
    with pytest.raises(VideoError, match="the scan found 12"):
        cache.make_copy(video, 12, copy, "raw", None)
    assert copy.read_bytes() == before and cache.finished(video, copy) is not None


def test_two_processes_that_copy_at_once_both_have_their_copies(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for n in range(3):
        videos.mp4(folder / f"{n}.mp4", count=9)
    words = ["data", "cache", "--data", str(folder), "--out", str(tmp_path / "out"), "--kind", "raw", "--workers", "1"]
    both = warm.run_all(["-m", "ssl_video", *words], [os.environ, os.environ])
    assert ["3 copies are in" in one.stdout for one in both] == [True, True]
    manifest = load_splits(str(tmp_path / "out")).train
    assert len(manifest.videos) == 3 and not manifest.problems


# statistics


def test_statistics_that_are_damaged_or_of_another_state_are_computed_again(video, tmp_path):
    (one,) = listed(video).videos
    values = statistics_of(one, ["frame_difference"])["frame_difference"]
    (kept,) = (tmp_path / "cache" / "statistics").iterdir()
    for content in (b"", b"no array", kept.read_bytes()[:-9]):
        kept.write_bytes(content)
        _statistic.cache_clear()
        np.testing.assert_array_equal(statistics_of(one, ["frame_difference"])["frame_difference"], values)
        assert len(np.load(kept)) == 9
    videos.mp4(Path(video), count=7)
    _statistic.cache_clear()
    assert len(statistics_of(one, ["frame_difference"])["frame_difference"]) == 7


def test_statistics_on_a_full_disk_are_computed_and_not_kept(video, monkeypatch):
    (one,) = listed(video).videos

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ssl_video.datasets.statistics.np.save", full)
    _statistic.cache_clear()
    assert len(statistics_of(one, ["frame_difference"])["frame_difference"]) == 9


# manifests


def test_a_row_whose_file_has_changed_is_noticed_and_scanned_anew(tmp_path):
    paths = [videos.mp4(tmp_path / "videos" / f"{n}.mp4", count=5) for n in range(3)]
    scan_to_manifest(str(tmp_path / "videos"), tmp_path / "m.csv")
    assert load_splits(str(tmp_path / "m.csv")).warnings == ()
    videos.mp4(paths[1], count=8)
    splits = load_splits(str(tmp_path / "m.csv"))
    assert "1 of the 3 files" in splits.warnings[0] and str(paths[1]) in splits.warnings[0]
    assert [v.frames for v in scanned(splits.train).videos] == [5, 8, 5]


def test_a_file_of_the_same_size_with_other_bytes_is_noticed(tmp_path):
    path = videos.mp4(tmp_path / "v.mp4", count=5)
    scan_to_manifest(str(path), tmp_path / "m.csv")
    content = bytearray(path.read_bytes())
    content[-200:-100] = bytes(100)
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert load_splits(str(tmp_path / "m.csv")).warnings


def test_a_set_that_was_copied_elsewhere_is_still_scanned(tmp_path):
    videos.mp4(tmp_path / "a" / "v.mp4", count=5)
    scan_to_manifest(str(tmp_path / "a"), tmp_path / "a" / "manifest.csv")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    os.utime(tmp_path / "b" / "v.mp4", ns=(1, 1))
    splits = load_splits(str(tmp_path / "b"))
    assert splits.warnings == () and hasattr(splits.train.videos[0], "info")


def test_a_copy_that_was_changed_is_left_out_with_what_to_do(tmp_path):
    paths = [videos.mp4(tmp_path / "videos" / f"{n}.mp4", count=5) for n in range(2)]
    copy_videos(str(tmp_path / "videos"), tmp_path / "out", "raw", 32)
    first = next(p for p in (tmp_path / "out").glob("0-*.npy"))
    first.write_bytes(b"")
    splits = load_splits(str(tmp_path / "out"))
    assert len(splits.train.videos) == 1 and "data cache" in splits.train.problems[0].reason
    assert splits.train.videos[0].copy_of == str(paths[1])


def test_the_machine_s_reason_is_not_written_into_a_manifest_and_the_label_stays(tmp_path, monkeypatch):
    for name in ("a", "b"):
        videos.mp4(tmp_path / "videos" / name / "v.mp4", count=5)
    body = "if '/b/' in path: raise PermissionError(errno.EACCES, 'Permission denied')"
    with monkeypatch.context() as patched:
        patched.setattr(scan_module, "CHILD", (sys.executable, "-c", CHILD.format(body=body)))
        done = scan_to_manifest(str(tmp_path / "videos"), tmp_path / "m.csv")
    assert [p.reason for p in done.problems] == ["permission denied"]
    again = scanned(load_splits(str(tmp_path / "m.csv")).train)
    assert [again.classes[v.label] for v in again.videos] == ["a", "b"] and not again.problems


def test_a_bad_file_that_was_mended_is_scanned_again(tmp_path):
    bad = tmp_path / "videos" / "bad.mp4"
    videos.mp4(tmp_path / "videos" / "v.mp4", count=5)
    bad.write_text("no video")
    scan_to_manifest(str(tmp_path / "videos"), tmp_path / "m.csv")
    assert len(load_splits(str(tmp_path / "m.csv")).train.problems) == 1
    videos.mp4(bad, count=6)
    assert len(scanned(load_splits(str(tmp_path / "m.csv")).train).videos) == 2


def test_the_embedded_set_is_drawn_again_where_it_is_damaged(tmp_path, monkeypatch):
    from ssl_video.datasets import spec
    from ssl_video.datasets.drawing.config import SyntheticConfig
    from ssl_video.datasets.synthetic import synthesize

    small = SyntheticConfig(train=8, test=8, size=32, frames=8)
    monkeypatch.setattr(spec, "synthesize", lambda out, wait: synthesize(out, small, workers=1, wait=wait))
    folder = tmp_path / "cache" / "synthetic-clips"
    first = load_splits("synthetic")
    for file, content in (
        ("synthetic.json", "{"),
        ("manifest.csv", "path,lab\x00"),
        (f"videos/{'/'.join(Path(first.train.videos[0].path).parts[-2:])}", "no video"),
    ):
        (folder / file).write_text(content)
        with pytest.warns(UserWarning, match="was damaged"):
            again = load_splits("synthetic")
        assert [replace(v, path="") for v in again.train.videos] == [replace(v, path="") for v in first.train.videos]
        assert json.loads((folder / "synthetic.json").read_text())["train"] == 8
