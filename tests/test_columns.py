"""Lists in columns: the same videos as in a tuple, from a file that was read once."""

import pickle
import re
import shutil
import sys
from dataclasses import MISSING, replace
from pathlib import Path

import numpy as np
import pytest

from ssl_video.datasets import large
from ssl_video.datasets.base import (
    COLUMNS_FROM,
    FACTS,
    LISTED,
    ListedVideo,
    Splits,
    Video,
    VideoList,
    VideoRows,
    VideoSet,
)
from ssl_video.datasets.conversion import convert, open_lists
from ssl_video.datasets.held_out import held_out, kept_of
from ssl_video.datasets.large import load_list
from ssl_video.datasets.many import (
    distinct,
    first_labels,
    in_both,
    in_fixed_order,
    labelled_twice,
    labels_of,
    numbers,
    resized,
    same_labels,
    sizes_of,
    some,
    units,
    with_codec,
)
from ssl_video.datasets.prepare import scan_to_manifest
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.table import load_table
from ssl_video.errors import UserError
from ssl_video.files import cache_dir
from ssl_video.video.info import Problem, VideoInfo
from tests import videos as drawn
from tests.listings import put, write

INFO = VideoInfo(40, 30000 / 1001, 64, 48, 0.1 + 0.2, "h264", -1024, 512.5, "0123456789abcdef")


def videos_of_every_kind() -> tuple[ListedVideo, ...]:
    """Names of any bytes, several labels or none, copies, captions, groups, scanned or not."""
    return (
        Video("/v/a/0.mp4", (1,), "g", info=INFO),
        ListedVideo("/v/b\udce9 é.mp4", (0, 2), caption='says "é", twice'),
        Video("/c/1.mp4", (), copy_of="/v/a/1.mp4", info=replace(INFO, frames=0, codec="", content="", state="7|8")),
        ListedVideo("/v/c.mp4", (1,), "g", annotation="/n/c", annotated="points", published="ucf101:train1"),
        Video("/v/a/0.mp4", (2,), info=replace(INFO, codec="flow", fps=25.0), resized_to=64, reversed_path="/r/0"),
    )


def scanned_videos(count: int, classes: int = 3) -> tuple[Video, ...]:
    """Videos in groups of up to four, some of no group, some unlabelled, a third of them copies of another one."""
    rng = np.random.default_rng(count)
    return tuple(
        Video(
            f"/v/{n % 7}/{n}.mp4",
            () if n % 11 == 0 else (int(rng.integers(classes)),),
            f"g{n // 4}" if n % 5 else "",
            info=replace(INFO, frames=int(rng.integers(20, 90)), content=f"{n % (2 * count // 3):016x}"),
        )
        for n in range(count)
    )


def in_columns(videos) -> VideoRows:
    return VideoRows.of(tuple(videos))


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr(large, "COLUMNS_FROM", 2)


# ---- rows


def test_rows_are_the_videos_that_were_written():
    videos = videos_of_every_kind()
    rows = in_columns(videos)
    assert tuple(rows) == videos and rows == videos and len(rows) == 5
    assert [type(v) for v in rows] == [type(v) for v in videos]
    assert [v.info.state for v in rows if isinstance(v, Video)] == ["", "7|8", ""]


def test_rows_are_indexed_and_cut_as_a_tuple_is():
    videos = videos_of_every_kind() * 3
    rows = in_columns(videos)
    assert rows[4] == videos[4] and rows[-1] == videos[-1]
    for cut in (slice(2, 9), slice(None, None, -2), slice(12, None), slice(3, 3)):
        assert rows[cut] == videos[cut] and rows[1:][cut] == videos[1:][cut]
    assert rows[:2] + videos[2:] == videos == videos[:2] + rows[2:]
    assert not rows[3:3] and rows.index(videos[3]) == 3
    with pytest.raises(IndexError):
        rows[15]


def test_rows_of_all_numbers_that_are_zero_are_read_back():
    videos = tuple(ListedVideo(f"/v/{n}.mp4", (0,)) for n in range(5))
    assert in_columns(videos) == videos


def test_a_pickle_of_rows_names_their_folder_and_not_their_videos():
    rows = in_columns(scanned_videos(500))[100:]
    message = pickle.dumps(rows)
    assert b".mp4" not in message
    assert pickle.loads(message).folder == rows.folder and pickle.loads(message) == rows


def test_columns_that_nobody_needs_any_more_are_removed():
    rows = in_columns(scanned_videos(5))
    part, folder = rows[1:3], rows.folder
    del rows
    assert folder.is_dir() and len(list(part)) == 2
    del part
    assert not folder.exists()


