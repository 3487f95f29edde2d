"""``index --rebuild``: an index made again, by another model or with other options, in the place of the old one."""

import json
import tarfile

import pytest

from ssl_video.apps import index_build
from ssl_video.apps.index_folder import open_index
from ssl_video.apps.index_update import update_index
from ssl_video.apps.queries import query_of
from ssl_video.apps.vectors import load_vectors
from ssl_video.cli import main
from tests import videos

ONE, OTHER = "random:r2plus1d_4?width=4", "random:r2plus1d_4?width=6"


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for n, name in enumerate("ab"):
        videos.mp4(folder / f"{name}.mp4", count=24 + 8 * n)
    assert run("--model", ONE, "--data", folder, "--out", tmp_path / "i", "--clips", "1") == 0
    return tmp_path / "i"


def run(*words) -> int:
    return main(["index", "--workers", "0", *map(str, words)])


def test_another_model_is_refused_with_the_option_that_helps(index, capsys):
    assert run("--model", OTHER, "--data", index.parent / "videos", "--out", index) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--rebuild" in said


def test_an_index_is_made_again_by_another_model_of_all_its_videos_and_of_new_ones(index, tmp_path):
    videos.mp4(tmp_path / "c.mp4", count=40)
    assert run("--model", OTHER, "--data", tmp_path / "c.mp4", "--out", index, "--rebuild", "--batch-size", "2") == 0
    again = open_index(index)
    assert again.header.model == OTHER and again.header.clips == 1
    assert sorted(e.path[-5:] for e in again.entries) == ["a.mp4", "b.mp4", "c.mp4"]
    assert len(list(index.glob("segment-*"))) == 1


def test_options_change_with_a_rebuild(index, capsys):
    assert run("--out", index, "--data", index.parent / "videos", "--clips", "2") == 2
    assert "--rebuild" in capsys.readouterr().err
    assert run("--out", index, "--rebuild", "--clips", "2") == 0
    assert open_index(index).header.clips == 2 and len(open_index(index).entries) == 2


def test_the_old_index_stays_whole_until_the_new_one_is_complete(index, monkeypatch):
    before = json.loads((index / "header.json").read_text("utf-8"))

    def killed(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(index_build.nearest, "train", killed)  # after the new vectors are written
    assert run("--model", OTHER, "--out", index, "--rebuild") == 130
    assert json.loads((index / "header.json").read_text("utf-8")) == before
    assert len(open_index(index).entries) == 2


def test_a_damaged_index_is_made_again_of_videos_that_are_named(index):
    (index / "header.json").write_text("{", encoding="utf-8")
    assert run("--model", ONE, "--out", index, "--rebuild", "--data", index.parent / "videos") == 0
    assert len(open_index(index).entries) == 2


def test_a_video_that_is_gone_is_left_out_of_a_rebuilt_index(index, capsys):
    (index.parent / "videos" / "a.mp4").unlink()
    assert run("--out", index, "--rebuild") == 0
    assert "a.mp4: cannot be read" in capsys.readouterr().out
    assert len(open_index(index).entries) == 1


def test_parts_of_a_library_are_searched_as_one(index, tmp_path, capsys):
    folder, words = index.parent / "videos", ["--data", index.parent / "videos", "--clips", "1"]
    assert run("--model", ONE, *words, "--part", "1/2", "--out", tmp_path / "p1") == 0
    assert run("--data", folder, "--like", tmp_path / "p1", "--part", "2/2", "--out", tmp_path / "p2") == 0
    first, second = (open_index(tmp_path / name) for name in ("p1", "p2"))
    assert [p[-5:] for p in (*first.paths(), *second.paths())] == ["a.mp4", "b.mp4"]
    assert first.header.mean == second.header.mean and second.header.model == ONE
    capsys.readouterr()
    assert main(["query", str(tmp_path / "p1"), str(folder / "a.mp4"), "--json", "--also", str(tmp_path / "p2")]) == 0
    assert [json.loads(line)["path"][-5:] for line in capsys.readouterr().out.splitlines()] == ["b.mp4"]


def test_small_segments_are_merged_by_a_word(index, tmp_path, capsys):
    videos.mp4(tmp_path / "c.mp4", count=40)
    assert run("--data", tmp_path / "c.mp4", "--out", index) == 0
    assert len(open_index(index).segments) == 2
    assert run("--out", index, "--compact") == 0
    assert "2 segments became 1" in capsys.readouterr().out and len(open_index(index).entries) == 3
    assert len(open_index(index).segments) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--part", "3/2", "--data", "videos"], "--part takes K/N"), (["--part", "1/2"], "name that, too"),
     (["--like", "i", "--data", "videos"], "--like is for a new index")],
)  # fmt: skip
def test_a_part_or_a_likeness_that_cannot_be_is_one_sentence(index, monkeypatch, capsys, words, said):
    monkeypatch.chdir(index.parent)
    assert run("--out", "i", *words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_classes_are_kept_by_a_rebuilt_index_and_exported_with_its_vectors(index, tmp_path):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        videos.mp4(tmp_path / "set" / name / f"{name}.mp4", count=24)
    out = tmp_path / "labelled"
    assert run("--model", ONE, "--data", tmp_path / "set", "--out", out, "--clips", "1") == 0
    assert run("--model", OTHER, "--data", index.parent / "videos", "--out", out, "--rebuild") == 0
    assert sorted(e.labels for e in open_index(out).entries) == [(), (), ("a",), ("b",)]
    assert sorted(load_vectors(out).labels) == [(), (), ("a",), ("b",)]


def test_members_of_shards_that_are_there_are_not_pruned_and_can_be_queries(index, tmp_path):
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "s.tar", "w") as shard:
        shard.add(index.parent / "videos" / "a.mp4", "a.mp4")
    assert run("--model", ONE, "--data", tmp_path / "shards", "--out", tmp_path / "s", "--clips", "1") == 0
    assert update_index(tmp_path / "s", None, None, prune=True).removed == ()
    (path,) = open_index(tmp_path / "s").paths()
    assert "s.tar@" in path and query_of(path).video.path == path
