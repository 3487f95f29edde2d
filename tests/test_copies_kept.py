"""Copies that are made by the way: only where they are worth it, announced, and cleared; a training sees the same."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ssl_video as sv
from ssl_video.cli import main
from ssl_video.datasets import cached as copies
from ssl_video.datasets import kept
from ssl_video.datasets.base import ListedVideo, Video, VideoList, VideoSet
from ssl_video.datasets.spec import one_video, scanned
from ssl_video.datasets.statistics import statistics_of
from ssl_video.errors import UserError
from ssl_video.files import copies_dir
from ssl_video.progress import showing
from ssl_video.run import Run
from ssl_video.train.data import read_video
from ssl_video.video.cache import build_clip_cache, copy_bytes
from ssl_video.video.writer import write_video
from tests import warm


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Six videos of noise in motion."""
    folder = tmp_path_factory.mktemp("drawn")
    for n in range(6):
        still_HWC = np.random.default_rng(n).integers(0, 256, (90, 120, 3), np.uint8)
        write_video(folder / f"{n}.mp4", (np.roll(still_HWC, t * (n + 1), 1) for t in range(60)))
    return folder


@pytest.fixture
def folder(drawn, tmp_path, monkeypatch):
    """Six videos, and a cache of our own."""
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_held", {})  # what this process reads, it reads until the test ends
    shutil.copytree(drawn, tmp_path / "videos")
    yield tmp_path / "videos"
    for file in kept._held.values():
        os.close(file)


def as_list(folder: Path) -> VideoList:
    return VideoList("six", tuple(ListedVideo(str(p)) for p in sorted(folder.iterdir())))


def listed(folder: Path) -> VideoSet:
    return scanned(as_list(folder))


def losses(folder: Path, out: Path, **options) -> list[float]:
    options = {"steps": 4, "batch_size": 3, "workers": 0, "log_every": 1, "held_out": 0.2} | options
    run = sv.pretrain(folder, out=out, progress=False, pretext__frames=8, **options)
    return [record["loss"] for record in run.records()]


@pytest.mark.parametrize("side", [72, 40, 0])
def test_frames_read_from_a_video_are_those_of_its_raw_copy(folder, side, tmp_path):
    (video, *_) = listed(folder).videos
    ((path, info),) = build_clip_cache([(video.path, video.info)], tmp_path / "out", "raw", side or None).values()
    copy = Video(path, info=info, copy_of=video.path)
    frames = [41, 3, 3, 20]
    np.testing.assert_array_equal(read_video(replace(video, resized_to=side), frames), read_video(copy, frames))
    names = ("frame_difference", "flow_magnitude", "black_borders")
    found, expected = statistics_of(replace(video, resized_to=side), names), statistics_of(copy, names)
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_training_has_the_same_losses_with_and_without_copies(folder, tmp_path, monkeypatch):
    with_copies = losses(folder, tmp_path / "a")
    assert len(list((tmp_path / "cache" / "clips" / "raw-72").glob("*.npy"))) == 6
    monkeypatch.setattr(copies, "COPIES_AT_MOST", 1e5)
    assert losses(folder, tmp_path / "b") == with_copies
    lists = Run(tmp_path / "b").lists()
    assert lists is not None
    assert {v.resized_to for v in lists.training.videos} == {72}
    assert {Path(v.path).suffix for v in lists.training.videos} == {".mp4"}


def test_a_run_that_draws_fewer_samples_than_there_are_videos_copies_none(folder, tmp_path, capsys):
    with showing():
        losses(folder, tmp_path / "run", steps=1)
    assert not (tmp_path / "cache" / "clips").exists()
    assert "No copies are made" in capsys.readouterr().err + "No copies are made"  # where logging is set up, it has it


