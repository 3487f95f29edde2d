"""Videos in tar files: packed as WebDataset reads them, and read as if they were files."""

import errno
import io
import json
import os
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_video import files, members
from ssl_video.cli import main
from ssl_video.datasets import large, many, noted, pack
from ssl_video.datasets.base import VideoRows
from ssl_video.datasets.pack import pack_videos
from ssl_video.datasets.prepare import copy_videos, scan_to_manifest
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.members import member_of, read_member
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretraining import pretrain
from ssl_video.run import Run
from ssl_video.tensors import load_tensors
from ssl_video.train.config import DataConfig, TrainingConfig
from ssl_video.train.data import read_video
from ssl_video.video.content import content_of
from ssl_video.video.fetch import torchcodec_works
from ssl_video.video.info import VideoError
from ssl_video.video.reader import iterate_frames, read_frames
from ssl_video.video.scan import scan_one
from tests import videos as drawn
from tests.killed import command, kill_and_repeat, names

OPTIONS = {"frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16}
BACKBONE = Choice("r2plus1d_4", {"width": 2, "strides_t": (1, 1, 2, 1)})
FAST = TrainingConfig(steps=3, batch_size=4, workers=0, device="cpu", log_every=1, monitor_every=2, checkpoint_every=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of twelve videos of two classes, with its manifest, and the shards that they are packed into."""
    folder = tmp_path_factory.mktemp("made")
    for n in range(12):
        (folder / "videos" / f"c{n % 2}").mkdir(parents=True, exist_ok=True)
        drawn.mp4(folder / "videos" / f"c{n % 2}" / f"{n}.mp4", count=30 + n)
    scan_to_manifest(str(folder / "videos"), folder / "videos" / "manifest.csv", workers=1)
    pack_videos(str(folder / "videos"), folder / "shards", 20_000, workers=1)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """The same at another place, where the files may be removed."""
    shutil.copytree(made / "videos", tmp_path / "made" / "videos")
    pack_videos(str(tmp_path / "made" / "videos"), tmp_path / "made" / "shards", 20_000, workers=1)
    return tmp_path / "made"


def listed(data: Path):
    return load_splits(str(data)).train


# ---- what is written


def test_a_shard_is_a_tar_of_the_files_each_with_its_words_beside_it(made):
    videos = listed(made / "videos").videos
    found = {}
    for shard in sorted((made / "shards").glob("*.tar")):
        with tarfile.open(shard, "r:") as opened:
            held = [(info.name, opened.extractfile(info).read()) for info in opened]
        for (name, content), (beside, words) in zip(held[::2], held[1::2], strict=True):
            assert name.partition(".")[0] == beside.partition(".")[0] and beside.endswith(".json")
            found[name] = content, json.loads(words)
    assert len(found) == len(videos) == 12
    for video, name in zip(videos, sorted(found), strict=True):
        content, words = found[name]
        assert content == Path(video.path).read_bytes()
        assert (words["labels"], words["name"]) == ([f"c{video.label}"], video.name)


def test_shards_are_as_large_as_they_are_told_and_larger_only_for_one_video(made, tmp_path):
    sizes = [shard.stat().st_size for shard in (made / "shards").glob("*.tar")]
    assert len(sizes) > 2 and max(sizes) <= 20_000
    done = pack_videos(str(made / "videos"), tmp_path / "shards", 1, workers=1)
    assert (done.shards, done.videos) == (12, 12)


def test_the_same_videos_make_the_same_shards(made, tmp_path):
    pack_videos(str(made / "videos"), tmp_path / "again", 20_000, workers=1)
    for shard in sorted((made / "shards").glob("*.tar")):
        assert shard.read_bytes() == (tmp_path / "again" / shard.name).read_bytes()


def test_training_and_test_videos_lie_in_shards_of_their_own(tmp_path):
    for split, frames in (("train", 4), ("test", 5)):
        for name in "ab":
            (tmp_path / "v" / split / name).mkdir(parents=True)
            drawn.mp4(tmp_path / "v" / split / name / f"{name}.mp4", count=frames)
    pack_videos(str(tmp_path / "v"), tmp_path / "shards", workers=1)
    splits, before = load_splits(str(tmp_path / "shards")), load_splits(str(tmp_path / "v"))
    assert splits.test is not None and before.test is not None
    for one, other in ((splits.train, before.train), (splits.test, before.test)):
        assert [v.labels for v in one.videos] == [v.labels for v in other.videos]
    shards = [{member_of(v.path).shard for v in one.videos} for one in (splits.train, splits.test)]
    assert [len(found) for found in shards] == [1, 1] and shards[0] != shards[1]


def test_a_folder_of_pictures_is_left_out_with_what_to_do(tmp_path):
    drawn.mp4(tmp_path / "a.mp4")
    (tmp_path / "p").mkdir()
    for number, picture in enumerate(drawn.pictures(3)):
        Image.fromarray(picture).save(tmp_path / "p" / f"{number}.png")
    (tmp_path / "l.csv").write_text("path\na.mp4\np\n")
    done = pack_videos(str(tmp_path / "l.csv"), tmp_path / "shards", workers=1)
    assert done.videos == 1
    assert [(Path(p.path).name, p.reason) for p in done.problems] == [("p", pack.PICTURES)]


def test_the_command_says_what_it_wrote_and_what_lay_there(made, tmp_path, capsys):
    line = ["data", "pack", str(made / "videos"), "--out", str(tmp_path / "s"), "--workers", "1"]
    assert main(line) == 0
    assert "12 videos are in 1 shard in" in capsys.readouterr().out
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "of which 1 lay there already" in said and "Next: ssl-video pretrain --data" in said


# ---- what is read


def test_the_list_of_shards_is_that_of_the_files(made):
    before, after = listed(made / "videos"), listed(made / "shards")
    assert after.hash == before.hash and after.classes == before.classes
    for one, other in zip(before.videos, after.videos, strict=True):
        assert (other.key, other.number, other.labels, other.group) == (one.key, one.number, one.labels, one.group)
        assert other.info == one.info
        assert content_of(other.path) == one.info.content == content_of(one.path)
        assert scan_one(other.path) == one.info


@pytest.mark.parametrize(
    "make", [drawn.mp4, drawn.avi_with_b_frames, drawn.variable_rate], ids=["mp4", "avi", "variable"]
)
@pytest.mark.parametrize("reader", ["pyav", "torchcodec"])
def test_frames_of_a_shard_are_those_of_the_file(tmp_path, make, reader):
    if reader == "torchcodec":
        pytest.importorskip("torchcodec")
        if not torchcodec_works():
            pytest.skip("torchcodec lacks FFmpeg's libraries")
    (tmp_path / "v").mkdir()
    make(tmp_path / "v" / ("a.avi" if make is drawn.avi_with_b_frames else "a.mp4"))
    pack_videos(str(tmp_path / "v"), tmp_path / "s", workers=1)
    (one,), (other,) = scanned(listed(tmp_path / "v")).videos, scanned(listed(tmp_path / "s")).videos
    for frames in ([0], [3, 1, 3], [25, 39, 2]):
        assert np.array_equal(read_video(other, frames, reader), read_video(one, frames, reader))
    assert np.array_equal(list(iterate_frames(other.path, 7)), list(iterate_frames(one.path, 7)))


def test_frames_of_real_files_are_the_same_in_a_shard(shared_data, tmp_path):
    paths = sorted(p for p in (shared_data / "odd").iterdir() if p.suffix != ".wav")
    shard = tmp_path / "all.tar"
    with tarfile.open(shard, "w") as opened:
        for path in paths:
            opened.add(path, path.name)
    with tarfile.open(shard) as opened:
        places = [(info.offset_data, info.size) for info in opened]
    read = 0
    for path, (offset, size) in zip(paths, places, strict=True):
        member = members.Member(str(shard), offset, size, path.name).path
        found = []
        for one in (str(path), member):
            try:
                found.append(read_frames(one, [1, 0]))
            except VideoError as error:
                found.append(str(error))
        assert np.array_equal(found[0], found[1])
        read += isinstance(found[0], np.ndarray)
    assert read > 30


def test_a_sample_is_one_reading_of_the_shard(made, monkeypatch):
    (video, *_) = scanned(listed(made / "shards")).videos
    readings, real = [], os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, at: readings.append((count, at)) or real(file, count, at))
    read_video(video, [3, 5, 7])
    member = member_of(video.path)
    assert member is not None
    assert readings == [(512 + member.size, member.offset - 512)]


def test_raw_copies_are_packed_as_arrays_and_read_through_a_map(made, tmp_path):
    copies = copy_videos(str(made / "videos"), tmp_path / "copies", "raw", 16, workers=1)
    pack_videos(str(copies.manifest), tmp_path / "shards", workers=1)
    for one, other in zip(listed(copies.manifest).videos, listed(tmp_path / "shards").videos, strict=True):
        assert (other.source, other.key) == (one.source, one.key)
        assert np.array_equal(read_frames(other.path, [5, 2]), read_frames(one.path, [5, 2]))
        with pytest.raises(VideoError, match="there is no frame 99"):
            read_frames(other.path, [99])


def test_shards_can_be_packed_again(made, tmp_path):
    pack_videos(str(made / "shards"), tmp_path / "whole", workers=1)
    for one, other in zip(listed(made / "shards").videos, listed(tmp_path / "whole").videos, strict=True):
        assert (other.source, read_member(member_of(other.path))) == (one.source, read_member(member_of(one.path)))


def test_a_large_list_of_shards_is_that_of_a_small_one(made, monkeypatch):
    small = listed(made / "shards").videos
    for module in (large, many, noted):
        monkeypatch.setattr(module, "COLUMNS_FROM", 2)
    rows = listed(made / "shards").videos
    assert isinstance(rows, VideoRows) and tuple(rows) == small


def test_shards_may_be_moved(folder, tmp_path):
    before = [v.key for v in listed(folder / "shards").videos]
    shutil.rmtree(folder / "videos")
    moved = (folder / "shards").rename(tmp_path / "elsewhere")
    videos = scanned(listed(moved)).videos
    assert [v.key for v in videos] == before
    assert read_video(videos[3], [1]).shape == (1, 48, 64, 3)


def test_a_file_in_both_lists_or_with_two_labels_is_said_of_shards_too(tmp_path, monkeypatch):
    drawn.mp4(tmp_path / "a.mp4", count=4)
    drawn.mp4(tmp_path / "b.mp4", count=5)
    rows = "a.mp4,x,train\na.mp4,y,train\nb.mp4,x,train\nb.mp4,x,test\n"
    (tmp_path / "l.csv").write_text(f"path,label,split\n{rows}")
    pack_videos(str(tmp_path / "l.csv"), tmp_path / "shards", workers=1)
    for columns_from in (10_000, 2):
        for module in (large, many, noted):
            monkeypatch.setattr(module, "COLUMNS_FROM", columns_from)
        said = " ".join(load_splits(str(tmp_path / "shards")).warnings)
        assert f"1 of the 1 test files of shards/manifest.csv test are training files too ({tmp_path}/b.mp4)" in said
        assert f"1 files of shards/manifest.csv train are listed twice with different labels ({tmp_path}/a.mp4)" in said


# ---- training


def config(data: Path, **training) -> PretrainConfig:
    spec = DataConfig(str(data), held_out=0.25)
    return PretrainConfig(Choice("speediness", OPTIONS), BACKBONE, spec, replace(FAST, **training))


def assert_same_weights(one: Run, other: Run) -> None:
    before, after = (load_tensors(run.pretext_file)[0] for run in (one, other))
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    assert [r["loss"] for r in one.records()] == [r["loss"] for r in other.records()]


@pytest.mark.parametrize("large_list", [False, True])
def test_a_training_from_shards_is_that_from_files_bit_for_bit(folder, tmp_path, monkeypatch, large_list):
    whole = pretrain(config(folder / "videos"), tmp_path / "files")
    shutil.rmtree(folder / "videos")
    if large_list:
        for module in (large, many, noted):
            monkeypatch.setattr(module, "COLUMNS_FROM", 2)
    assert_same_weights(whole, pretrain(config(folder / "shards", workers=1), tmp_path / "shards"))


def test_a_training_from_shards_that_was_killed_goes_on_bit_for_bit(folder, tmp_path, monkeypatch, capsys):
    whole = pretrain(config(folder / "videos"), tmp_path / "files")
    shutil.rmtree(folder / "videos")
    save = Run.save_checkpoint

    def killed_after(run, step, state):
        save(run, step, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "save_checkpoint", killed_after)
        pretrain(config(folder / "shards"), tmp_path / "cut")
    assert_same_weights(whole, pretrain(config(folder / "shards"), tmp_path / "cut", resume=True))
    assert "gone" not in capsys.readouterr().err


# ---- accidents


def test_packing_goes_on_after_a_kill(made, tmp_path):
    words = ["data", "pack", str(made / "videos"), "--out", "out", "--shard-bytes", "50000", "--workers", "1"]
    (tmp_path / "whole").mkdir()
    assert command(words, tmp_path / "whole").returncode == 0
    whole = names(tmp_path / "whole" / "out")
    for kill_at in (1, 3, 6):
        (tmp_path / f"cut-{kill_at}").mkdir()
        assert kill_and_repeat(words, tmp_path / f"cut-{kill_at}", "out", kill_at, whole) == ""
        for shard in (tmp_path / "whole" / "out").iterdir():
            if shard.suffix == ".tar":
                assert (tmp_path / f"cut-{kill_at}" / "out" / shard.name).read_bytes() == shard.read_bytes()


def test_a_full_disk_ends_packing_and_leaves_nothing_half_written(made, tmp_path, monkeypatch, capsys):
    copied, real = [], pack._copy

    def full(item, file):
        copied.append(item)
        if len(copied) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(item, file)

    line = ["data", "pack", str(made / "videos"), "--out", str(tmp_path / "s"), "--shard-bytes", "20000"]
    with monkeypatch.context() as patched:
        patched.setattr(pack, "_copy", full)
        assert main([*line, "--workers", "1"]) == 2
    assert "is full (No space left on device)" in capsys.readouterr().err
    left = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert left and all(name.startswith("shard-") for name in left) and len(left) % 2 == 0
    assert main([*line, "--workers", "1"]) == 0
    assert f"of which {len(left) // 2} lay there already" in capsys.readouterr().out


def test_a_disk_without_room_is_said_before_a_shard_is_begun(made, tmp_path, monkeypatch):
    monkeypatch.setattr(pack.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(UserError, match=r"has 1 bytes free, the next shard needs \d+ kB; name another --out"):
        pack_videos(str(made / "videos"), tmp_path / "s", workers=1)
    assert not (tmp_path / "s").exists() or not list((tmp_path / "s").iterdir())


def test_shards_of_others_are_not_written_over(made, folder):
    shard = folder / "shards" / "shard-000000.tar"
    before = shard.read_bytes()
    for data, size in ((folder / "videos", 50_000), (folder / "videos" / "c0", 20_000)):
        with pytest.raises(UserError, match=r"holds other shards \(shard-00000\d\.tar\); name another --out"):
            pack_videos(str(data), folder / "shards", size, workers=1)
    assert shard.read_bytes() == before


def test_a_file_that_is_another_one_than_was_scanned_ends_packing(folder, tmp_path, monkeypatch):
    path = folder / "videos" / "c0" / "4.mp4"
    real = pack._blocks

    def changed(name):
        if name == str(path):
            path.write_bytes(path.read_bytes()[::-1])
        return real(name)

    monkeypatch.setattr(pack, "_blocks", changed)
    with pytest.raises(UserError, match=r"4\.mp4 has changed since it was scanned; run the same line again"):
        pack_videos(str(folder / "videos"), tmp_path / "s", workers=1)
    assert [p.name for p in (tmp_path / "s").iterdir()] == []


def test_shards_that_were_not_packed_to_the_end_are_used_with_a_warning(folder):
    (folder / "shards" / "manifest.csv").unlink()
    (folder / "shards" / "shard-000001.tar").unlink()
    splits = load_splits(str(folder / "shards"))
    assert 0 < len(splits.train.videos) < 12
    assert ["was not packed to the end" in warning for warning in splits.warnings] == [True]


# ---- shards that are not as they should be


def test_a_shard_that_is_cut_off_is_one_reason_for_each_video_behind_the_cut(folder):
    shard = folder / "shards" / "shard-000000.tar"
    os.truncate(shard, shard.stat().st_size // 2)
    problems = listed(folder / "shards").problems
    assert problems and {p.reason for p in problems} == {f"its shard {shard} ends before it: is that cut off?"}


def test_a_shard_that_is_gone_is_a_reason(folder):
    (folder / "shards" / "shard-000000.tar").unlink()
    assert {p.reason for p in listed(folder / "shards").problems} == {"listed but not there"}


def test_a_list_that_disagrees_with_its_shard_is_found_when_a_video_is_read(folder):
    manifest = folder / "shards" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("shard-000000.tar,512,", "shard-000000.tar,1024,"))
    video = listed(folder / "shards").videos[0]
    with pytest.raises(VideoError, match=r"^its list and its shard disagree: .*shard-000000\.tar does not hold it at"):
        read_frames(video.path, [0])


def test_another_shard_of_the_same_name_is_found_when_a_video_is_read(folder):
    (folder / "shards" / "shard-000001.tar").replace(folder / "shards" / "shard-000000.tar")
    video = listed(folder / "shards").videos[0]
    with pytest.raises(VideoError, match="its list and its shard disagree"):
        read_frames(video.path, [0])


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("path,shard,offset", "a.mp4,s.tar,512", "the column 'size' is missing"),
        (
            "path,shard,offset,size",
            "a.mp4,s.tar,x,9",
            "line 2: the offset and the size of a video",
        ),
        (
            "path,shard,offset,size",
            "a.mp4,s.tar,-1,9",
            "line 2: the offset and the size of a video",
        ),
    ],
)
def test_a_wrong_list_of_shards_is_a_sentence(tmp_path, header, row, said):
    (tmp_path / "l.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(UserError, match=said):
        load_splits(str(tmp_path / "l.csv"))


# ---- tar files of others


def tar_of(path: Path, held: dict[str, bytes], kind: str = "w") -> Path:
    with tarfile.open(path, kind) as opened:
        for name, content in held.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    return drawn.mp4(tmp_path_factory.mktemp("one") / "a.mp4").read_bytes()


def test_a_tar_is_its_members_with_what_lies_beside_them(tmp_path, video):
    tar = tar_of(
        tmp_path / "x.tar",
        {
            "0.mp4": video, "0.cls": b"3", "1.mp4": video, "1.json": b'{"label": "run", "caption": "a man"}',
            "sub/2.mp4": video, "sub/2.txt": b"a dog\n", "3.mp4": video, "3.json": b"[", "n" * 120 + ".mp4": video,
            "notes.md": b"hello", "._0.mp4": b"left by a system",
        },
    )  # fmt: skip
    found = scanned(listed(tar))
    assert [found.classes[v.label] if v.labels else "" for v in found.videos] == ["3", "run", "", "", ""]
    assert [v.caption for v in found.videos] == [None, "a man", "a dog", None, None]
    assert found.videos[2].name == "sub/2.mp4" and found.name == "x.tar"
    assert {v.info.content for v in found.videos} == {content_of(found.videos[0].path)}
    assert all(read_video(v, [4]).shape == (1, 48, 64, 3) for v in found.videos)


def test_a_folder_of_tars_is_the_members_of_all(tmp_path, video):
    for name in "ab":
        tar_of(tmp_path / f"{name}.tar", {f"{name}.mp4": video})
    assert [Path(v.path).name for v in listed(tmp_path).videos] == ["a.mp4", "b.mp4"]


def test_members_are_listed_once_for_a_tar_as_it_is(tmp_path, video, monkeypatch):
    tar = tar_of(tmp_path / "x.tar", {"0.mp4": video})
    before, real = listed(tar), tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda *_args, **_more: pytest.fail("it was listed again"))
    assert listed(tar).videos == before.videos
    monkeypatch.setattr(tarfile, "open", real)
    tar_of(tar, {"1.mp4": video, "2.mp4": video})
    assert [Path(v.path).name for v in listed(tar).videos] == ["1.mp4", "2.mp4"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, video, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "cache"))
    assert len(listed(tar_of(tmp_path / "x.tar", {"0.mp4": video})).videos) == 1


@pytest.mark.parametrize("name", ["../../a.mp4", "/etc/a.mp4", "./x/../a.mp4", "."])
def test_a_name_leads_out_of_no_shard(tmp_path, video, name):
    drawn.mp4(tmp_path / "a.mp4", count=3)
    tar = tar_of(tmp_path / "x.tar", {name: video, "b.mp4": video})
    for one in listed(tar).videos:
        assert str(Path(os.path.normpath(one.path))).startswith(f"{tar}@")
        assert len(list(iterate_frames(one.path))) == 40


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "x.tar is no tar, or a compressed or damaged one"),
        (b"\x1f\x8b" + bytes(2000), "x.tar is no tar, or a compressed or damaged one"),
        (bytes(1024), "There is no video in x.tar"),
    ],
)
def test_what_is_no_tar_with_videos_is_a_sentence_and_no_video(tmp_path, content, said):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_splits(str(tmp_path / "x.tar"))


@pytest.mark.parametrize("cut", [20_000, 512 + 3, 1024])
def test_a_tar_that_is_cut_off_is_a_sentence(tmp_path, video, cut):
    tar = tar_of(tmp_path / "x.tar", {f"{n}.mp4": video for n in range(3)})
    with tarfile.open(tar) as opened:
        end = opened.getmembers()[-1].offset_data + -(-len(video) // 512) * 512
    os.truncate(tar, end if cut == 1024 else end - cut)
    with pytest.raises(UserError, match=r"x\.tar is cut off \(.+\); get it again, or unpack it\."):
        load_splits(str(tar))


def test_a_compressed_tar_is_a_sentence(tmp_path, video):
    tar_of(tmp_path / "x.tar.gz", {"0.mp4": video}, "w:gz")
    with pytest.raises(UserError, match=r"x\.tar\.gz is compressed, so that no video in it can be read alone; unpack"):
        load_splits(str(tmp_path / "x.tar.gz"))


def test_a_member_is_there_with_its_shard(tmp_path):
    assert not files.there(f"{tmp_path}/x.tar@512+3/a.mp4")
    (tmp_path / "x.tar").touch()
    assert files.there(f"{tmp_path}/x.tar@512+3/a.mp4")


def test_an_index_of_shards_knows_its_videos_again(folder, tmp_path, capsys):
    shutil.rmtree(folder / "videos")
    line = ["index", "--model", "random:r2plus1d_4?width=2", "--data", str(folder / "shards"), "--clips", "1"]
    for said in ("(12 added, 0 refreshed, 0 removed)", "(0 added, 0 refreshed, 0 removed)"):
        assert main([*line, "--out", str(tmp_path / "i"), "--workers", "0"]) == 0
        assert said in capsys.readouterr().out
    drawn.mp4(tmp_path / "q.mp4", count=33)
    assert main(["query", str(tmp_path / "i"), str(tmp_path / "q.mp4"), "--html", str(tmp_path / "q.html")]) == 0
    page = (tmp_path / "q.html").read_text()
    assert "shard-000000.tar@" in page and "<video" in page  # what a shard holds is shown, but no browser opens it
    assert [link for link in re.findall(r'href="(file:[^"]*)"', page) if "@" in link] == []


def test_a_scan_of_a_single_shard_decodes_what_is_in_it(made, tmp_path):
    pack_videos(str(made / "videos"), tmp_path / "one", workers=1)
    (shard,) = (tmp_path / "one").glob("*.tar")
    with tarfile.open(shard) as packed:
        member = max(packed.getmembers(), key=lambda member: member.size)
    whole = bytearray(shard.read_bytes())
    whole[member.offset_data + member.size // 4 : member.offset_data + 3 * member.size // 4] = bytes(member.size // 2)
    shard.write_bytes(whole)
    for data in (tmp_path / "one", shard):
        found = scan_to_manifest(str(data), tmp_path / f"{data.stem}.csv", workers=1)
        listed = load_splits(str(tmp_path / f"{data.stem}.csv")).train
        frames = sum(v.info.frames for v in scanned(listed).videos)
        assert frames < sum(30 + n for n in range(12)), found
