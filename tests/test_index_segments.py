"""An index in segments: it answers as one whole does, and grows, shrinks and is merged without touching what stays."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssl_video.apps import index_compact, index_folder, index_segments, nearest
from ssl_video.apps.index_build import Extracted, change
from ssl_video.apps.index_compact import compact
from ssl_video.apps.index_folder import open_index
from ssl_video.apps.index_segments import write_segments
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.index_update import update_index
from ssl_video.apps.options import IndexOptions, SearchOptions
from ssl_video.apps.picking import Neighbour, find, merged
from ssl_video.apps.queries import Query
from ssl_video.apps.search import Index, check_parts
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.eval.features import Features
from ssl_video.video.info import VideoInfo
from tests import indices
from tests.indices import entries_of, vectors_of

NOTHING = Extracted(None, Features([], [], [], []), {})
VIDEOS, CLIPS = 40, 3
OPTIONS = [SearchOptions(7), SearchOptions(99), SearchOptions(30, moments=True)]


@pytest.fixture
def small(monkeypatch):
    """Segments of at most 40 vectors."""
    monkeypatch.setattr(index_segments, "MOST", 40)


def alike(rows: int) -> np.ndarray:
    """Vectors of which some are equal and many nearly so."""
    vectors_RD = vectors_of(rows)
    vectors_RD[rows // 2 :: 5] = vectors_RD[: len(vectors_RD[rows // 2 :: 5])]
    vectors_RD[3::7] = vectors_RD[3]
    return vectors_RD


def query(number: int = 10**6, within_s: tuple[float, float] | None = None) -> Query:
    """A video from elsewhere with the content of the one of that number."""
    info = VideoInfo(40, 25.0, 8, 8, 1.6, "h264", content=f"{number:016x}")
    return Query(Video("/elsewhere.mp4", info=info), within_s)


def answers(stored: Stored, clips: int) -> list[list[Neighbour]]:
    queries_QD = np.concatenate([vectors_of(clips, seed=9), alike(VIDEOS * CLIPS)[9:11]])
    asked = [query(), query(4), query(4, (0, 1))]
    return [find(stored, queries_QD, one, options) for one in asked for options in OPTIONS]


@pytest.mark.parametrize("clips", [1, 7])
def test_segments_answer_as_one_to_the_last_bit(tmp_path, monkeypatch, clips):
    vectors_RD = alike(VIDEOS * CLIPS)
    one = indices.made(tmp_path / "one", entries_of(0, VIDEOS), vectors_RD)
    monkeypatch.setattr(index_segments, "MOST", 40)
    many = indices.made(tmp_path / "many", entries_of(0, VIDEOS), vectors_RD)
    assert (len(one.segments), len(many.segments)) == (1, 4)
    assert answers(one, clips) == answers(many, clips)
    assert one.entries == many.entries and np.array_equal(one.vectors_RD, many.vectors_RD)
    gone = {0, 1, 13, 14, 39}
    for stored in (one, many):
        change(stored, NOTHING, gone, {})
    one, many = (open_index(tmp_path / name) for name in ("one", "many"))
    assert answers(one, clips) == answers(many, clips)


@pytest.mark.parametrize("clips", [1, 7])
def test_parts_answer_as_one_to_the_last_bit(tmp_path, clips):
    vectors_RD = alike(VIDEOS * CLIPS)
    whole = answers(indices.made(tmp_path / "one", entries_of(0, VIDEOS), vectors_RD), clips)
    bounds = [(0, 17), (17, 18), (18, VIDEOS)]
    parts = [
        indices.made(tmp_path / str(a), entries_of(a, b - a), vectors_RD[CLIPS * a : CLIPS * b]) for a, b in bounds
    ]
    check_parts(parts)
    found = zip(*(answers(part, clips) for part in parts), strict=True)
    options = [(one, of) for one in (query(), query(4), query(4, (0, 1))) for of in OPTIONS]
    for each, right, (one, of) in zip(found, whole, options, strict=True):
        assert merged(each, of.top_k, moments=of.moments, identical_first=one.within_s is None) == right


def test_the_order_is_that_of_scores_in_double_precision(tmp_path, small):
    vectors_RD = vectors_of(VIDEOS * CLIPS)
    stored = indices.made(tmp_path / "i", entries_of(0, VIDEOS), vectors_RD)
    queries_QD = vectors_of(5, seed=3)
    cosines_VKQ = (vectors_RD.astype(np.float64) @ queries_QD.T.astype(np.float64)).reshape(VIDEOS, CLIPS, 5)
    scores_V = cosines_VKQ.max(1).mean(1)
    got = find(stored, queries_QD, query(), SearchOptions(VIDEOS))
    assert [n.path for n in got] == [f"/v/{n}.mp4" for n in np.argsort(-scores_V, kind="stable")]
    assert np.array_equal([n.score for n in got], np.sort(scores_V)[::-1].astype(np.float32))


def test_codes_are_looked_up_in_every_segment_and_few_vectors_have_none(tmp_path, small, monkeypatch):
    monkeypatch.setattr(nearest, "FEW", 15)
    stored = indices.made(tmp_path / "i", entries_of(0, 20), vectors_of(60), "IVF2,SQ8")
    assert [s.faiss_bytes is not None for s in stored.segments] == [True, True]
    for first, count in ((20, 4), (24, 8)):
        added(tmp_path / "i", entries_of(first, count), vectors_of(3 * count, seed=first))
    stored = open_index(tmp_path / "i")
    assert [s.faiss_bytes is not None for s in stored.segments] == [True, True, False, True]
    for number in range(32):
        clips_QD = np.array(stored.vectors_RD[3 * number : 3 * number + 3])
        for options in (SearchOptions(1), SearchOptions(1, rerank=0), SearchOptions(1, moments=True)):
            (first,) = find(stored, clips_QD, query(), options)
            assert first.path == f"/v/{number}.mp4" and first.score == pytest.approx(1, abs=0.02)


def added(folder: Path, entries, vectors_RD: np.ndarray) -> None:
    """Add videos whose vectors are given, as ``change`` adds those of a network."""
    stored = open_index(folder)
    writers = write_segments(folder, index_folder.next_number(folder), [(entries, vectors_RD)])
    trained = index_folder.trained_index(stored)
    notes = [index_compact.closed(w, trained, plain=w.rows < nearest.FEW) for w in writers]
    header = stored.header
    index_folder.commit(folder, header, [*header.segments, *notes], stored.removed_V, header.trained)


def sizes(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Of each file: which it is, its bytes and when it was written."""
    files = {str(p.relative_to(folder)): p.stat() for p in folder.rglob("*") if p.is_file()}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in files.items()}