@pytest.mark.parametrize("makes", [tuple, in_columns])
def test_a_list_answers_alike_however_it_is_kept(makes):
    for videos in (
        scanned_videos(50),
        tuple(replace(v, labels=(*v.labels, 1), caption="a 'b'") for v in scanned_videos(40)),
    ):
        plain, kept = VideoSet("v", videos, ("a", "b", "c")), VideoSet("v", makes(videos), ("a", "b", "c"))
        for name in ("multi_label", "labelled", "hash"):
            assert getattr(kept, name) == getattr(plain, name)
        assert kept.has_hash(plain.hash)
    every = videos_of_every_kind()
    assert VideoList("v", makes(every), ("a",)).hash == VideoList("v", every, ("a",)).hash


def test_what_is_asked_of_all_videos_at_once_is_the_same_of_columns_and_of_a_tuple():
    videos = scanned_videos(60)
    several = (*videos, replace(videos[3], labels=(0, 1)), replace(videos[3], labels=(2,)))
    for plain in (videos, several, videos[:1], ()):
        rows = in_columns(plain)
        assert np.array_equal(numbers(rows, "frames"), numbers(plain, "frames"))
        assert np.array_equal(numbers(rows, "fps"), numbers(plain, "fps"))
        assert np.array_equal(first_labels(rows), first_labels(plain)) and labels_of(rows) == labels_of(plain)
        assert np.array_equal(units(rows), units(plain))
        assert labelled_twice(rows) == labelled_twice(plain)
        assert distinct(rows, "group") == distinct(plain, "group")
        assert np.array_equal(with_codec(rows, "h264"), with_codec(plain, "h264"))
        assert list(same_labels(rows, (1,))) == same_labels(plain, (1,))
        assert list(same_labels(rows, (0, 1))) == same_labels(plain, (0, 1))
        assert resized(rows, 32) == resized(plain, 32)
        assert list(sizes_of(rows)) == list(sizes_of(plain))
        assert in_fixed_order(rows) == in_fixed_order(plain)
        assert some(rows, np.arange(0, len(plain), 2)) == plain[::2]
    assert labelled_twice(several) == {videos[3].path}
    one, other = videos[:30], videos[20:]
    for name in ("path", "group"):
        assert in_both(in_columns(one), in_columns(other), name) == in_both(one, other, name)


# ---- held out


def slowly_held_out(videos, share: float, seed: int):
    """As it was written before there were columns: units as lists, one after the other."""
    total, units_of = len(videos), {}
    wanted = kept_of(total, share)
    for i, video in enumerate(videos):
        units_of.setdefault(f"group {video.group}" if video.group else f"video {i}", []).append(i)
    if len(units_of) == 1:
        units_of = {f"video {i}": [i] for i in range(total)}
    rng, by_class, placed = np.random.default_rng(seed), {}, []
    for unit in units_of.values():
        by_class.setdefault(videos[unit[0]].labels[:1], []).append(unit)
    for labels in sorted(by_class):
        members = [by_class[labels][i] for i in rng.permutation(len(by_class[labels]))]
        places = (np.arange(len(members)) + rng.random()) / len(members)
        places[-1] += 1
        placed += zip(places.tolist(), members, strict=True)
    order = [unit for _, unit in sorted(placed, key=lambda p: p[0])]
    chosen = set()
    for unit in order:
        if len(chosen) + len(unit) <= wanted:
            chosen.update(unit)
    chosen = chosen or set(min(order, key=len))
    return [v for i, v in enumerate(videos) if i not in chosen], [v for i, v in enumerate(videos) if i in chosen]


@pytest.mark.parametrize("count", [2, 3, 17, 200])
@pytest.mark.parametrize("share", [0.01, 0.2, 1])
def test_the_videos_that_are_held_out_are_those_of_earlier_versions(count, share):
    kinds = scanned_videos(count), tuple(replace(v, group="one") for v in scanned_videos(count))
    for videos in kinds:
        for seed in (0, 1):
            stays, out = slowly_held_out(videos, share, seed)
            for kept in (videos, in_columns(videos)):
                parts = held_out(VideoSet("v", kept), share, seed)
                assert [list(part.videos) for part in parts] == [stays, out]


# ---- from a list to columns


