"""What lists and folders of others look like: how cells are written, and what lies beside the videos."""

import os
import unicodedata
from pathlib import Path

import pytest

from ssl_video.datasets.base import Splits
from ssl_video.datasets.finding import videos_below
from ssl_video.datasets.listing import split_named
from ssl_video.datasets.manifest import manifest_rows, read_manifest, write_manifest
from ssl_video.datasets.prepare import scan_to_manifest
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from tests import videos
from tests.listings import names, put, seen, write
from tests.test_names import HOSTILE

# ---- csv


@pytest.mark.parametrize(
    "text",
    [
        "path,label\n a b.mp4 , x \nsub/c.mp4\t,y\n",
        "a b.mp4 ,x\nsub/c.mp4 ,y\n",
        "video,class\na b.mp4,x\nsub/c.mp4,y\n",
        "Filename;Class_Name\r\na b.mp4;x\r\nsub/c.mp4;y\r\n",
        "\ufefffile_path\tcategory\na b.mp4\tx\nsub/c.mp4\ty\n",
        ",path,label\n0,a b.mp4,x\n1,sub/c.mp4,y\n",
        "Unnamed: 0,video,labels\n0,a b.mp4,x\n1,sub/c.mp4,y\n",
        "0,a b.mp4,x\n1,sub/c.mp4,y\n",
        "1;a b.mp4;x\n2;sub/c.mp4;y\n",
        "a b.mp4;x\nsub/c.mp4;y\n",
        "path,label,,\na b.mp4,x,,\nsub/c.mp4,y,,\n",
        "path,label\na b.mp4,x,,\nsub/c.mp4,y,\n",
        "a b.mp4,x,,\nsub/c.mp4,y,,\n",
        'path, label\n"a b.mp4", "x"\n"sub/c.mp4", "y"\n',
        "sep=;\r\npath;label\r\na b.mp4;x\r\nsub/c.mp4;y\r\n",
        "path,label\ra b.mp4,x\rsub/c.mp4,y\r",
        "path,label\na b.mp4,x\nsub\\c.mp4,y\n",
        "label,video\nx,./a b.mp4\ny,sub//c.mp4\n",
    ],
)
def test_a_list_in_the_words_of_others_reads_the_same(tmp_path, text):
    put(tmp_path, "a b.mp4", "sub/c.mp4")
    train = load_splits(str(write(tmp_path / "list.csv", text))).train
    assert seen(train) == [("a b.mp4", "x"), ("c.mp4", "y")] and not train.problems


def test_a_list_of_utf16_is_read(tmp_path):
    put(tmp_path, "é.mp4")
    (tmp_path / "l.csv").write_bytes("path\tlabel\r\né.mp4\tx\r\n".encode("utf-16"))
    assert seen(load_splits(str(tmp_path / "l.csv")).train) == [("é.mp4", "x")]


def test_semicolons_leave_commas_to_names(tmp_path):
    put(tmp_path, "a,b.mp4")
    for text in ("a,b.mp4;x\n", "path;label\na,b.mp4;x\n"):
        assert seen(load_splits(str(write(tmp_path / "l.csv", text))).train) == [("a,b.mp4", "x")]


@pytest.mark.parametrize("header", ["", "path,label\n", "path;label\n"])
def test_a_folder_of_frames_is_a_row(tmp_path, header):
    put(tmp_path, "frames/one/0001.jpg", "frames/two/0001.jpg")
    text = header + "frames/one,x\nframes/two/,y\n".replace(",", ";" if ";" in header else ",")
    assert seen(load_splits(str(write(tmp_path / "l.csv", text))).train) == [("one", "x"), ("two", "y")]


@pytest.mark.parametrize(("listed", "lies"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_characters_are_one_name(tmp_path, listed, lies):
    name = "Über die Brücke é.mp4"
    put(tmp_path, unicodedata.normalize(lies, name))
    text = f"path,label\n{unicodedata.normalize(listed, name)},x\n"
    assert len(load_splits(str(write(tmp_path / "l.csv", text))).train.videos) == 1


def test_a_tilde_is_the_home_folder_unless_something_is_called_so(tmp_path, monkeypatch):
    put(tmp_path / "home", "a.mp4")
    put(tmp_path, "~/b.mp4")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    train = load_splits(str(write(tmp_path / "l.csv", "path\n~/a.mp4\n~/b.mp4\n~nobody-at-all/c.mp4\n"))).train
    assert [v.path for v in train.videos] == [f"{tmp_path}/home/a.mp4", f"{tmp_path}/~/b.mp4"]
    assert names(load_splits("~/a.mp4").train) == ["a.mp4"]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("a.mp4,1.0\nb.mp4,1\nc.mp4,10.0\n", ("1", "10")),
        ("a.mp4,1.0\nb.mp4,2.0\nc.mp4,10.0\n", ("1", "2", "10")),
        ("a.mp4,1.5\nb.mp4,1.0\nc.mp4,1\n", ("1", "1.0", "1.5")),
        ("a.mp4,v1.0\nb.mp4,1.0\nc.mp4,1\n", ("1", "1.0", "v1.0")),
    ],
)
def test_whole_numbers_that_pandas_made_fractions_are_one_class(tmp_path, text, classes):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    assert load_splits(str(write(tmp_path / "l.csv", text))).train.classes == classes