@pytest.mark.parametrize("index_type", ["exact", "IVF2,SQ8"])
def test_adding_leaves_all_that_is_there_and_writes_little_more_than_what_is_new(tmp_path, index_type):
    indices.made(tmp_path / "i", entries_of(0, 300), vectors_of(900, 64), index_type)
    before = sizes(tmp_path / "i")
    added(tmp_path / "i", entries_of(300, 200), vectors_of(600, 64, 1))
    after = sizes(tmp_path / "i")
    assert {name for name in before if after.get(name) != before[name]} == {"header.json"}
    assert sum(size for name, (_, size, _) in after.items() if name not in before) < 2 * 600 * 64 * 4
    stored = open_index(tmp_path / "i")
    assert len(stored.entries) == 500 and stored.entries[400].path == "/v/400.mp4"


def test_removing_writes_bits_and_nothing_else(tmp_path, small):
    indices.made(tmp_path / "i", entries_of(0, VIDEOS), vectors_of(VIDEOS * CLIPS))
    before = sizes(tmp_path / "i")
    update_index(tmp_path / "i", None, None, remove=[Path(f"/v/{n}.mp4") for n in (3, 30)])
    after = sizes(tmp_path / "i")
    assert {name for name in after if after[name] != before.get(name)} == {"header.json", "removed-5.npy"}
    stored = open_index(tmp_path / "i")
    assert len(stored.entries) == VIDEOS - 2 and not {"/v/3.mp4", "/v/30.mp4"} & set(stored.paths())
    update_index(tmp_path / "i", None, None, remove=[Path("/v/4.mp4")])
    assert len(open_index(tmp_path / "i").entries) == VIDEOS - 3
    assert [p.name for p in (tmp_path / "i").glob("removed-*")] == ["removed-6.npy"]