def both_ways(path: Path) -> tuple[Splits, Splits]:
    """A list as it is read when it is small, and when it is large."""
    with_columns = path.with_name("columns")
    shutil.rmtree(with_columns, ignore_errors=True)
    convert(path, with_columns)
    return load_table(path), open_lists(with_columns)


def assert_alike(path: Path) -> None:
    small, columns = both_ways(path)
    for one, other in ((small.train, columns.train), (small.test, columns.test)):
        if one is None or other is None:
            assert one is other
            continue
        assert (other.name, other.classes, other.problems) == (one.name, one.classes, one.problems)
        assert tuple(other.videos) == one.videos


IN_ORDER = "frames,fps,width,height,duration_s,codec,pts_start,pts_step"
VALUES = "117,29.97,320,240,3.9,h264,-1024,512.5"


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,x\nsub/c.mp4,y|z\na.mp4,\n",
        "path,label\ra.mp4,x\rsub/c.mp4,y\r",
        "\ufeffpath;label;split\na.mp4;x;train\nsub/c.mp4;y;validation\n",
        "sep=;\r\npath;label\r\na.mp4;10\r\nsub/c.mp4;9\r\n",
        "video,class\na.mp4,1.0\nsub/c.mp4,2\n",
        'path, label\na.mp4, "x, y"\nsub/c.mp4, "z"\n',
        ",path,label\n0,a.mp4,x\n1,sub/c.mp4,y\n",
        "path,label,\na.mp4,x,\nsub/c.mp4,y,\n",
        "a.mp4 3\nsub/c.mp4 11\n",
        "a.mp4\nsub/c.mp4\n",
        "0,a.mp4,x\n1,sub/c.mp4,y\n",
        "a.mp4,x,,\n\nsub/c.mp4,y,,\n",
        "path,label\n./a.mp4,x\nsub/../sub//c.mp4,y\n a.mp4 ,x\nsub\\c.mp4,x\n",
        "path,group,caption,split\na.mp4, g ,  says é  ,test\nsub/c.mp4,h,,\n",
        f"path,label,{IN_ORDER},content,state\na.mp4,x,{VALUES},00ff,\nsub/c.mp4,y,,,,,,,,,,\n",
        f"path,{IN_ORDER}\na.mp4,{VALUES}\nsub/c.mp4,{VALUES.replace('117', ' 118 ')}\n",
        f"path,label,reason,{IN_ORDER}\na.mp4,x,truncated,{VALUES}\nsub/c.mp4,y,listed but not there,{VALUES}\n",
        f"path,label,copy_of,annotation,annotated,published,{IN_ORDER}\na.mp4,1,sub/c.mp4,n,points,s:train,{VALUES}\n",
        f"path,{IN_ORDER}\na.mp4,12,25,,240,3.9,h264,0,0\nsub/c.mp4,{VALUES}\n",
    ],
)
def test_a_list_becomes_the_same_videos_in_columns(tmp_path, text):
    put(tmp_path, "a.mp4", "sub/c.mp4")
    assert_alike(write(tmp_path / "list.csv", text))


def test_a_test_list_beside_becomes_columns_too(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    write(tmp_path / "val.csv", "c.mp4,2.0\n")
    assert_alike(write(tmp_path / "train.csv", "a.mp4,1\nb.mp4,10\n"))
    assert_alike(write(tmp_path / "train.csv", "path,label,split\na.mp4,1,train\nb.mp4,10,test\n"))


def test_a_list_in_utf_16_becomes_columns(tmp_path):
    put(tmp_path, "ä.mp4")
    path = tmp_path / "list.csv"
    path.write_text("path,label\nä.mp4,ü\nä.mp4,ü\n", encoding="utf-16")
    assert_alike(path)


def test_names_of_any_bytes_become_columns(tmp_path):
    put(tmp_path, "b\udce9.mp4")
    path = tmp_path / "list.csv"
    path.write_text("path,label\nb\udce9.mp4,\udcff\n", "utf-8", "surrogateescape")
    assert_alike(path)


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,x\n ,y\n",
        "path,split\na.mp4,train\na.mp4,rest\n",
        "path,label\na.mp4,x,y\n",
        f"path,{IN_ORDER}\na.mp4,{VALUES.replace('117', '1.5')}\n",
        f"path,{IN_ORDER}\na.mp4,{VALUES.replace('117', '-3')}\n",
        f"path,{IN_ORDER}\na.mp4,{VALUES.replace('29.97', 'nan')}\n",
        f"path,{IN_ORDER}\na.mp4,{VALUES.replace('-1024', '9' * 30)}x\n",
        "path,size\na.mp4,3\n",
        "path,split\na.mp4,test\n",
        "a.mp4,3\na.mp4,-1\n",
        "a.mp4,3\na.mp4,1,2,3\n",
        "what is this\nno list\n",
        "\n\n",
        'path,label\n"a.mp4,x\n',
    ],
)
def test_a_wrong_list_is_the_same_sentence_however_long_it_is(tmp_path, text):
    put(tmp_path, "a.mp4")
    path = write(tmp_path / "list.csv", text)
    with pytest.raises(UserError) as small:
        load_table(path)
    with pytest.raises(UserError) as columns:
        convert(path, tmp_path / "columns")
    assert str(columns.value) == str(small.value)


