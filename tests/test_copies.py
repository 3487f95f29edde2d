"""A copy of an indexed video is found first, with a score of 1, and known as identical; names are the user's."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssl_video.apps import ranking
from ssl_video.apps.index_update import Work, index_videos, update_index
from ssl_video.apps.options import IndexOptions
from ssl_video.apps.search import Index, load_search_model
from ssl_video.cli import main
from ssl_video.datasets.spec import all_videos
from ssl_video.errors import UserError
from ssl_video.video.writer import Encoding, write_video
from tests.indices import as_format2

MODEL = "random:r2plus1d_4?width=4"
TYPES = ["exact", "Flat", "IVF2,Flat", "IVF3,SQ8", "PQ4x4", "IVF2,PQ4x4", "IVF2,PQ4x4fs", "PCAR8,PQ4x4", "HNSW8", "SQ4",
         "PCA8,IVF2,SQ8", "LSH"]  # fmt: skip
IDLE = Work(workers=0)


def scene(seed: int, count: int = 32) -> list[np.ndarray]:
    """Frames of a texture and a square that moves over it and changes its colour: clips of one video differ."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    colours = rng.integers(0, 255, (2, 3))
    frames = []
    for n in range(count):
        frame = ground.copy()
        x = round((n / count) * 40)
        frame[10:34, x : x + 24] = colours[0] + (colours[1] - colours[0]) * n // count
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def model():
    return load_search_model(None, spec=MODEL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes")
    for seed in range(12):
        write_video(out / f"{seed}.mp4", scene(seed))
    return out


@pytest.fixture(scope="module")
def others(folder, tmp_path_factory):
    """Elsewhere: a copy of video 3, the same pictures encoded anew, and its second half."""
    out = tmp_path_factory.mktemp("elsewhere")
    shutil.copyfile(folder / "3.mp4", out / "copy.mp4")
    write_video(out / "again.mp4", scene(3), encoding=Encoding({"crf": "28"}))
    write_video(out / "half.mp4", scene(3)[14:])
    return out


@pytest.fixture(scope="module")
def exact(folder, model, tmp_path_factory):
    return index_videos(folder, model, tmp_path_factory.mktemp("i") / "i", IndexOptions(4), IDLE)


@pytest.fixture(scope="module", params=TYPES)
def index(request, folder, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("typed") / "i"
    return index_videos(folder, model, out, IndexOptions(4, index_type=request.param), IDLE)


def names(found) -> list[str]:
    return [Path(n.path).name for n in found]


def test_a_copy_is_first_with_a_score_of_one_in_every_index(index, folder, others):
    first, *rest = index.search(others / "copy.mp4", k=5)
    assert (Path(first.path), first.identical) == (folder / "3.mp4", True)
    assert first.score == pytest.approx(1, abs=1e-5) and first.start_s == 0
    assert len(rest) == 4 and all(n.score < first.score and not n.identical for n in rest)
    moment = index.search(others / "copy.mp4", k=5, moments=True)[0]
    assert (Path(moment.path), moment.identical, moment.start_s) == (folder / "3.mp4", True, 0)
    assert moment.score == pytest.approx(1, abs=1e-5)
    again = index.search(others / "again.mp4", k=3)[0]
    assert Path(again.path) == folder / "3.mp4" and again.score > 0.9 and not again.identical
    assert names(index.search(others / "again.mp4", k=3, moments=True))[0] == "3.mp4"


def test_by_codes_alone_a_copy_is_first_too(index, folder, others):
    first = index.search(others / "copy.mp4", k=3, rerank=0)[0]
    assert (Path(first.path), first.identical) == (folder / "3.mp4", True)


def test_every_indexed_video_is_found_by_a_copy_of_it(exact, folder, tmp_path):
    for seed in range(12):
        copy = shutil.copyfile(folder / f"{seed}.mp4", tmp_path / "copy.mp4")
        assert [(Path(n.path).stem, round(n.score, 3)) for n in exact.search(copy, k=1)] == [(str(seed), 1.0)]


def test_a_part_of_a_video_finds_its_whole(exact, others):
    assert names(exact.search(others / "half.mp4", k=2))[0] == "3.mp4"
    # the whole does not find all of itself in a part
    assert exact.search(others / "half.mp4", k=1)[0].start_s > 0.3


def test_a_range_of_a_copy_finds_the_range(exact, others):
    first = exact.search(f"{others / 'copy.mp4'}@0-0.64", k=1)[0]
    assert names([first]) == ["3.mp4"] and first.identical and first.start_s == 0


def test_the_command_and_the_page_mark_what_is_identical(exact, others, tmp_path, capsys):
    words = ["query", str(exact.stored.folder), str(others / "copy.mp4"), "--top-k", "2"]
    assert main([*words, "--html", str(tmp_path / "r.html")]) == 0
    line, second = capsys.readouterr().out.splitlines()[1:3]
    assert line.split()[:2] == ["1", "1.000"] and line.endswith("3.mp4  (identical)") and "identical" not in second
    assert (tmp_path / "r.html").read_text().count("identical content") == 1
    assert main([*words, "--json"]) == 0
    assert [json.loads(x)["identical"] for x in capsys.readouterr().out.splitlines()] == [True, False]


def test_entries_note_content_and_classes(folder, model, tmp_path):
    for label, seed in (("a", 1), ("b", 2)):
        (tmp_path / "v" / label).mkdir(parents=True)
        shutil.copyfile(folder / f"{seed}.mp4", tmp_path / "v" / label / "x.mp4")
    entries = index_videos(tmp_path / "v", model, tmp_path / "i", IndexOptions(2), IDLE).stored.entries
    assert [e.labels for e in entries] == [("a",), ("b",)]
    assert len({e.content for e in entries}) == 2 and all(len(e.content) == 16 for e in entries)


def as_version_0_1(line: dict) -> dict:
    """Links were resolved, and neither content nor labels noted."""
    return {k: v for k, v in line.items() if k not in ("content", "labels")} | {"path": os.path.realpath(line["path"])}


@pytest.fixture
def links(folder, tmp_path):
    """A folder of links, as caches of downloads are: what the user calls a video is not what its file is called."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "links").mkdir()
    for seed in range(4):
        shutil.copyfile(folder / f"{seed}.mp4", tmp_path / "blobs" / f"{seed}hash")
        (tmp_path / "links" / f"kick_{seed}.mp4").symlink_to(f"../blobs/{seed}hash")
    return tmp_path / "links"


def test_links_keep_the_names_that_the_user_gave(links, model, tmp_path):
    index = index_videos(links, model, tmp_path / "i", IndexOptions(4), IDLE)
    assert index.videos == [str(links / f"kick_{n}.mp4") for n in range(4)]
    assert names(index.search(links / "kick_1.mp4", k=9)).count("kick_1.mp4") == 0


def test_a_folder_that_is_a_link_keeps_its_name_and_is_not_indexed_twice(links, model, tmp_path, monkeypatch):
    (tmp_path / "mine").symlink_to(links)
    monkeypatch.chdir(tmp_path)
    index = index_videos("mine", model, "i", IndexOptions(4), IDLE)
    assert index.videos == [str(tmp_path / "mine" / f"kick_{n}.mp4") for n in range(4)]
    assert update_index(Path("i"), model, all_videos(links), work=IDLE).videos == 4
    assert names(index.search(links / "kick_2.mp4", k=9)).count("kick_2.mp4") == 0  # under its other name


def test_a_folder_with_a_file_and_a_link_to_it_has_one_video(folder, model, tmp_path):
    (tmp_path / "v").mkdir()
    shutil.copyfile(folder / "1.mp4", tmp_path / "v" / "a.mp4")
    (tmp_path / "v" / "b.mp4").symlink_to("a.mp4")
    shutil.copyfile(folder / "2.mp4", tmp_path / "v" / "c.mp4")
    index = index_videos(tmp_path / "v", model, tmp_path / "i", IndexOptions(4), IDLE)
    assert names_of(index) == ["a.mp4", "c.mp4"]
    assert names(index.search(tmp_path / "v" / "b.mp4", k=9)) == ["c.mp4"]
    changes = update_index(tmp_path / "i", model, all_videos(tmp_path / "v"), work=IDLE)
    assert not (changes.added or changes.refreshed or changes.removed)


def names_of(index) -> list[str]:
    return [Path(path).name for path in index.videos]


def test_an_index_with_resolved_paths_is_searched_and_kept_up_to_date(links, others, model, tmp_path):
    out = tmp_path / "i"
    index_videos(links, model, out, IndexOptions(4), IDLE)
    as_format2(out, as_version_0_1)
    index = Index(out, model)
    assert names_of(index) == [f"{n}hash" for n in range(4)]
    assert "1hash" not in names(index.search(links / "kick_1.mp4", k=9))
    first = index.search(others / "copy.mp4", k=2)[0]
    assert (Path(first.path).name, round(first.score, 3), first.identical) == ("3hash", 1.0, True)

    (tmp_path / "blobs" / "2hash").unlink()
    write_video(tmp_path / "blobs" / "2hash.mp4", scene(22))
    (tmp_path / "blobs" / "2hash.mp4").rename(tmp_path / "blobs" / "2hash")
    changes = update_index(out, model, all_videos(links), work=IDLE)
    assert [Path(p).name for p in changes.added] == ["kick_2.mp4"]
    assert [Path(p).name for p in changes.removed] == ["2hash"]
    assert sorted(names_of(Index(out, model))) == [f"kick_{n}.mp4" for n in range(4)]
    update_index(out, None, None, remove=[tmp_path / "blobs" / "0hash"])
    update_index(out, None, None, remove=[links / "kick_1.mp4"])
    assert sorted(names_of(Index(out, model))) == ["kick_2.mp4", "kick_3.mp4"]


def test_a_link_that_dangles_is_pruned(links, model, tmp_path):
    index_videos(links, model, tmp_path / "i", IndexOptions(4), IDLE)
    (tmp_path / "blobs" / "1hash").unlink()
    assert [Path(p).name for p in update_index(tmp_path / "i", None, None, prune=True).removed] == ["kick_1.mp4"]


def test_of_a_query_of_many_clips_some_are_compared_and_of_a_copy_each_has_its_own():
    clips = np.arange(100.0)[:, None]
    thinned = ranking.thinned(clips)[:, 0]
    assert len(thinned) == ranking.QUERY_CLIPS and (thinned[0], thinned[-1]) == (0, 99)
    assert (ranking.thinned(clips[:5]) == clips[:5]).all()


def test_long_videos_are_compared_by_the_clips_that_are_near(exact, others, monkeypatch, model, folder, tmp_path):
    options = IndexOptions(0, index_type="IVF2,SQ8")
    index = index_videos(folder, model, tmp_path / "i", options, IDLE)
    whole = index.search(others / "half.mp4", k=3)
    monkeypatch.setattr(ranking, "SHORT", 1)
    assert [replace(n, score=round(n.score, 4)) for n in index.search(others / "half.mp4", k=3)] == [
        replace(n, score=round(n.score, 4)) for n in whole
    ]


def test_damaged_vectors_are_one_sentence(folder, others, model, tmp_path):
    index = index_videos(folder, model, tmp_path / "i", IndexOptions(4, index_type="HNSW8"), IDLE)
    index.stored.vectors_RD = np.array(index.stored.vectors_RD) * 2
    for moments in (False, True):
        with pytest.raises(UserError, match="were changed since it was made"):
            index.search(others / "copy.mp4", moments=moments)