@pytest.mark.parametrize("index_type", ["exact", "IVF2,SQ8"])
def test_merged_segments_hold_what_was_left_in_the_same_order(tmp_path, monkeypatch, index_type):
    vectors_RD = alike(VIDEOS * CLIPS)
    indices.made(tmp_path / "i", entries_of(0, 20), vectors_RD[:60], index_type)
    for first in range(20, VIDEOS, 4):
        added(tmp_path / "i", entries_of(first, 4), vectors_RD[3 * first : 3 * first + 12])
    change(open_index(tmp_path / "i"), NOTHING, {2, 30, 31}, {})
    monkeypatch.setattr(index_segments, "MOST", 70)
    done = compact(open_index(tmp_path / "i"))
    stored = open_index(tmp_path / "i")
    assert (done.before, done.after, done.dropped) == (6, 2, 3) and not stored.removed_V.any()
    left = [n for n in range(VIDEOS) if n not in (2, 30, 31)]
    assert list(stored.paths()) == [f"/v/{n}.mp4" for n in left]
    assert np.array_equal(stored.vectors_RD, vectors_RD.reshape(VIDEOS, CLIPS, -1)[left].reshape(-1, 16))
    assert all((s.faiss_bytes is not None) == (index_type != "exact") for s in stored.segments)
    assert compact(stored).after == 2 and sizes(tmp_path / "i") == sizes(tmp_path / "i")


def test_a_full_segment_stays_when_small_ones_are_merged(tmp_path, small):
    indices.made(tmp_path / "i", entries_of(0, 13), vectors_of(39))
    for first in (13, 15, 17):
        added(tmp_path / "i", entries_of(first, 2), vectors_of(6, seed=first))
    before = sizes(tmp_path / "i")
    assert compact(open_index(tmp_path / "i")).after == 2
    after = sizes(tmp_path / "i")
    assert all(after[name] == before[name] for name in before if name.startswith("segment-1/"))


@pytest.mark.parametrize("at", [1, 12, 20])
def test_a_merge_that_is_killed_leaves_the_old_index_whole(tmp_path, monkeypatch, at):
    indices.made(tmp_path / "i", entries_of(0, 20), vectors_of(60))
    added(tmp_path / "i", entries_of(20, 8), vectors_of(24, seed=1))
    change(open_index(tmp_path / "i"), NOTHING, {5}, {})
    before, left, whole = answers(open_index(tmp_path / "i"), 3), [at], os.fsync

    def killed(file):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        whole(file)

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        compact(open_index(tmp_path / "i"))
    monkeypatch.undo()
    stored = open_index(tmp_path / "i")
    assert len(stored.segments) == 2 and answers(stored, 3) == before
    compact(stored)
    assert answers(open_index(tmp_path / "i"), 3) == before and len(list((tmp_path / "i").glob("segment-*"))) == 1


@pytest.mark.parametrize("index_type", ["exact", "IVF2,SQ8"])
def test_an_index_of_the_format_before_answers_and_becomes_segments_with_its_first_change(tmp_path, index_type):
    indices.made(tmp_path / "i", entries_of(0, VIDEOS), alike(VIDEOS * CLIPS), index_type)
    whole = indices.made(tmp_path / "whole", entries_of(0, VIDEOS), alike(VIDEOS * CLIPS), index_type)
    indices.as_format2(tmp_path / "i")
    old = open_index(tmp_path / "i")
    assert old.header.format == 2 and answers(old, 5) == answers(whole, 5)
    update_index(tmp_path / "i", None, None, remove=[Path("/v/39.mp4")])
    new = open_index(tmp_path / "i")
    assert new.header.format == 3 and len(new.entries) == VIDEOS - 1
    assert sorted(p.name for p in (tmp_path / "i").iterdir() if p.suffix in (".jsonl", ".f32")) == []
    change(whole, NOTHING, {39}, {})
    assert answers(new, 5) == answers(open_index(tmp_path / "whole"), 5)
    assert [(s.faiss_bytes is None) for s in new.segments] == [index_type == "exact"]