def test_warnings_of_a_large_list_are_those_of_a_small_one(tmp_path, small_is_large, monkeypatch):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    rows = "a.mp4,x,g,train\na.mp4,y,g,train\nb.mp4,z,g,test\na.mp4,x,h,test\nc.mp4,X,i,train\n"
    path = write(tmp_path / "l.csv", f"path,label,group,split\n{rows}")
    warnings = load_splits(str(path)).warnings
    monkeypatch.setattr(large, "COLUMNS_FROM", 10**6)
    assert len(warnings) == 6 and load_splits(str(path)).warnings == warnings


def test_files_of_a_large_list_are_looked_for_by_the_scan(tmp_path, small_is_large):
    there = drawn.mp4(tmp_path / "a.mp4", count=20)
    path = write(tmp_path / "l.csv", "path,label\na.mp4,x\n gone.mp4,y\na.mp4,x\n")
    train = load_splits(str(path)).train
    assert isinstance(train.videos, VideoRows) and len(train.videos) == 3 and not train.problems
    found = scanned(train, workers=1)
    assert [v.path for v in found.videos] == [str(there)] * 2 and found.videos[1].frames == 20
    assert found.problems == (Problem(str(tmp_path / "gone.mp4"), "listed but not there"),)


def test_a_scan_of_a_large_list_takes_no_word_of_an_earlier_one(tmp_path, small_is_large):
    drawn.mp4(tmp_path / "a.mp4", count=20)
    wrong = f"path,label,reason,{IN_ORDER}\na.mp4,x,,{VALUES}\na.mp4,y,truncated,,,,,,,,\n"
    path = write(tmp_path / "l.csv", wrong)
    assert [v.frames for v in load_splits(str(path)).train.videos] == [117]
    done = scan_to_manifest(str(path), tmp_path / "new.csv", workers=1)
    assert (done.videos, done.frames, done.problems) == (2, 40, ())
    assert [v.frames for v in load_table(tmp_path / "new.csv").train.videos] == [20, 20]


