"""What a run is resumed on: the videos that it began with, or one sentence."""

import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.prepare import copy_videos
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretraining import pretrain, untrained
from ssl_video.run import Run
from ssl_video.train.config import DataConfig, TrainingConfig
from ssl_video.train.lists import check_same, lists_of
from ssl_video.video import cache
from ssl_video.video.cache import make_copy
from ssl_video.video.children import Children
from ssl_video.video.info import Problem, VideoInfo
from tests import videos
from tests.nets import video_set

FAST = TrainingConfig(steps=1, batch_size=2, workers=0, device="cpu")
OPTIONS = {"frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "videos"
    folder.mkdir()
    for n in range(5):
        videos.mp4(folder / f"{n}.mp4", count=30 + n)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "videos"))


@pytest.fixture
def copied_here(monkeypatch):
    """Copies are made in this process, which is faster where they are few."""

    class Here(Children):
        def request(self, path, request):
            if not Path(path).exists():
                return Problem(path, "No such file or directory")
            return asdict(make_copy(**request | {"copy": Path(request["copy"])}))

    monkeypatch.setattr(cache, "Children", Here)


def begun(data: str, run: Path, **options) -> tuple[Run, PretrainConfig]:
    """A run that has noted its videos, as if it had been killed then."""
    backbone = Choice("r2plus1d_4", {"width": 2, "strides_t": (1, 1, 2, 1)})
    data_config = DataConfig(data, held_out=0.0, **options)
    config = PretrainConfig(Choice("speediness", OPTIONS), backbone, data_config, FAST)
    run_ = Run(run)
    run_.write_config(config.to_mapping())
    run_.write_lists(lists_of(run_, config.data, untrained(config), print))
    return run_, config


def resumed(run: Run, config: PretrainConfig) -> Run:
    return pretrain(config, run.folder, resume=True)


def change(path: Path) -> None:
    """Another video of the same name and length, size and time as before."""
    state, content = path.stat(), bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_it_is_refused_when_a_video_was_removed(folder, tmp_path):
    run, config = begun(str(folder), tmp_path / "run")
    (folder / "1.mp4").unlink()
    with pytest.raises(UserError, match=r"1 of the 5 videos of a list are gone \(the first: .*/1.mp4\); bring"):
        resumed(run, config)


def test_it_is_refused_when_another_video_has_the_name(folder, tmp_path):
    run, config = begun(str(folder), tmp_path / "run")
    change(folder / "3.mp4")
    with pytest.raises(UserError, match=r"1 of the 5 videos of a list are other videos now \(the first: .*/3.mp4\)"):
        resumed(run, config)


def test_videos_that_were_added_do_not_matter(folder, tmp_path):
    run, config = begun(str(folder), tmp_path / "run")
    shutil.copy(folder / "1.mp4", folder / "another.mp4")
    assert len(resumed(run, config).header()["videos"]) == 5


def test_copies_that_are_gone_are_made_again_of_the_same_videos_only(folder, tmp_path, monkeypatch, copied_here):
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "cache"))
    run, config = begun(str(folder), tmp_path / "run", cache="raw", cache_short_side=24)
    before = run.lists()
    shutil.rmtree(tmp_path / "cache" / "clips")
    assert before is not None
    again = lists_of(run, config.data, untrained(config), print)
    assert again == before and all(Path(v.path).exists() for v in again.training.videos)
    said: list[str] = []
    change(folder / "3.mp4")
    (folder / "2.mp4").unlink()
    check_same(run, lists_of(run, config.data, untrained(config), said.append))  # only the copies are read
    assert [line.partition(";")[0] for line in said[1:]] == [
        f"warning: 1 of the 5 videos of a list are gone (the first: {folder / '2.mp4'})",
        f"warning: 1 of the 5 videos of a list are other videos now (the first: {folder / '3.mp4'})",
    ]
    change(folder / "3.mp4")  # and back
    shutil.rmtree(tmp_path / "cache" / "clips")
    with pytest.raises(UserError, match="1 of the 5 videos of a list are gone"):
        resumed(run, config)
    videos.mp4(folder / "2.mp4", count=32, gop=5)  # of the same name and length
    with pytest.raises(UserError, match="1 of the 5 videos of a list are other videos now"):
        resumed(run, config)


def test_a_copy_that_the_user_made_is_not_replaced_by_the_original(folder, tmp_path, copied_here):
    copy_videos(str(folder), tmp_path / "copies", short_side=24)
    run, config = begun(str(tmp_path / "copies"), tmp_path / "run")
    next((tmp_path / "copies").glob("1-*.mp4")).unlink()
    with pytest.raises(UserError, match="1 of the 5 videos of a list are gone"):
        resumed(run, config)


def test_a_run_of_version_0_1_says_that_its_videos_cannot_be_compared(folder, tmp_path):
    run, config = begun(str(folder), tmp_path / "run")
    shutil.rmtree(run.folder / "lists")
    run.save_checkpoint(1, {})
    said: list[str] = []
    lists_of(run, config.data, untrained(config), said.append)
    assert "of version 0.1, which noted no list" in said[0]


# ---- the hash of a list


def with_contents(count: int = 4, root: str = "/v/videos") -> VideoSet:
    info = VideoInfo(40, 25.0, 12, 12, 1.6, "h264")
    found = (Video(f"{root}/{n}.mp4", (n % 2,), info=replace(info, content=f"{n:016x}")) for n in range(count))
    return VideoSet("drawn", tuple(found), ("a", "b"))


def test_a_hash_follows_content_labels_and_order_and_not_the_folder():
    here = with_contents()
    first, *rest = here.videos
    assert with_contents(root="/far/away/clips").hash == here.hash
    assert replace(here, videos=(replace(first, copy_of="/v/x.mp4"), *rest)).hash == here.hash
    for changed in (
        (first.with_content("f" * 16), *rest),
        (replace(first, labels=(1,)), *rest),
        (*rest, first),
        tuple(rest),
    ):
        assert replace(here, videos=changed).hash != here.hash


def test_a_hash_that_version_0_1_noted_is_known_by_folders_and_names():
    here, there = with_contents(), with_contents(root="/far/away/clips")
    by_name = replace(here, videos=tuple(v.with_content("") for v in here.videos)).hash
    assert here.has_hash(here.hash) and here.has_hash(by_name) and by_name != here.hash
    assert there.has_hash(here.hash) and not there.has_hash(by_name)


def test_a_manifest_of_version_0_1_has_the_hash_of_the_videos_that_it_lists(folder):
    whole = scanned(load_splits(str(folder)).train)
    unread = replace(whole, videos=tuple(v.with_content("") for v in whole.videos))
    assert scanned(unread) == whole and scanned(video_set(3)) == video_set(3)  # files that are not there stay unread