def test_videos_are_found_by_path_state_and_content_as_in_a_dictionary(tmp_path, small):
    entries = [
        replace(e, content=f"{n // 2:016x}", size=n % 3, mtime_ns=5) for n, e in enumerate(entries_of(0, VIDEOS))
    ]
    indices.made(tmp_path / "i", entries, vectors_of(VIDEOS * CLIPS))
    change(open_index(tmp_path / "i"), NOTHING, {4, 7}, {})
    stored = open_index(tmp_path / "i")
    left = [n for n in range(VIDEOS) if n not in (4, 7)]
    for name, of in (("path", lambda e: e.path), ("content", lambda e: e.content), ("state", lambda e: (e.size, 5))):
        asked = [*dict.fromkeys(map(of, entries)), of(replace(entries[0], path="/v/none", content="f" * 16, size=9))]
        got = [[number for number, _ in found] for found in stored.having(name, asked)]
        assert got == [[n for n in left if of(entries[n]) == value] for value in asked]
    assert stored.entry(30) == replace(entries[30], first=90)
    assert [stored.owner(np.array([3 * n + 2]))[0] for n in (3, 4, 30)] == [3, -1, 30]


def test_entries_are_sliced_as_a_list_is(tmp_path, small):
    stored = indices.made(tmp_path / "i", entries_of(0, VIDEOS), vectors_of(VIDEOS * CLIPS))
    whole = list(stored.entries)
    assert len(stored.segments) > 1
    for part in (slice(None, None, -1), slice(20, 3, -4), slice(2, None, 7), slice(5, 5)):
        assert stored.entries[part] == whole[part]


def test_opening_reads_no_large_file(tmp_path, small, monkeypatch):
    stored = indices.made(tmp_path / "i", entries_of(0, VIDEOS), vectors_of(VIDEOS * CLIPS), "IVF2,SQ8")
    monkeypatch.setattr(index_segments, "SMALL", 0)
    monkeypatch.setattr(index_segments, "sha256", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(index_segments, "parsed_index", lambda *_: pytest.fail("faiss's file was read"))
    assert open_index(tmp_path / "i").entries[7] == stored.entries[7]


def refused(folders: list[Path]) -> str:
    with pytest.raises(UserError) as error:
        Index(folders)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


@pytest.fixture
def parts(tmp_path):
    for name, first in (("a", 0), ("b", 10)):
        indices.made(tmp_path / name, entries_of(first, 10), vectors_of(30, seed=first))
    return tmp_path


def test_an_index_is_searched_in_once(parts):
    assert len(Index([parts / "a", parts / "b"])) == 20
    assert "name each index once" in refused([parts / "a", parts / "b", parts / "a"])
    shutil.copytree(parts / "a", parts / "copy")
    assert f"{parts / 'copy'} is {parts / 'a'}, or a copy of it" in refused([parts / "a", parts / "copy"])
    assert "Name an index" in refused([])


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"weights": "1" * 16}, "by another model"), ({"clips": 9}, "another --clips"), ({"mean": [1.0] * 16}, "--like")],
)
def test_indices_whose_scores_cannot_be_compared_are_refused(parts, changes, said):
    stored = open_index(parts / "b")
    index_folder.commit(parts / "b", replace(stored.header, **changes), stored.header.segments, np.zeros(0, bool), "")
    assert said in refused([parts / "a", parts / "b"])


def test_a_segment_that_is_gone_or_of_another_index_is_one_sentence(parts):
    segment = parts / "a" / "segment-1"
    shutil.rmtree(segment)
    assert "lacks its file segment-1/segment.json" in refused([parts / "a"])
    shutil.copytree(parts / "b" / "segment-1", segment)
    assert "segment-1/segment.json was cut off or changed" in refused([parts / "a"])


def test_a_bitmap_that_disagrees_is_one_sentence(parts):
    change(open_index(parts / "a"), NOTHING, {1}, {})
    (bits,) = (parts / "a").glob("removed-*")
    bits.write_bytes(bits.read_bytes()[:-1] + b"\xff")
    assert "removed-2.npy was cut off or changed" in refused([parts / "a"])


def test_a_small_segment_with_damaged_columns_is_refused_when_it_is_merged(parts, monkeypatch):
    path = parts / "a" / "segment-1" / "path.npy"
    path.write_bytes(path.read_bytes().replace(b"/v/3.mp4", b"/v/X.mp4"))
    monkeypatch.setattr(index_segments, "SMALL", 0)
    change(open_index(parts / "a"), NOTHING, {1}, {})
    with pytest.raises(UserError, match=r"path\.npy was cut off or changed"):
        update_index(parts / "a", None, None, IndexOptions(compact=True))
    assert len(open_index(parts / "a").entries) == 9