def test_train_and_test_lists_agree_on_whole_numbers(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / "test.csv", "b.mp4,1\n")
    splits = load_splits(str(write(tmp_path / "train.csv", "a.mp4,1.0\n")))
    assert splits.train.classes == ("1",) and splits.test is not None and splits.test.videos[0].label == 0


@pytest.mark.parametrize("word", ["Train", "training", "TEST", "testing", "val", "valid", "Validation", "validate"])
def test_a_column_says_the_split_in_any_of_the_usual_words(tmp_path, word):
    put(tmp_path, "a.mp4", "b.mp4")
    splits = load_splits(str(write(tmp_path / "l.csv", f"path,split\na.mp4,train\nb.mp4,{word}\n")))
    assert (splits.test is None) == word.lower().startswith("train")


@pytest.mark.parametrize(
    ("listed", "lies"),
    [
        ("Walk/a.mp4", "walk/a.mp4"),
        ("walk/a.avi", "walk/a.mp4"),
        ("hand stand/a.mp4", "HandStand/a.mp4"),
        ("hand stand/a.mp4", "hand_stand/a.mp4"),
        ("walk/A B.MP4", "walk/a_b.mp4"),
        ("walk/a.mp4", "walk/a .mp4"),
    ],
)
def test_another_spelling_that_is_there_is_said(tmp_path, listed, lies):
    put(tmp_path, lies, "other.mp4")
    splits = load_splits(str(write(tmp_path / "l.csv", f"path,label\n{listed},x\nother.mp4,x\n")))
    if listed.startswith("hand stand") and lies.startswith("HandStand"):
        assert splits.train.problems[0].reason == "listed but not there"  # two words are not one
        return
    assert splits.train.problems[0].reason == f"listed but not there, but {tmp_path / lies} is there"
    assert f"1 of them, but {tmp_path / lies} is there" in splits.warnings[0]


def test_a_name_in_latin_1_is_said_in_utf8(tmp_path):
    put(tmp_path, "café.mp4", "b.mp4")
    (tmp_path / "l.csv").write_bytes(b"path\ncaf\xe9.mp4\nb.mp4\n")
    assert "café.mp4 is there" in load_splits(str(tmp_path / "l.csv")).train.problems[0].reason


def test_published_lists_say_the_spelling_that_is_there(tmp_path):
    write(tmp_path / "classInd.txt", "1 Walk\n2 YoYo\n")
    write(tmp_path / "trainlist01.txt", "Walk/a.avi 1\nYoYo/b.avi 2\n")
    write(tmp_path / "testlist01.txt", "Walk/c.avi\nYoYo/d.avi\n")
    put(tmp_path, "videos/walk/a.avi", "videos/YoYo/b.avi", "videos/Walk/c.avi", "videos/YoYo/D.mp4")
    splits = load_splits(f"ucf101:{tmp_path}")
    assert splits.test is not None
    assert [p.reason for p in (*splits.train.problems, *splits.test.problems)] == [
        f"listed but not there, but {tmp_path}/videos/walk/a.avi is there",
        f"listed but not there, but {tmp_path}/videos/YoYo/D.mp4 is there",
    ]
    write(tmp_path / "trainlist01.txt", "walk/a.avi 1\n")
    with pytest.raises(UserError, match=r"'walk/a\.avi' is not in classInd\.txt, which has 'Walk'"):
        load_splits(f"ucf101:{tmp_path}")


def test_folders_of_frames_are_said_in_their_other_spelling(tmp_path):
    write(tmp_path / "ImageSets" / "2017" / "val.txt", "Bear\nbus\n")
    put(tmp_path, "JPEGImages/480p/bear/0.jpg", "JPEGImages/480p/bus/0.jpg")
    (problem,) = load_splits(f"davis:{tmp_path}").train.problems
    assert problem.reason.endswith("480p/bear is there")


