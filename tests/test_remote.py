"""Shards that lie elsewhere: one ranged request a sample, the same frames, and a sentence for what goes wrong."""

import multiprocessing
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssl_video import remote
from ssl_video.cli import main
from ssl_video.datasets import large, many, noted
from ssl_video.datasets.base import VideoRows
from ssl_video.datasets.pack import pack_videos
from ssl_video.datasets.prepare import copy_videos, scan_to_manifest
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretraining import pretrain
from ssl_video.run import Run
from ssl_video.tensors import load_tensors
from ssl_video.train.config import DataConfig, TrainingConfig
from ssl_video.train.data import read_video
from ssl_video.video import fetch
from ssl_video.video.info import Problem, VideoError, problem_of
from ssl_video.video.known import Known
from ssl_video.video.reader import read_frames
from ssl_video.video.scan import scan
from tests import videos as drawn
from tests.served import served

OPTIONS = {"frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16}
BACKBONE = Choice("r2plus1d_4", {"width": 2, "strides_t": (1, 1, 2, 1)})
FAST = TrainingConfig(steps=3, batch_size=4, workers=0, device="cpu", log_every=1, monitor_every=3, checkpoint_every=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for n in range(8):
        (folder / "videos" / f"c{n % 2}").mkdir(parents=True, exist_ok=True)
        drawn.mp4(folder / "videos" / f"c{n % 2}" / f"{n}.mp4", count=30 + n)
    scan_to_manifest(str(folder / "videos"), folder / "videos" / "manifest.csv", workers=1)
    pack_videos(str(folder / "videos"), folder / "shards", 20_000, workers=1)
    return folder


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No pause before another try, no proxy, nothing remembered of the last test."""
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "_last", ["", b""])
    monkeypatch.setattr(remote, "_sessions", {})


@pytest.fixture
def server(made):
    with served(made) as one:
        yield one


def videos_at(address: str):
    return scanned(load_splits(address).train).videos


# ---- what is read


def test_videos_elsewhere_are_those_of_the_files(made, server):
    before, after = scanned(load_splits(str(made / "videos")).train), load_splits(f"{server.address}/shards").train
    assert (after.hash, after.classes, after.name) == (before.hash, before.classes, "shards")
    for one, other in zip(before.videos, after.videos, strict=True):
        assert other.path.startswith(f"{server.address}/shards/shard-0") and other.source == one.source
        assert np.array_equal(
            read_frames(other.path, [3, 9, 2], other.info), read_frames(one.path, [3, 9, 2], one.info)
        )


@pytest.mark.parametrize(
    "name", ["shards/", "shards/manifest.csv", "shards/shard-000001.tar", "shards/shard-000001.csv"]
)
def test_a_folder_a_list_and_a_shard_are_named_by_their_addresses(made, server, name):
    local = load_splits(str(made / name)).train.videos
    assert [v.source for v in load_splits(f"{server.address}/{name}").train.videos] == [v.source for v in local]


def test_a_sample_is_one_request_for_the_bytes_of_its_video(made, server):
    found = videos_at(f"{server.address}/shards")
    assert server.of(".tar") == []
    sizes = [Path(v.source).stat().st_size for v in found]
    for video in found:
        read_video(video, [3, 5, 7])
    assert [count for _, _, count in server.of(".tar")] == [512 + size for size in sizes]


def test_a_process_keeps_its_connection_and_its_children_take_their_own(server):
    found = videos_at(f"{server.address}/shards")
    for video in found[:4]:
        read_video(video, [3])
    assert server.connections == 1
    with multiprocessing.get_context("fork").Pool(1) as child:
        frames = child.apply(read_video, (found[5], [3, 5]))
    assert server.connections == 2
    assert np.array_equal(frames, read_video(found[5], [3, 5]))
    assert server.connections == 2


def test_the_same_video_again_is_not_asked_for_again(server):
    video = videos_at(f"{server.address}/shards")[0]
    for frames in ([1], [2, 3], [4]):
        read_video(video, frames)
    assert len(server.of(".tar")) == 1


def test_raw_copies_are_read_from_elsewhere(made, tmp_path):
    copies = copy_videos(str(made / "videos"), tmp_path / "copies", "raw", 16, workers=1)
    pack_videos(str(copies.manifest), tmp_path / "shards", workers=1)
    with served(tmp_path) as server:
        one, other = load_splits(str(copies.manifest)).train.videos[2], videos_at(f"{server.address}/shards")[2]
        assert np.array_equal(read_frames(other.path, [5, 2]), read_frames(one.path, [5, 2]))


def test_a_large_list_of_shards_elsewhere_is_that_of_a_small_one(server, monkeypatch):
    small = load_splits(f"{server.address}/shards").train.videos
    for module in (large, many, noted):
        monkeypatch.setattr(module, "COLUMNS_FROM", 2)
    rows = load_splits(f"{server.address}/shards").train.videos
    assert isinstance(rows, VideoRows) and tuple(rows) == small


def test_a_list_that_was_read_can_be_written_and_read_again(server, tmp_path):
    scan_to_manifest(f"{server.address}/shards", tmp_path / "here.csv", workers=1)
    again = load_splits(str(tmp_path / "here.csv")).train.videos
    assert again == load_splits(f"{server.address}/shards").train.videos


def test_an_index_of_shards_elsewhere_knows_its_videos_again(made, tmp_path, capsys):
    shutil.copytree(made / "shards", tmp_path / "shards")
    with served(tmp_path) as server:
        line = ["index", "--model", "random:r2plus1d_4?width=2", "--data", f"{server.address}/shards", "--clips", "1"]
        for said in ("(8 added, 0 refreshed, 0 removed)", "(0 added, 0 refreshed, 0 removed)"):
            assert main([*line, "--out", str(tmp_path / "i"), "--workers", "0"]) == 0
            assert said in capsys.readouterr().out


def config(data: str, **training) -> PretrainConfig:
    spec = DataConfig(data, held_out=0.25)
    return PretrainConfig(Choice("speediness", OPTIONS), BACKBONE, spec, replace(FAST, **training))


def test_a_training_from_elsewhere_is_that_from_files_also_after_a_kill(made, server, tmp_path, monkeypatch):
    whole = pretrain(config(str(made / "videos")), tmp_path / "files")
    save = Run.save_checkpoint

    def killed_after(run, step, state):
        save(run, step, state)
        raise KeyboardInterrupt

    address = f"{server.address}/shards"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "save_checkpoint", killed_after)
        pretrain(config(address), tmp_path / "cut")
    cut = pretrain(config(address, workers=1), tmp_path / "cut", resume=True)
    before, after = (load_tensors(run.pretext_file)[0] for run in (whole, cut))
    assert all(np.array_equal(before[name], after[name]) for name in before)


# ---- what goes wrong


def passing(video) -> Problem:
    """The problem that reading a video ends with, which has to be one of the machine."""
    with pytest.raises(VideoError) as caught:
        read_video(video, [1])
    problem = problem_of(video.path, caught.value)
    assert problem.passing
    return problem


@pytest.mark.parametrize(("status", "said"), [(403, "answers 403 Forbidden for"), (404, "answers 404 Not Found for")])
def test_an_answer_in_the_middle_is_a_passing_reason_at_once(server, status, said):
    video = videos_at(f"{server.address}/shards")[0]
    server.answer[:] = [status]
    assert said in passing(video).reason
    assert len(server.of(".tar")) == 1
    assert read_video(video, [1]).shape == (1, 48, 64, 3)


def test_what_may_be_another_answer_later_is_asked_for_again(server):
    video = videos_at(f"{server.address}/shards")[0]
    server.answer[:] = [503, 500, 429]
    assert read_video(video, [1]).shape == (1, 48, 64, 3)
    server.answer[:] = [503] * 9
    assert "answers 503 Service Unavailable for" in passing(videos_at(f"{server.address}/shards")[1]).reason


def test_an_answer_that_ends_in_the_middle_is_a_passing_reason(server):
    video = videos_at(f"{server.address}/shards")[0]
    server.short = 7
    assert "cannot be reached, or ended in the middle (ChunkedEncodingError)" in passing(video).reason


def test_a_server_that_is_gone_is_a_passing_reason(made):
    with served(made) as server:
        video = videos_at(f"{server.address}/shards")[0]
    assert "cannot be reached" in passing(video).reason


def test_a_server_without_ranges_is_a_passing_reason_and_sends_no_shard(server):
    video = videos_at(f"{server.address}/shards")[0]
    server.ranges = False
    assert "gives whole files only, no ranges of bytes" in passing(video).reason


def test_a_reason_of_a_server_is_never_kept(server, monkeypatch):
    kept = []
    monkeypatch.setattr(Known, "put", lambda self, path, state, found: kept.append((state, found)))
    path = f"{server.address}/shards/none.tar@512+99/a.mp4"
    ((_, found),) = scan([path], 1)
    assert isinstance(found, Problem) and found.passing and "answers 404" in found.reason
    assert all(state == "" for state, _ in kept)


def test_a_shard_elsewhere_that_is_cut_off_or_another_one_is_a_reason(made, tmp_path):
    shutil.copytree(made / "shards", tmp_path / "shards")
    (tmp_path / "shards" / "shard-000001.tar").replace(tmp_path / "shards" / "shard-000000.tar")
    (tmp_path / "shards" / "shard-000001.tar").write_bytes(b"")
    with served(tmp_path) as server:
        found = videos_at(f"{server.address}/shards")
        with pytest.raises(VideoError, match="its list and its shard disagree"):
            read_video(found[0], [1])
        behind = next(v for v in found if "shard-000001" in v.path)
        with pytest.raises(VideoError, match="ends before it: is that cut off"):
            read_video(behind, [1])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "nowhere",
            "/nowhere cannot be read: 127.0.0.1:.* answers 404 .*name a folder that",
        ),
        ("nowhere.tar", "nowhere.tar cannot be read: .*answers 404"),
        ("videos", "videos/manifest.csv is no list of shards; pack its videos by 'ssl-video data pack'"),
        ("videos/c0/0.mp4", "0.mp4 cannot be read"),
    ],
)
def test_an_address_without_shards_is_a_sentence(server, capsys, spec, said):
    with pytest.raises(UserError, match=said):
        load_splits(f"{server.address}/{spec}")


def test_a_split_of_an_address_is_a_sentence(server):
    with pytest.raises(UserError, match="has one split only, not 2"):
        load_splits(f"{server.address}/shards", 2)


# ---- fsspec


def test_videos_are_read_through_fsspec(made):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in (made / "shards").iterdir():
        memory.pipe_file(f"/bucket/shards/{path.name}", path.read_bytes())
    before = scanned(load_splits(str(made / "videos")).train).videos
    for one, other in zip(before, videos_at("memory://bucket/shards"), strict=True):
        assert np.array_equal(read_video(other, [3, 1]), read_video(one, [3, 1]))
    memory.rm("/bucket/shards/shard-000000.tar")
    assert passing(videos_at("memory://bucket/shards")[0]).reason.startswith("there is no memory://bucket/shards/shard")


class NoCredentialsError(Exception):
    """As libraries of stores call it."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError("Unable to locate"), r"there are no credentials for s3:// \(Unable to locate\)"),
        (PermissionError("Forbidden"), r"access to s3://b/shards/manifest.csv is denied \(Forbidden\)"),
        (FileNotFoundError("x"), "there is no s3://b/shards/manifest.csv"),
        (RuntimeError("broken"), r"s3://b/shards/manifest.csv cannot be read \(RuntimeError: broken\)"),
    ],
)
def test_what_a_store_says_is_a_sentence(monkeypatch, error, said):
    fsspec = pytest.importorskip("fsspec")

    class Store:
        def cat_file(self, *_args):
            raise error

    monkeypatch.setattr(fsspec, "filesystem", lambda _scheme: Store())
    with pytest.raises(UserError, match=f"^s3://b/shards cannot be read: {said}"):
        load_splits("s3://b/shards")


def test_a_package_that_is_missing_is_named(monkeypatch):
    fsspec = pytest.importorskip("fsspec")

    def missing(_scheme):
        raise ImportError("Install gcsfs")

    with (
        monkeypatch.context() as patched,
        pytest.raises(UserError, match=r"gs:// needs the package gcsfs: "),
    ):
        patched.setattr(fsspec, "filesystem", missing)
        load_splits("gs://b/shards")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UserError, match=r"s3:// needs the package fsspec: pip install fsspec"):
        load_splits("s3://b/shards")


def test_a_scheme_that_nobody_knows_is_a_sentence():
    pytest.importorskip("fsspec")
    with pytest.raises(UserError, match=r"nope://b/shards/manifest.csv is no address that can be read"):
        load_splits("nope://b/shards")