def test_parquet_is_the_list_that_it_was_made_of(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    put(tmp_path, "a.mp4", "b.mp4")
    columns = {"path": ["a.mp4", "b.mp4"], "label": [["x", "y|z"], []], "frames": [117.0, None], "fps": [25.0, None]}
    columns |= {"width": [320, None], "height": [240, None], "duration_s": [3.9, None], "codec": ["h264", None]}
    columns |= {"pts_start": [-1024, None], "pts_step": [512.5, None], "caption": [None, "a dog"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "l.parquet")
    first, second = load_splits(str(tmp_path / "l.parquet")).train.videos
    assert first == Video(
        str(tmp_path / "a.mp4"), (0, 1), info=VideoInfo(117, 25.0, 320, 240, 3.9, "h264", -1024, 512.5)
    )
    assert second == ListedVideo(str(tmp_path / "b.mp4"), caption="a dog")
    assert_alike(tmp_path / "l.parquet")


def test_parquet_without_pyarrow_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    put(tmp_path, "l.parquet")
    with pytest.raises(UserError, match="needs the package pyarrow: pip install pyarrow"):
        load_splits(str(tmp_path / "l.parquet"))


def test_parquet_that_is_damaged_is_a_sentence(tmp_path):
    pytest.importorskip("pyarrow")
    write(tmp_path / "l.parquet", "no parquet")
    with pytest.raises(UserError, match=r"l\.parquet is damaged"):
        load_splits(str(tmp_path / "l.parquet"))


# ---- kept


@pytest.fixture
def long_list(tmp_path, small_is_large) -> Path:
    return write(tmp_path / "l.csv", "path,label\n" + "".join(f"{n}.mp4,{n % 3}\n" for n in range(30)))


def kept_for(path: Path) -> list[Path]:
    return [folder for folder in (cache_dir() / "lists").iterdir() if f'"{path.parent}"' in _about(folder)]


def _about(folder: Path) -> str:
    return (folder / "train" / "about.json").read_text()


def test_a_list_becomes_columns_once(long_list, monkeypatch):
    first = load_list(long_list).train
    monkeypatch.setattr(large, "convert", None)
    again = load_list(long_list).train
    assert again == first and again.videos.folder == first.videos.folder


def test_a_list_that_has_changed_becomes_columns_again(long_list):
    before = load_list(long_list).train
    long_list.write_text(long_list.read_text() + "new.mp4,5\n")
    after = load_list(long_list).train
    assert (len(before.videos), len(after.videos), after.classes) == (30, 31, ("0", "1", "2", "5"))
    assert len(kept_for(long_list)) == 1  # those of before are gone
    assert before.videos[29].name.endswith("29.mp4")  # but not for who has opened them


def test_a_list_that_changes_while_it_is_read_is_a_sentence_and_is_not_kept(long_list, monkeypatch):
    def changed_by_the_way(path, folder, facts=True):
        convert(path, folder, facts)
        path.write_text(path.read_text() + "new.mp4,5\n")

    monkeypatch.setattr(large, "convert", changed_by_the_way)
    with pytest.raises(UserError, match=r"l\.csv changed while it was read; run the same line again"):
        load_list(long_list)
    assert kept_for(long_list) == []


@pytest.mark.parametrize("damage", ["train/about.json", "train/path.npy", "train/path.ends.npy", "about.json"])
@pytest.mark.parametrize("how", ["cut off", "gone", "other"])
def test_columns_that_are_damaged_are_made_again(long_list, damage, how):
    before = list(load_list(long_list).train.videos)
    (folder,) = kept_for(long_list)
    raw = (folder / damage).read_bytes()
    (folder / damage).unlink()
    if how != "gone":
        (folder / damage).write_bytes(raw[: len(raw) // 2] if how == "cut off" else b"{}")
    with pytest.warns(UserWarning, match="was damaged .* is made again"):
        again = load_list(long_list).train
    assert list(again.videos) == before


def test_columns_that_are_damaged_within_are_a_sentence_when_a_video_is_asked_for(long_list):
    rows = load_list(long_list).train.videos
    ends = np.load(rows.folder / "path.ends.npy", "r+")
    ends[7] = -5
    ends.flush()
    with pytest.raises(UserError, match=f"The list in {re.escape(str(rows.folder))} is damaged"):
        rows[7]
    shutil.rmtree(rows.folder)
    with pytest.raises(UserError, match="is damaged, or cannot be seen from here"):
        list(pickle.loads(pickle.dumps(rows)))


def test_a_cache_that_cannot_be_written_is_done_without(long_list, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "file"))
    train = load_list(long_list).train
    assert len(train.videos) == 30 and train.videos[3].label == 0


def test_no_room_for_columns_anywhere_is_a_sentence(long_list, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"The columns of .*l\.csv cannot be written .* SSL_VIDEO_CACHE or TMPDIR"):
        load_list(long_list)


def test_a_disk_that_is_full_on_the_way_leaves_nothing_behind(long_list, monkeypatch):
    def full(path, folder, facts=True):
        (folder / "train").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(large, "convert", full)
    with pytest.raises(UserError, match="No space left on device"):
        load_list(long_list)
    assert list((cache_dir() / "lists").glob(".*")) == []


def test_a_column_may_be_added_to_a_video_without_another_word(monkeypatch):
    """What a later field costs: a column where videos have it, and its default where they have not."""
    plain = in_columns(ListedVideo(f"/v/{n}.mp4") for n in range(3))
    assert set(plain.columns.arrays) == {"path"}
    with_captions = in_columns(ListedVideo(f"/v/{n}.mp4", caption="a" * n or None) for n in range(3))
    assert set(with_captions.columns.arrays) == {"path", "caption"}
    assert [v.caption for v in with_captions] == [None, "a", "aa"]


def test_every_field_that_may_be_left_out_is_empty_by_default():
    assert [f.name for f in (*LISTED.values(), *FACTS.values()) if f.default not in (MISSING, None, "", 0, ())] == []


def test_so_many_rows_are_large(tmp_path):
    path = write(tmp_path / "l.csv", "a.mp4\n" * (COLUMNS_FROM - 1))
    assert not large.is_large(path)
    path.write_text(path.read_text() + "a.mp4\n")
    assert large.is_large(path) and isinstance(load_list(path).train.videos, VideoRows)