def test_a_spec_in_another_spelling_is_told(tmp_path):
    put(tmp_path / "My Videos", "a.mp4")
    for spec in (tmp_path / "my_videos", f"ucf101:{tmp_path}/my videos"):
        with pytest.raises(UserError, match=r"there is '.*My Videos'"):
            load_splits(str(spec))


def test_a_path_that_no_file_can_have_is_not_there(tmp_path):
    put(tmp_path, "a.mp4")
    text = f"path\na.mp4\n{'n' * 300}.mp4\n{'d/' * 3000}b.mp4\n"
    assert len(load_splits(str(write(tmp_path / "l.csv", text))).train.problems) == 2
    with pytest.raises(UserError, match="no file or folder"):
        load_splits("n" * 5000)


def test_classes_that_differ_in_spelling_alone_are_a_warning(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    (warning,) = load_splits(str(write(tmp_path / "l.csv", "a.mp4,hand_stand\nb.mp4,Hand stand\n"))).warnings
    assert "'Hand stand' and 'hand_stand' differ in spelling alone" in warning


def test_names_of_any_bytes_survive_a_manifest(tmp_path):
    for name in HOSTILE.values():
        Path(tmp_path, os.fsdecode(name)).touch()
    train = load_splits(str(tmp_path)).train
    assert len(train.videos) == len(HOSTILE) - 1  # the tilde has no suffix
    write_manifest(tmp_path / "manifest.csv", manifest_rows(train))
    again = read_manifest(tmp_path / "manifest.csv").train
    assert [v.path for v in again.videos] == [v.path for v in train.videos] and not again.problems


# ---- folders


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Val"), ("TRAIN", "test"), ("train_256", "val_256"), ("training", "testing"), ("train", "val-images")],
)
def test_folders_of_splits_are_known_in_any_spelling(tmp_path, train, test):
    put(tmp_path, f"{train}/a.mp4", f"{test}/b.mp4")
    splits = load_splits(str(tmp_path))
    assert (names(splits.train), names(splits.test), splits.train.classes) == (["a.mp4"], ["b.mp4"], ())


def test_classes_lie_below_folders_of_splits(tmp_path):
    put(tmp_path, "Train_320/x/a.mp4", "Train_320/y/b.mp4", "Val_320/x/c.mp4", "Val_320/y/d.mp4")
    splits = load_splits(str(tmp_path))
    assert (seen(splits.train), seen(splits.test)) == (
        [("a.mp4", "x"), ("b.mp4", "y")],
        [("c.mp4", "x"), ("d.mp4", "y")],
    )


@pytest.mark.parametrize("folders", [("train station", "test tube", "bus"), ("trainer", "tester"), ("train", "bus")])
def test_classes_that_begin_like_a_split_are_classes(tmp_path, folders):
    put(tmp_path, *(f"{folder}/a.mp4" for folder in folders))
    splits = load_splits(str(tmp_path))
    assert splits.test is None and set(splits.train.classes) == set(folders)


def test_words_that_only_begin_like_a_split_say_none():
    assert [split_named(w) for w in ("trainer", "testimony", "valley", "retrain", "", "dev")] == [""] * 6
    assert [split_named(w) for w in ("train2017", "Test.1", "VAL set")] == ["train", "test", "val"]


def test_clips_that_lie_deeper_or_above_their_classes_are_said(tmp_path):
    put(tmp_path, "a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4", "b/more/5.mp4", "6.mp4")
    splits = load_splits(str(tmp_path))
    labels = dict(seen(splits.train))
    assert [labels[f"{n}.mp4"] for n in range(1, 7)] == ["a", "a", "b", "b", "", ""]
    (warning,) = splits.warnings
    assert warning.startswith("2 videos lie deeper") and "have no class" in warning and "b/more/5.mp4" in warning


def test_a_tree_that_is_no_tree_of_classes_says_so(tmp_path):
    put(tmp_path, "a/1.mp4", "b/b/2.mp4")
    splits = load_splits(str(tmp_path))
    (warning,) = splits.warnings
    assert splits.train.classes == () and "so that no video has a class" in warning and "b/b/2.mp4" in warning


@pytest.mark.parametrize("files", [("a.mp4", "b.mp4"), ("2020/01/a.mp4", "2021/02/b.mp4"), ("a.mp4", "x/b.mp4")])
def test_folders_without_classes_give_no_warning(tmp_path, files):
    put(tmp_path, *files)
    splits = load_splits(str(tmp_path))
    assert splits.train.classes == () and splits.warnings == ()