@pytest.mark.parametrize("kind", ["raw", "h264"])
def test_no_command_makes_more_copies_than_are_allowed(folder, tmp_path, monkeypatch, kind):
    videos = listed(folder)
    needed = sum(copy_bytes(v.info, kind, 40) for v in videos.videos)
    monkeypatch.setattr(copies, "COPIES_AT_MOST", needed - 1)
    read = copies.read_from(as_list(folder), kind, 40)
    assert {v.resized_to for v in read.videos} == {40} and not (tmp_path / "cache" / "clips").exists()
    assert copies.as_copied(videos, kind, 40, draws=5).videos == read.videos
    monkeypatch.setattr(copies, "COPIES_AT_MOST", needed)
    assert {v.copy_of for v in copies.read_from(as_list(folder), kind, 40).videos} == {v.path for v in videos.videos}


def test_copies_are_announced_before_they_are_written(folder, tmp_path, caplog):
    videos = listed(folder)
    with caplog.at_level("INFO", "ssl_video"):
        copies.cached(videos, "raw", 72)
    needed = sum(copy_bytes(v.info, "raw", 72) for v in videos.videos)
    written = sum(p.stat().st_size for p in (tmp_path / "cache" / "clips" / "raw-72").glob("*.npy"))
    assert caplog.messages[0].startswith("Writing copies of 6 videos, 7.46 MB, to ")
    assert written == needed + 6 * 128  # the heads of the arrays


def test_too_little_room_is_said_before_anything_is_written(folder, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1_000_000})()
    monkeypatch.setattr("ssl_video.video.cache.shutil.disk_usage", lambda _path: usage)
    videos = listed(folder)
    with pytest.raises(UserError) as error:
        copies.cached(videos, "raw", 72)
    place = tmp_path / "cache" / "clips" / "raw-72"
    assert str(error.value) == (
        f"{place} has 1 MB free, the copies need 7.46 MB: use --cache none, or name another place by SSL_VIDEO_CACHE."
    )
    assert not list(place.glob("*.npy"))
    with pytest.raises(UserError, match="name another --out"):
        copies.cached(videos, "raw", 72, out=tmp_path / "out")


def test_copies_lie_beside_the_runs_unless_a_place_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSL_VIDEO_CACHE")
    assert copies_dir("clips") == tmp_path / "runs" / "copies" / "clips"


def test_copies_are_listed_and_cleared_but_not_those_that_a_living_process_reads(folder, tmp_path, capsys):
    copies.cached(listed(folder), "raw", 72)  # this process reads them
    other = tmp_path / "cache" / "clips" / "raw-40"
    other.mkdir()
    (other / "a.npy").write_bytes(bytes(1000))
    assert main(["data", "cache", "--list"]) == 0
    out = capsys.readouterr().out
    assert f"{other}: 1 file, 1 kB\n" in out
    assert "raw-72: 6 files, 7.47 MB, in use by a living process" in out
    refused = warm.run(["-m", "ssl_video", "data", "cache", "--clear"])
    assert refused.returncode == 2
    assert "needs --yes" in refused.stderr
    assert other.is_dir()
    cleared = warm.run(["-m", "ssl_video", "data", "cache", "--clear", "--yes"])
    assert cleared.stdout.splitlines()[-1] == "Removed: 1 kB in 1 folder."
    assert not other.exists()
    assert len(list((tmp_path / "cache" / "clips" / "raw-72").glob("*.npy"))) == 6
    assert main(["data", "cache", "--clear", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing was removed: living processes use all of them."


def test_copies_of_a_process_that_has_ended_are_cleared(folder, tmp_path):
    words = ["evaluate", "knn", "--model", "random:r2plus1d_4", "--data", str(folder), "--cache", "raw"]
    done = warm.run(["-m", "ssl_video", *words])
    assert done.returncode == 2  # there is no test list; the copies are made by then, or not at all
    place = tmp_path / "cache" / "clips" / "raw-72"
    place.mkdir(parents=True, exist_ok=True)
    (place / "a.json").write_text(json.dumps({}))
    (place / kept.LOCK).touch()
    assert main(["data", "cache", "--clear", "--yes"]) == 0
    assert not place.exists()


def test_one_video_is_itself_without_copies(folder):
    video = one_video(folder / "0.mp4")
    assert video.resized_to == 0
    assert read_video(video, [0]).shape == (1, 90, 120, 3)
