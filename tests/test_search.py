"""A search index: what it finds, how it is kept up to date, and what becomes of it when something goes wrong."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video import files
from ssl_video.apps import index_folder, index_segments, index_update, nearest
from ssl_video.apps.index_build import standardisation
from ssl_video.apps.index_folder import locked, open_index
from ssl_video.apps.index_update import Work, index_videos, update_index
from ssl_video.apps.options import IndexOptions, SearchOptions
from ssl_video.apps.queries import Query, queries_of, split_range
from ssl_video.apps.search import Index, search
from ssl_video.cli import main
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval import shards as shards_module
from ssl_video.eval.features import Extraction, clip_starts, extract
from ssl_video.model import Model
from ssl_video.train.data import read_video
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import VideoError
from ssl_video.video.view import View
from tests import warm
from tests.nets import drawn_frames, tiny_backbone

ROOT = Path(__file__).resolve().parents[1]
INFO = VideoInfo(40, 25.0, 12, 12, 1.6, "h264", content="0123456789abcdef")
SPAN = 7  # frames of the view below
IDLE = Work(workers=0)


@pytest.fixture
def model():
    return Model("random:tiny", tiny_backbone().eval(), View(4, 2, 12, 8), {}, torch.device("cpu"))


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """Which drawn videos were read, and which of their frames; a file that says "bad" cannot be; shards of four."""
    seen: list[tuple[str, list[int]]] = []

    def read(video, frames, each=None):
        if video.info is not INFO:
            return read_video(video, frames)
        content = Path(video.path).read_text()
        seen.append((Path(video.path).name, list(frames)))
        if content == "bad":
            raise VideoError("it is damaged")
        return drawn_frames(replace(video, path=f"/{content}.mp4", labels=(0,)), frames)

    def scanned(videos, **_options):
        known = (v if isinstance(v, Video) else v.scanned(INFO) for v in videos.videos)
        return VideoSet(videos.name, tuple(known), videos.classes, videos.problems)

    monkeypatch.setattr(features_module, "read_video", read)
    monkeypatch.setattr(shards_module, "SHARD", 4)
    monkeypatch.setattr(index_update, "scanned", scanned)
    return seen


def drawn(folder: Path, *numbers: int) -> VideoSet:
    """Files NUMBER.mp4 that hold their number, made if they are not there."""
    folder.mkdir(exist_ok=True)
    for n in numbers:
        if not (folder / f"{n}.mp4").exists():
            (folder / f"{n}.mp4").write_text(str(n))
    return VideoSet("drawn", tuple(Video(str(folder / f"{n}.mp4"), info=INFO) for n in numbers))


def names(paths) -> list[str]:
    return [Path(p).name for p in paths]


def first_clip(out: Path, number: int) -> Query:
    return Query(drawn(out.parent / "queries", number).videos[0], (0, SPAN / 25))


def found(out: Path, model, number: int, top_k: int = 99, **options) -> list[str]:
    """Names of what is found, for the first clip of a video of that number from elsewhere."""
    query = first_clip(out, number)
    return names(n.path for n in search(open_index(out), model, query, SearchOptions(top_k, **options)))


@pytest.fixture
def index(tmp_path, model):
    update_index(tmp_path / "i", model, drawn(tmp_path / "v", *range(8)), IndexOptions(3), work=IDLE)
    return tmp_path / "i"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Indices of eight videos, one a type, made when it is asked for the first time."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def built(made, tmp_path, model):
    """A copy of the index of a type."""

    def copy(index_type: str) -> Path:
        whole = made / index_type
        if not whole.exists():
            update_index(whole, model, drawn(made / "v", *range(8)), IndexOptions(3, index_type=index_type), work=IDLE)
        return Path(shutil.copytree(whole, tmp_path / "i"))

    return copy


def test_neighbours_are_those_of_cosines_written_out(index, model, tmp_path):
    videos, (other,) = drawn(tmp_path / "v", *range(8)), drawn(tmp_path / "queries", 20).videos
    clips = [c.astype(np.float64) for c in extract(model, videos, Extraction(3, "rich"), workers=0).clips_KD]
    every = np.concatenate(clips)
    std = every.std(0)
    mean, scale = every.mean(0), np.where(std > 1e-3 * std.max(), 1 / np.maximum(std, 1e-12), 0)
    (queries,) = extract(model, VideoSet("other", (other,)), Extraction(3, "rich"), workers=0).clips_KD

    def cosine(a, b):
        a, b = (a - mean) * scale, (b - mean) * scale
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    scores = {
        f"{n}.mp4": float(np.mean([max(cosine(query, x) for x in own) for query in queries]))
        for n, own in enumerate(clips)
    }
    got = search(open_index(index), model, Query(other), SearchOptions(8))
    assert names(n.path for n in got) == sorted(scores, key=lambda name: -scores[name])
    assert np.allclose([n.score for n in got], sorted(scores.values(), reverse=True), atol=1e-4)


def test_a_video_of_the_index_does_not_find_itself_but_its_copy_does(index, model, tmp_path):
    own = drawn(tmp_path / "v", 3).videos[0]
    assert "3.mp4" not in names(n.path for n in Index(index, model).search(own, 99))
    assert found(index, model, 3)[0] == "3.mp4"


def test_an_index_is_made_opened_and_searched_by_paths(tmp_path, model, monkeypatch):
    monkeypatch.setattr("ssl_video.apps.search.scanned", index_update.scanned)
    videos = drawn(tmp_path / "v", *range(8))
    made = index_videos(videos, model, tmp_path / "i", IndexOptions(3), IDLE)
    other = str(drawn(tmp_path / "queries", 3).videos[0].path)
    assert len(made) == 8 and names(made.videos) == [f"{n}.mp4" for n in range(8)]
    assert made.search(other, k=2) == search(made.stored, model, Query(Video(other, info=INFO)), SearchOptions(2))
    first = search(made.stored, model, first_clip(tmp_path / "i", 3), SearchOptions(2))
    assert made.search(f"{other}@0-0.28", 2) == first
    with pytest.raises(UserError, match=r"There is no video file nothing\.mp4"):
        made.search("nothing.mp4")


def test_a_search_by_python_says_what_is_wrong_in_a_sentence(index, model, tmp_path):
    own = drawn(tmp_path / "v", 3).videos[0]
    with pytest.raises(UserError, match=r"3\.mp4@1\.7-2 cannot be used as a query: it ends after 1\.60 s\."):
        Index(index, model).search(Query(own, (1.7, 2.0)))
    with pytest.raises(UserError, match="--top-k must be a whole number of 1 or more"):
        Index(index, model).search(own, 0)


def test_queries_come_from_videos_ranges_folders_and_lists(tmp_path):
    drawn(tmp_path / "v", 1, 2)
    (tmp_path / "list.csv").write_text("path\nv/1.mp4\nv/9.mp4\n")
    queries, problems = queries_of([str(tmp_path / w) for w in ("v", "v/2.mp4@1-2", "list.csv")])
    assert [Path(q.name).name for q in queries] == ["1.mp4", "2.mp4", "2.mp4@1-2", "1.mp4"]
    assert names(p.path for p in problems) == ["9.mp4"]
    with pytest.raises(UserError, match="Name a video to search with"):
        queries_of([])


def test_moments_are_several_of_one_video_and_do_not_overlap(index, model, tmp_path):
    query = Query(drawn(tmp_path / "queries", 3).videos[0])
    got = search(open_index(index), model, query, SearchOptions(99, moments=True))
    assert len(got) == 24 and len({n.path for n in got}) == 8
    update_index(tmp_path / "w", model, drawn(tmp_path / "v", *range(8)), IndexOptions(clips=0), work=IDLE)
    dense = search(open_index(tmp_path / "w"), model, query, SearchOptions(99, moments=True))
    for a in dense:
        assert sum(a.path == b.path and a.start_s < b.end_s and b.start_s < a.end_s for b in dense) == 1


def test_a_range_is_searched_with_by_frames_inside_it_only(index, model, tmp_path, reads):
    own = drawn(tmp_path / "v", 3).videos[0]
    reads.clear()
    got = search(open_index(index), model, Query(own, (0.4, 0.8)), SearchOptions(99, moments=True))
    frames = [f for _, frames in reads for f in frames]
    assert min(frames) == 10 and max(frames) == 19
    own_moments = [(n.start_s, n.end_s) for n in got if n.path == own.path]
    assert own_moments and all(end <= 0.4 or start >= 0.8 for start, end in own_moments)


def test_a_range_behind_the_end_is_a_phrase(index, model, tmp_path):
    with pytest.raises(VideoError, match=r"ends after 1\.60 s"):
        search(open_index(index), model, Query(drawn(tmp_path / "v", 3).videos[0], (1.7, 2.0)))


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5), st.data())
def test_clips_of_a_range_lie_inside_it_where_it_has_room(frames, span, clips, data):
    first = data.draw(st.integers(0, frames - 1))
    end = data.draw(st.integers(first + 1, frames))
    starts = clip_starts(frames, span, clips, (first, end))
    assert len(starts) and starts.min() >= 0 and starts.max() <= max(0, frames - span)
    if end - first >= span:
        assert starts.min() >= first and starts.max() + span <= end
    else:
        assert len(starts) == 1


def test_a_range_is_split_off_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_range("a@b.mp4@12.5-15") == ("a@b.mp4", (12.5, 15.0))
    assert split_range("a@b.mp4") == ("a@b.mp4", None)
    (tmp_path / "v@1-2").touch()
    assert split_range("v@1-2") == ("v@1-2", None)
    with pytest.raises(UserError, match="ends before it starts"):
        split_range("v.mp4@3-2")


@pytest.mark.parametrize("index_type", ["exact", "IVF2,SQ8"])
def test_an_update_reads_only_what_is_new_or_changed(tmp_path, model, reads, index_type):
    out, options = tmp_path / "i", IndexOptions(3, index_type=index_type)
    update_index(out, model, drawn(tmp_path / "v", *range(16)), options, work=IDLE)
    before = {e.path: open_index(out).vectors_RD[e.first] for e in open_index(out).entries}
    (tmp_path / "v" / "2.mp4").write_text("77")
    reads.clear()
    changes = update_index(out, model, drawn(tmp_path / "v", *range(17)), work=IDLE)
    assert sorted({name for name, _ in reads}) == ["16.mp4", "2.mp4"]
    assert names(changes.added) == ["16.mp4"] and names(changes.refreshed) == ["2.mp4"] and changes.videos == 17
    stored = open_index(out)
    assert len(stored.entries) == 17 and stored.header.rows == 16 * 3 + 6
    for entry in stored.entries:
        if Path(entry.path).name not in ("2.mp4", "16.mp4"):
            assert (stored.vectors_RD[entry.first] == before[entry.path]).all()
    assert found(out, model, 77)[0] == "2.mp4" and found(out, model, 16)[0] == "16.mp4"
    assert len(found(out, model, 2)) == 17  # the vectors of the file as it was are passed over


def test_a_file_that_was_only_touched_is_looked_at_again(index, model, tmp_path):
    os.utime(tmp_path / "v" / "3.mp4", ns=(1, 1))
    assert names(update_index(index, model, drawn(tmp_path / "v", *range(8)), work=IDLE).refreshed) == ["3.mp4"]


def test_nothing_is_written_when_nothing_has_changed(index, model, tmp_path):
    before = {p.name: p.stat().st_mtime_ns for p in index.iterdir()}
    changes = update_index(index, model, drawn(tmp_path / "v", *range(8)), work=IDLE)
    assert not (changes.added or changes.refreshed or changes.removed) and changes.videos == 8
    assert {p.name: p.stat().st_mtime_ns for p in index.iterdir()} == before


@pytest.mark.parametrize("index_type", ["exact", "IVF2,SQ8"])
def test_removed_videos_are_not_found_and_leave_the_files_when_they_are_many(tmp_path, model, index_type):
    out, folder = tmp_path / "i", tmp_path / "v"
    update_index(out, model, drawn(folder, *range(16)), IndexOptions(3, index_type=index_type), work=IDLE)
    assert names(update_index(out, None, None, remove=[folder / "4.mp4"]).removed) == ["4.mp4"]
    assert open_index(out).header.rows == 48 and found(out, model, 4)[0] != "4.mp4"
    (folder / "5.mp4").unlink()
    assert names(update_index(out, None, None, prune=True).removed) == ["5.mp4"]
    update_index(out, None, None, remove=[folder / "6.mp4", folder / "7.mp4"])
    stored = open_index(out)
    assert stored.header.rows == 36 == stored.vectors_RD.shape[0]
    assert sorted(found(out, model, 9)) == sorted(f"{n}.mp4" for n in range(16) if n not in (4, 5, 6, 7))
    assert found(out, model, 9)[0] == "9.mp4" and len(list(out.glob("segment-*"))) == 1


def test_a_folder_is_removed_with_all_that_lies_below_it(index, tmp_path):
    with pytest.raises(UserError, match="No video would be in the index"):
        update_index(index, None, None, remove=[tmp_path])
    with pytest.raises(UserError, match="holds no video"):
        update_index(index, None, None, remove=[tmp_path / "elsewhere"])
    assert len(open_index(index).entries) == 8


def test_what_cannot_be_read_is_listed_and_leaves_the_index_when_it_was_good_before(index, model, tmp_path):
    (tmp_path / "v" / "2.mp4").write_text("bad")
    (tmp_path / "v" / "9.mp4").write_text("bad")
    (tmp_path / "v" / "10.mp4").write_text("10")
    videos = drawn(tmp_path / "v", *range(11))
    (tmp_path / "v" / "8.mp4").unlink()
    changes = update_index(index, model, videos, work=IDLE)
    assert {Path(p.path).name: p.reason for p in changes.problems} == {
        "2.mp4": "it is damaged", "9.mp4": "it is damaged", "8.mp4": "cannot be read: No such file or directory",
    }  # fmt: skip
    assert names(changes.removed) == ["2.mp4"] and names(changes.added) == ["10.mp4"] and changes.videos == 8


def test_a_network_that_diverged_makes_no_index(tmp_path, model, monkeypatch):
    nothing = torch.nn.Parameter(torch.full_like(model.backbone.stages["stem"][0].weight, float("nan")))
    monkeypatch.setattr(model.backbone.stages["stem"][0], "weight", nothing)
    with pytest.raises(UserError, match=r"^random:tiny cannot be used: NaN .* \(the first: network\.stem\.0\.weight\)"):
        update_index(tmp_path / "i", model, drawn(tmp_path / "v", 1), work=IDLE)
    assert not (tmp_path / "i" / "header.json").exists()


def test_no_video_is_left_out_of_an_index_or_searched_with_because_the_network_overflows(
    index, model, tmp_path, monkeypatch
):
    whole = model.clip_features
    answers = {"times": 1e20}
    monkeypatch.setattr(model, "clip_features", lambda *a: whole(*a) * answers["times"])
    with pytest.raises(UserError, match=r"^random:tiny cannot be used: its features of 2 of the first 2 videos"):
        update_index(index, model, drawn(tmp_path / "v", 8, 9), work=IDLE)
    with pytest.raises(UserError, match=r"^random:tiny cannot be used: its features of a video are not finite"):
        found(index, model, 3)
    answers["times"] = 1
    assert update_index(index, model, drawn(tmp_path / "v", 8, 9), work=IDLE).videos == 10


def test_a_folder_without_one_good_video_makes_no_index(tmp_path, model):
    videos = drawn(tmp_path / "v", 1)
    (tmp_path / "v" / "1.mp4").write_text("bad")
    with pytest.raises(UserError, match=r"No video would be in the index .*it is damaged"):
        update_index(tmp_path / "i", model, videos, work=IDLE)
    (tmp_path / "v" / "1.mp4").write_text("1")
    assert update_index(tmp_path / "i", model, videos, work=IDLE).videos == 1


def test_an_interrupted_extraction_goes_on_where_it_was(tmp_path, model, reads, monkeypatch):
    videos, whole = drawn(tmp_path / "v", *range(10)), shards_module.extract

    def killed(model, part, what, **options):
        if part.videos[0].path.endswith("8.mp4"):
            raise KeyboardInterrupt
        return whole(model, part, what, **options)

    monkeypatch.setattr(shards_module, "extract", killed)
    with pytest.raises(KeyboardInterrupt):
        update_index(tmp_path / "i", model, videos, IndexOptions(1), work=IDLE)
    with pytest.raises(UserError, match="no index"):
        open_index(tmp_path / "i")
    monkeypatch.setattr(shards_module, "extract", whole)
    reads.clear()
    assert update_index(tmp_path / "i", model, videos, IndexOptions(1), work=IDLE).videos == 10
    assert [name for name, _ in reads] == ["8.mp4", "9.mp4"] and not (tmp_path / "i" / "extracted").exists()


@pytest.mark.parametrize("moment", ["segment.json", "header.json"])
def test_an_update_that_is_killed_leaves_the_old_index_and_the_next_one_succeeds(
    index, model, tmp_path, monkeypatch, moment
):
    before, whole = found(index, model, 3), files.write_text

    def killed(path, text):
        if Path(path).name == moment:
            raise KeyboardInterrupt
        whole(path, text)

    for module in (index_folder, index_segments):
        monkeypatch.setattr(module, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        update_index(index, model, drawn(tmp_path / "v", *range(12)), work=IDLE)
    assert found(index, model, 3) == before
    for module in (index_folder, index_segments):
        monkeypatch.setattr(module, "write_text", whole)
    assert update_index(index, model, drawn(tmp_path / "v", *range(11)), work=IDLE).videos == 11
    named = {note.name for note in open_index(index).header.segments}
    assert named == set(names(index.glob("segment-*"))) and len(named) == 2
    assert sorted(found(index, model, 9)) == sorted(f"{n}.mp4" for n in range(11))


def test_an_update_beside_a_reader_does_not_disturb_it(index, model, tmp_path):
    stored = open_index(index)
    update_index(index, None, None, remove=[tmp_path / "v" / f"{n}.mp4" for n in range(4)])
    got = search(stored, model, first_clip(index, 3), SearchOptions(1))
    assert names(n.path for n in got) == ["3.mp4"]


def test_a_second_process_that_wants_to_change_an_index_is_told_so(index, model, tmp_path):
    with locked(index), pytest.raises(UserError, match="writes into"):
        update_index(index, None, None, remove=[tmp_path / "v" / "1.mp4"])
    assert len(open_index(index).entries) == 8
    code = (
        "import sys, pathlib; from ssl_video.apps.index_folder import locked\nwith locked(pathlib.Path(sys.argv[1])): 1"
    )
    with locked(index):
        done = warm.run(["-c", code, str(index)])
    assert f"An update of the index (process {os.getpid()}" in done.stderr


@pytest.mark.parametrize("change", ["cut off", "altered", "gone"])
@pytest.mark.parametrize(
    "name",
    ["header.json", "segment-1/segment.json", "segment-1/about.json", "segment-1/vectors.npy", "segment-1/path.npy",
     "segment-1/times.ends.npy", "segment-1/path.keys.npy", "segment-1/index.faiss"],
)  # fmt: skip
def test_a_file_that_was_cut_off_or_altered_or_is_gone_is_refused(built, tmp_path, model, name, change):
    out = built("exact" if "vectors" in name else "IVF2,SQ8")
    path = out / name
    content = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if change == "cut off" else content[:30] + b"\xff" + content[31:])
    with pytest.raises(UserError) as error:
        found(out, model, 3)
    assert re.search(r"with 'ssl-video index( --rebuild)?'\.$", str(error.value)) and "\n" not in str(error.value)


def test_vectors_that_were_altered_are_noticed_when_they_are_compared_or_merged(built, model):
    out = built("IVF2,SQ8")
    path = out / "segment-1" / "vectors.npy"
    path.write_bytes(path.read_bytes()[:128] + b"\0\0\x80\x3f" * (path.stat().st_size // 4 - 32))
    with pytest.raises(UserError, match="were changed"):
        found(out, model, 3)
    update_index(out, None, None, remove=[Path(open_index(out).entries[0].path)])
    with pytest.raises(UserError, match="cut off or changed"):
        update_index(out, None, None, IndexOptions(compact=True))


@pytest.mark.parametrize(
    "changes",
    [{"segments": [{"name": "../../etc", "videos": 8, "rows": 24, "sha256": ""}]}, {"segments": []}, {"rows": "many"},
     {"rows": 10**12}, {"videos": 9}, {"removed": "removed-1.npy"}, {"mean": [0.0]}, {"mean": None}, {"more": 1},
     {"format": "2"}, {"format": 2}, {"format": 0}, {"sha256": None}],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_one_sentence(index, changes):
    header = json.loads((index / "header.json").read_text())
    (index / "header.json").write_text(json.dumps(header | changes))
    with pytest.raises(UserError, match="make the index again"):
        open_index(index)


def test_faiss_reads_no_file_whose_digest_is_not_the_stored_one(built, model, monkeypatch):
    import faiss

    out = built("IVF2,SQ8")
    path = out / "segment-1" / "index.faiss"
    path.write_bytes(bytes(path.stat().st_size))
    monkeypatch.setattr(faiss, "deserialize_index", lambda _bytes: pytest.fail("faiss was asked to read it"))
    with pytest.raises(UserError, match="changed"):
        found(out, model, 3)


def test_a_newer_and_an_older_format_say_what_to_do(index, tmp_path):
    header = json.loads((index / "header.json").read_text())
    (index / "header.json").write_text(json.dumps({"format": 4, "novelty": True}))
    with pytest.raises(UserError, match=r"newer version of ssl-video \(format 4, this one reads 3\)"):
        open_index(index)
    assert header["format"] == 3
    old = tmp_path / "old"
    old.mkdir()
    (old / "index.json").write_text("{}")
    with pytest.raises(UserError, match="older version"):
        open_index(old)
    with pytest.raises(UserError, match="older version"), locked(old):
        pass


def test_an_index_made_by_version_0_1_opens():
    index = Index(ROOT / "tests" / "made_by_0_1" / "index")
    assert names(index.videos) == ["train-00000.mp4", "train-00005.mp4", "train-00007.mp4"]
    vectors_RD = np.array(index.stored.vectors_RD)
    assert nearest.search(vectors_RD, None, vectors_RD, 1)[1].ravel().tolist() == list(range(6))
    assert index.stored.header.model == "random:r2plus1d_4?width=2"


def test_another_model_is_refused(index, model, tmp_path):
    other = replace(model, name="other", backbone=tiny_backbone(width=4).eval())
    with pytest.raises(UserError, match="built by another model than other"):
        Index(index, other)
    with pytest.raises(UserError, match="built by another model"):
        update_index(index, other, drawn(tmp_path / "v", 1), work=IDLE)


def test_options_of_an_index_stay(index, model, tmp_path):
    for options in (IndexOptions(clips=4), IndexOptions(readout="avg"), IndexOptions(index_type="ivfpq")):
        with pytest.raises(UserError, match="--clips 3 --readout rich --index-type exact"):
            update_index(index, model, drawn(tmp_path / "v", 1), options, work=IDLE)


def test_a_folder_of_something_else_is_not_touched(tmp_path, model):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"no index \(thesis.txt\)"):
        update_index(tmp_path / "o", model, drawn(tmp_path / "v", 1), work=IDLE)
    assert names((tmp_path / "o").iterdir()) == ["thesis.txt"]


def test_features_that_do_not_vary_are_left_out_and_one_clip_is_taken_as_it_is():
    mean, scale = standardisation([np.array([[1.0, 5.0], [3.0, 5.0]])])
    assert mean.tolist() == [2, 5] and scale.tolist() == [1, 0]
    mean, scale = standardisation([np.array([[1.0, 5.0]])])
    assert mean.tolist() == [0, 0] and scale.tolist() == [1, 1]


def test_two_processes_make_the_index_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD", 256)
    monkeypatch.undo()
    synthesize(tmp_path / "drawn", SyntheticConfig(train=6, test=2, size=40, frames=16))
    words = ["index", "--model", "random:r2plus1d_4?width=4", "--clips", "1", "--workers", "0", "--data"]
    said = warm.run_together(["-m", "ssl_video", *words, "drawn", "--out", "two"], cwd=tmp_path)
    assert said.count("8 videos are in two (8 added, 0 refreshed, 0 removed)") == 1
    assert main([*words, str(tmp_path / "drawn"), "--out", str(tmp_path / "one")]) == 0
    one, two = (open_index(tmp_path / name) for name in ("one", "two"))
    assert [e.path for e in one.entries] == [e.path for e in two.entries]
    assert np.allclose(one.vectors_RD, two.vectors_RD, atol=1e-4)