def test_one_folder_around_all_classes_is_passed_over(tmp_path):
    put(tmp_path, "UCF-101/videos/x/a.mp4", "UCF-101/videos/y/b.mp4")
    assert seen(load_splits(str(tmp_path)).train) == [("a.mp4", "x"), ("b.mp4", "y")]


def test_what_systems_and_archives_leave_behind_is_skipped_and_counted(tmp_path):
    left = (
        *("__MACOSX/x/._a.mp4", "@eaDir/a.mp4/thumb.mp4", "x/.ipynb_checkpoints/a-checkpoint.mp4", ".Trash-1000/b.mp4"),
        *("$RECYCLE.BIN/c.mp4", "System Volume Information/d.mp4", "x/._a.mp4", "lost+found/e.mp4"),
    )
    put(tmp_path, "x/a.mp4", "y/b.mp4", "x/.DS_Store", "y/Thumbs.db", *left)
    splits = load_splits(str(tmp_path))
    assert seen(splits.train) == [("a.mp4", "x"), ("b.mp4", "y")]
    assert splits.warnings[0].startswith(f"{len(left)} files and folders that a system or an archive left behind")


def test_a_link_that_leads_nowhere_says_where_it_leads(tmp_path):
    put(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to("../store/0hash")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    found = videos_below(tmp_path)
    assert [Path(p).name for p in found.paths] == ["a.mp4"]
    reasons = {Path(p.path).name: p.reason for p in found.problems}
    assert reasons["b.mp4"] == "it is a link to ../store/0hash, which is not there" and "link" in reasons["loop.mp4"]
    listed = load_splits(str(write(tmp_path / "l.csv", "path\na.mp4\nb.mp4\n"))).train
    assert listed.problems[0].reason == f"listed but not there: {reasons['b.mp4']}"
    with pytest.raises(UserError, match=r"link to \.\./store/0hash"):
        load_splits(str(tmp_path / "b.mp4"))


def test_folders_of_links_to_folders_end_and_keep_the_names_of_the_user(tmp_path):
    put(tmp_path / "blobs", "0hash/1.mp4", "1hash/2.mp4")
    for name, blob in (("kick", "0hash"), ("wave", "1hash")):
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / name).symlink_to(f"../blobs/{blob}")
    (tmp_path / "blobs" / "0hash" / "up").symlink_to("../../root")
    assert seen(load_splits(str(tmp_path / "root")).train) == [("1.mp4", "kick"), ("2.mp4", "wave")]


def test_rows_for_validation_serve_as_test_list_only_where_there_is_no_other(tmp_path):
    words = {"a": "train", "b": "val", "c": "test"}
    for name in words:
        videos.mp4(tmp_path / f"{name}.mp4", count=8)

    def read(names: str) -> Splits:
        rows = "".join(f"{name}.mp4,{words[name]}\n" for name in names)
        (tmp_path / "list.csv").write_text(f"path,split\n{rows}")
        return load_splits(str(tmp_path / "list.csv"))

    both = read("abc")
    assert both.test is not None and [Path(v.path).stem for v in both.test.videos] == ["c"]
    assert "list.csv for validation are left out, since others are for testing" in both.warnings[0]
    alone = read("ab")
    assert alone.test is not None and [Path(v.path).stem for v in alone.test.videos] == ["b"] and not alone.warnings


def test_a_file_that_was_not_there_or_not_whole_when_it_was_scanned_is_looked_at_again(tmp_path):
    videos.mp4(tmp_path / "whole.mp4", count=8)
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "late.mp4").write_bytes(bytes(len(content)))  # its place on the disk is taken already
    (tmp_path / "list.txt").write_text("whole.mp4\nlate.mp4\ncase.mp4\n")
    (tmp_path / "Case.MP4").write_bytes(content)
    scan_to_manifest(str(tmp_path / "list.txt"), tmp_path / "m.csv", workers=1)
    before = load_splits(str(tmp_path / "m.csv")).train
    assert len(before.videos) == 1 and any("Case.MP4 is there" in p.reason for p in before.problems)
    (tmp_path / "late.mp4").write_bytes(content)
    (tmp_path / "Case.MP4").rename(tmp_path / "case.mp4")
    after = scanned(load_splits(str(tmp_path / "m.csv")).train)
    assert len(after.videos) == 3 and not after.problems
