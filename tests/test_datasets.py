"""What SPEC strings, folders and lists are read as."""

import csv
import os
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_video.datasets.base import ListedVideo, Video, VideoList, VideoSet
from ssl_video.datasets.held_out import held_out
from ssl_video.datasets.manifest import COLUMNS, manifest_rows, read_manifest, write_manifest
from ssl_video.datasets.noted import as_lines, from_lines
from ssl_video.datasets.prepare import copy_videos
from ssl_video.datasets.spec import describe, load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.video.info import Problem, VideoInfo
from tests.listings import names, put, seen, write
from tests.videos import mp4

INFO = VideoInfo(117, 30000 / 1001, 320, 240, 0.1 + 0.2, "mpeg4", pts_start=-1024, pts_step=512)


# ---- videos and sets


def test_a_scanned_video_is_the_listed_one_with_what_the_scan_found():
    listed = ListedVideo("/v/a.mp4", (1,), "g", annotation="/v/a.mat")
    video = listed.scanned(INFO)
    assert video == Video("/v/a.mp4", (1,), "g", annotation="/v/a.mat", info=INFO) != listed
    assert pickle.loads(pickle.dumps(video)) == replace(replace(video, path="b"), path="/v/a.mp4") == video
    assert scanned(VideoList("v", (video,))) == VideoSet("v", (video,))


def test_hashes_are_those_of_version_0_1():
    videos = (Video("/v/run/a.mp4", (1,), info=INFO), ListedVideo("/v/walk/b\udcff.mp4", (0, 2)))
    assert VideoList("any name", videos, ("walk", "run", "b\udcff")).hash == "3414f6f5c5bce04b"


# ---- SPEC


def test_a_single_video_is_a_set_of_one(tmp_path):
    put(tmp_path, "one.MP4")
    assert names(load_splits(str(tmp_path / "one.MP4")).train) == ["one.MP4"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("ufc101:{0}", "did you mean 'ucf101'"),
        ("{0}/nothing", "no file or folder"),
        ("ucf101", "NAME:ROOT"),
        ("ucf101:{0}/nothing", "no folder"),
        ("ucf101:", "no folder"),
        ("ucf101:{0}", "classInd.txt"),
        ("hmdb51:{0}", "test_split1"),
        ("kinetics:{0}", "youtube_id"),
        ("{0}", "no video"),
    ],
)
def test_a_spec_that_leads_nowhere_is_one_sentence(tmp_path, spec, said):
    with pytest.raises(UserError, match=said):
        load_splits(spec.format(tmp_path))


def test_a_path_with_a_colon_that_exists_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "ucf101:x/a.mp4")
    assert names(load_splits("ucf101:x").train) == ["a.mp4"]


def test_a_second_split_of_a_folder_is_refused(tmp_path):
    put(tmp_path, "a.mp4")
    with pytest.raises(UserError, match="one split only"):
        load_splits(str(tmp_path), split=2)


# ---- folders


def test_class_folders_are_labels(tmp_path):
    put(tmp_path, "wave/b.mp4", "wave/a.avi", "Run/c.mkv")
    assert seen(load_splits(str(tmp_path)).train) == [("c.mkv", "Run"), ("a.avi", "wave"), ("b.mp4", "wave")]


@pytest.mark.parametrize(
    "files", [("a.mp4", "x/b.mp4"), ("x/a.mp4", "x/b.mp4"), ("x/a.mp4", "y/deep/b.mp4"), ("a.mp4", "b.mp4")]
)
def test_a_folder_of_any_other_shape_has_no_labels(tmp_path, files):
    put(tmp_path, *files)
    train = load_splits(str(tmp_path)).train
    assert (len(train.videos), train.labelled, train.classes) == (2, False, ())


@pytest.mark.parametrize("test_folder", ["test", "val"])
def test_train_and_test_folders_are_the_lists(tmp_path, test_folder):
    put(tmp_path, "train/x/a.mp4", "train/y/b.mp4", f"{test_folder}/y/c.mp4", f"{test_folder}/x/d.mp4")
    splits = load_splits(str(tmp_path))
    assert (seen(splits.train), seen(splits.test)) == (
        [("a.mp4", "x"), ("b.mp4", "y")],
        [("d.mp4", "x"), ("c.mp4", "y")],
    )


def test_videos_beside_train_and_test_are_left_out_with_a_warning(tmp_path):
    put(tmp_path, "train/a.mp4", "test/b.mp4", "c.mp4", "val/d.mp4")
    splits = load_splits(str(tmp_path))
    assert names(splits.train) + names(splits.test) == ["a.mp4", "b.mp4"]
    assert "2 videos" in splits.warnings[0]


def test_hidden_files_and_other_files_are_skipped(tmp_path):
    put(tmp_path, "a.mp4", ".b.mp4", ".cache/c.mp4", "notes.txt", "d.wav", "E.MOV")
    assert names(load_splits(str(tmp_path)).train) == ["E.MOV", "a.mp4"]


def test_a_link_to_a_folder_above_ends(tmp_path):
    put(tmp_path / "root", "x/a.mp4")
    put(tmp_path / "elsewhere", "b.mp4")
    (tmp_path / "root" / "x" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "y").symlink_to(tmp_path / "elsewhere")
    assert names(load_splits(str(tmp_path / "root")).train) == ["a.mp4", "b.mp4"]


def test_the_odd_files_are_a_plain_folder(shared_data):
    train = load_splits(str(shared_data / "odd")).train
    assert train.videos and not train.labelled


# ---- csv


@pytest.mark.parametrize(
    "text",
    [
        "a b.mp4,3\nsub/c.mp4,0\n",
        "a b.mp4\t3\nsub/c.mp4\t0\n",
        '"a b.mp4" 3\nsub/c.mp4 0\n',
        '"a b.mp4"  3 \n\n sub/c.mp4 0\n',
        "\ufeffa b.mp4,3\r\nsub/c.mp4,0\r\n",
        '"a b.mp4","3"\n"sub/c.mp4","0"',
        "path,label\na b.mp4,3\nsub/c.mp4,0\n",
        "\ufeffPath, Label\r\na b.mp4, 3\r\nsub/c.mp4, 0\r\n",
        "label,path\n3,a b.mp4\n0,sub/c.mp4\n",
    ],
)
def test_every_dialect_of_path_and_label_reads_the_same(tmp_path, text):
    put(tmp_path, "a b.mp4", "sub/c.mp4")
    train = load_splits(str(write(tmp_path / "list.csv", text))).train
    assert (seen(train), train.classes) == ([("a b.mp4", "3"), ("c.mp4", "0")], ("0", "3"))


@pytest.mark.parametrize("text", ["a b.mp4\nc,d.mp4\n", 'path\na b.mp4\n"c,d.mp4"\n', '"a b.mp4"\nc,d.mp4\n'])
def test_a_list_of_paths_alone_has_no_labels(tmp_path, text):
    put(tmp_path, "a b.mp4", "c,d.mp4")
    train = load_splits(str(write(tmp_path / "list.csv", text))).train
    assert seen(train) == [("a b.mp4", ""), ("c,d.mp4", "")]


def test_absolute_paths_and_paths_above_the_csv_are_found(tmp_path):
    put(tmp_path, "videos/a.mp4", "b.mp4")
    text = f"{tmp_path}/videos/a.mp4,x\n../b.mp4,y\n"
    assert seen(load_splits(str(write(tmp_path / "lists" / "list.csv", text))).train) == [
        ("a.mp4", "x"),
        ("b.mp4", "y"),
    ]


def test_whole_number_labels_are_ordered_by_value(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    assert load_splits(str(write(tmp_path / "l.csv", "a.mp4 10\nb.mp4 9\nc.mp4 0\n"))).train.classes == ("0", "9", "10")


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_a_test_list_beside_train_csv_is_read_too(tmp_path, test_name):
    put(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / f"{test_name}.csv", "b.mp4 y\n")
    splits = load_splits(str(write(tmp_path / "train.csv", "a.mp4 x\n")))
    assert (seen(splits.train), seen(splits.test)) == ([("a.mp4", "x")], [("b.mp4", "y")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("path,label\n", "no videos"),
        ("path,file\na.mp4,x\n", "line 1: the columns 'path' and 'file' both are the path"),
        ("path,lable\na.mp4,x\n", "line 1.*did you mean 'label'"),
        ("label,group\nx,y\n", "line 1"),
        ("a.mp4,0\n,1\n", "line 2: there is a label '1' but no file"),
        ("path,label\na.mp4,0\n,1\n", "line 3: there is a label '1' but no file"),
        ("a.mp4,0\na.mp4\n", "line 2: 1 columns"),
        ("a.mp4 0\nb c.mp4 1\n", "line 2: 3 columns"),
        ("path,label\na.mp4,0,1\n", "line 2: 3 columns"),
        ("a.mp4 0 -1\n", "line 1: 3 columns"),
        ("a.mp4 -1\n", "negative"),
        ("path,split\na.mp4,dev\n", "line 2.*'dev'"),
        ("path,frames,fps,width,height,duration_s,codec,pts_start,pts_step\na.mp4,x,1,1,1,1,h264,0,0\n", "line 2"),
        ("path,split\na.mp4,test\n", "for training"),
    ],
)
def test_a_wrong_csv_is_a_sentence_with_the_line(tmp_path, text, said):
    put(tmp_path, "a.mp4")
    with pytest.raises(UserError, match=said):
        load_splits(str(write(tmp_path / "list.csv", text)))


def test_listed_files_that_are_absent_are_problems(tmp_path):
    put(tmp_path, "a.mp4")
    splits = load_splits(str(write(tmp_path / "list.csv", "a.mp4,x\ngone.mp4,y\n")))
    assert splits.train.problems == (Problem(str(tmp_path / "gone.mp4"), "listed but not there"),)
    assert "1 more cannot be used" in describe(splits)


def test_a_list_of_which_nothing_is_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"None of the 2 videos .*gone\.mp4: listed but not there"):
        load_splits(str(write(tmp_path / "list.csv", "gone.mp4,x\ngone2.mp4,y\n")))


# ---- manifest


def test_a_manifest_gives_back_what_was_written(tmp_path):
    put(tmp_path, "data/videos/a, b.mp4", 'data/videos/"q".mp4', "far.mp4")
    inside, quoted, far = (str(tmp_path / n) for n in ("data/videos/a, b.mp4", 'data/videos/"q".mp4', "far.mp4"))
    scanned_videos = (Video(inside, (1,), "g1", info=INFO), Video(far, (0,), info=INFO))
    train = VideoSet("t", scanned_videos, ("Run", "wave"), (Problem("/x.mp4", "cut"),))
    test = VideoList("t", (ListedVideo(quoted, (1,), "g2"),), ("Run", "wave"))
    path = tmp_path / "data" / "manifest.csv"
    write_manifest(path, [*manifest_rows(train, "train"), *manifest_rows(test, "test")])
    back = read_manifest(path)
    assert back.test is not None
    assert (back.train.videos, back.train.classes, back.train.problems) == (train.videos, train.classes, train.problems)
    assert (back.test.videos, back.test.classes) == (test.videos, test.classes)


def test_several_labels_of_a_video_survive_a_manifest(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    classes = ("a\\", "b|c", "d, e", "|", "f\\|g")
    labels = ((0, 1, 3), (2,), (4, 0))
    videos = tuple(ListedVideo(f"{tmp_path}/{name}.mp4", given) for name, given in zip("abc", labels, strict=True))
    write_manifest(tmp_path / "m.csv", manifest_rows(VideoList("", videos, classes)))
    train = load_splits(str(tmp_path / "m.csv")).train
    read = [[train.classes[label] for label in v.labels] for v in train.videos]
    assert read == [[classes[label] for label in given] for given in labels]
    assert train.multi_label


def test_a_list_written_by_hand_separates_labels_by_bars(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    train = load_splits(str(write(tmp_path / "l.csv", "a.mp4,10|9\nb.mp4,back\\slash\n"))).train
    assert [[train.classes[label] for label in v.labels] for v in train.videos] == [["10", "9"], ["back\\slash"]]


def test_a_manifest_moves_with_its_folder(tmp_path):
    put(tmp_path, "old/x/a.mp4")
    write_manifest(tmp_path / "old" / "manifest.csv", manifest_rows(load_splits(str(tmp_path / "old")).train))
    (tmp_path / "old").rename(tmp_path / "new")
    assert load_splits(str(tmp_path / "new")).train.videos[0].path == str(tmp_path / "new" / "x" / "a.mp4")


def test_a_new_scan_sees_files_that_the_manifest_does_not_list(tmp_path):
    put(tmp_path, "a.mp4")
    write_manifest(tmp_path / "manifest.csv", manifest_rows(load_splits(str(tmp_path)).train))
    put(tmp_path, "b.mp4")
    assert names(load_splits(str(tmp_path)).train) == ["a.mp4"]
    assert names(load_splits(str(tmp_path), through_manifest=False).train) == ["a.mp4", "b.mp4"]


def test_a_row_may_leave_columns_out(tmp_path):
    put(tmp_path, "v/a.mp4", "v/b.mp4")
    rows = [{"path": "v/a.mp4", "label": "x"}, {"path": tmp_path / "v" / "b.mp4", "split": "test"}]
    write_manifest(tmp_path / "manifest.csv", rows)
    splits = read_manifest(tmp_path / "manifest.csv")
    assert (seen(splits.train), seen(splits.test)) == ([("a.mp4", "x")], [("b.mp4", "")])


def test_the_columns_of_a_manifest_are_stable(tmp_path):
    write_manifest(tmp_path / "m.csv", [])
    with (tmp_path / "m.csv").open() as file:
        assert tuple(next(csv.reader(file))) == COLUMNS == (
            *("path", "label", "group", "split", "frames", "fps", "width", "height", "duration_s", "codec"),
            *("pts_start", "pts_step", "reason", "content", "copy_of", "annotation", "annotated", "published"),
            *("caption", "state"),
        )  # fmt: skip


def test_captions_survive_a_manifest(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    captions = ('a "red", round\nball | left', None, "caf\u00e9")
    videos = tuple(ListedVideo(f"{tmp_path}/{n}.mp4", caption=c) for n, c in zip("abc", captions, strict=True))
    write_manifest(tmp_path / "m.csv", manifest_rows(VideoList("", videos)))
    train = read_manifest(tmp_path / "m.csv").train
    assert train.videos == videos
    assert train.classes == ()


@pytest.mark.parametrize("word", ["caption", "text", "Description"])
def test_a_list_written_by_hand_has_captions(tmp_path, word):
    put(tmp_path, "a.mp4", "b.mp4")
    lines = f"path,{word},label\na.mp4,a dog runs,dog\nb.mp4, ,cat\n"
    train = load_splits(str(write(tmp_path / "l.csv", lines))).train
    assert [(v.caption, train.classes[v.label]) for v in train.videos] == [("a dog runs", "dog"), (None, "cat")]


def test_a_scan_and_copies_keep_captions(tmp_path):
    mp4(tmp_path / "a.mp4", count=4)
    lines = write(tmp_path / "l.csv", "path,caption\na.mp4,a dog runs\n")
    copied = copy_videos(str(lines), tmp_path / "copies", "raw", 16, workers=1).manifest
    (video,) = scanned(load_splits(str(copied)).train).videos
    assert (video.caption, video.name) == ("a dog runs", f"{tmp_path.name}/a.mp4")
    assert video.listed.caption == "a dog runs"


def test_the_lists_of_a_run_keep_captions():
    videos = VideoSet("v", (Video("/a.mp4", caption="a dog runs", info=INFO), Video("/b.mp4", info=INFO)))
    assert from_lines(as_lines(videos)) == videos
    with pytest.raises(TypeError):
        from_lines(as_lines(videos).replace('"a dog runs"', "7"))


def test_another_caption_is_another_list():
    def hash_of(caption):
        return VideoList("v", (ListedVideo("/v/a.mp4", caption=caption),)).hash

    assert len({hash_of("a"), hash_of("b"), hash_of(None)}) == 3
    assert VideoList("v", (ListedVideo("/v/a.mp4"),)).hash == hash_of(None)


def test_a_file_name_that_is_not_utf8_survives_a_manifest(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    try:
        put(tmp_path, name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    train = load_splits(str(tmp_path)).train
    write_manifest(tmp_path / "manifest.csv", manifest_rows(train))
    again = load_splits(str(tmp_path)).train
    assert names(again) == [name]
    assert again.hash == train.hash


# ---- scanning


def test_scanning_fills_in_what_the_files_are(shared_data):
    splits = load_splits(str(shared_data / "hmdb51_clips"))
    assert all(v.frames > 10 for v in scanned(splits.train, workers=1).videos)


def test_a_file_that_cannot_be_used_joins_the_problems(shared_data, tmp_path):
    put(tmp_path, "empty.mp4")
    (tmp_path / "good.avi").symlink_to(next((shared_data / "hmdb51_clips" / "golf").iterdir()))
    train = scanned(load_splits(str(tmp_path)).train, workers=1)
    assert names(train) == ["good.avi"]
    assert [Path(p.path).name for p in train.problems] == ["empty.mp4"]


def test_a_set_without_a_usable_file_is_an_error(tmp_path):
    put(tmp_path, "empty.mp4")
    with pytest.raises(UserError, match=r"None of the 1 videos .*empty\.mp4"):
        scanned(load_splits(str(tmp_path)).train, workers=1)


def test_a_set_without_a_usable_file_can_be_asked_for(tmp_path):
    put(tmp_path, "empty.mp4")
    train = scanned(load_splits(str(tmp_path)).train, workers=1, none_usable_is_an_error=False)
    assert (len(train.videos), len(train.problems)) == (0, 1)


def test_a_manifest_that_was_scanned_is_trusted(tmp_path):
    put(tmp_path, "empty.mp4")
    video = Video(str(tmp_path / "empty.mp4"), info=INFO).with_content("0123456789abcdef")
    write_manifest(tmp_path / "manifest.csv", manifest_rows(VideoSet("", (video,))))
    assert scanned(load_splits(str(tmp_path)).train).videos == (video,)


# ---- held-out part


def grouped(groups_of_class: dict[int, int], videos_per_group: int) -> VideoSet:
    videos = [
        Video(f"{c}-{g}-{i}.mp4", (c,), f"{c}/g{g}", info=INFO)
        for c, groups in groups_of_class.items()
        for g in range(groups)
        for i in range(videos_per_group)
    ]
    return VideoSet("set", tuple(videos), tuple(map(str, groups_of_class)))


@pytest.mark.parametrize("seed", range(5))
def test_a_held_out_part_shares_no_group(seed):
    stays, out = held_out(grouped({0: 7, 1: 3, 2: 12}, 4), 0.2, seed)
    assert not {v.group for v in stays.videos} & {v.group for v in out.videos}


@pytest.mark.parametrize("seed", range(5))
def test_a_held_out_part_has_the_classes_in_proportion(seed):
    _, out = held_out(grouped({0: 40, 1: 20, 2: 60}, 1), 0.25, seed)
    assert Counter(v.label for v in out.videos) == {0: 10, 1: 5, 2: 15}


@pytest.mark.parametrize("seed", range(5))
def test_no_class_is_held_out_whole(seed):
    stays, out = held_out(grouped({0: 1, 1: 9, 2: 1}, 1), 0.5, seed)
    assert {v.label for v in stays.videos} == {0, 1, 2}
    assert out.videos


def test_a_held_out_part_and_the_rest_are_the_whole_in_order():
    whole = grouped({0: 9, 1: 9}, 2)
    stays, out = held_out(whole, 0.3, 0)
    assert sorted(stays.videos + out.videos, key=whole.videos.index) == list(whole.videos)
    assert list(stays.videos) == sorted(stays.videos, key=whole.videos.index)


def test_the_seed_decides_what_is_held_out():
    whole = grouped({0: 30, 1: 30}, 1)
    assert held_out(whole, 0.2, 3) == held_out(whole, 0.2, 3) != held_out(whole, 0.2, 4)


@pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("groups", [("", ""), ("g", "g", "g")])
def test_both_parts_have_a_video(groups, fraction):
    videos = tuple(Video(f"{n}.mp4", (), group, info=INFO) for n, group in enumerate(groups))
    stays, out = held_out(VideoSet("set", videos), fraction, 0)
    assert stays.videos and out.videos


@pytest.mark.parametrize(("groups", "per_group"), [({0: 400, 1: 500, 2: 300}, 1), ({0: 80, 1: 100, 2: 60}, 5)])
def test_a_number_of_videos_is_held_out_as_that_many(groups, per_group):
    whole = grouped(groups, per_group)
    stays, out = held_out(whole, 800, 0)
    assert (len(stays.videos), len(out.videos)) == (400, 800)
    shares = {label: n / len(out.videos) for label, n in Counter(v.label for v in out.videos).items()}
    assert shares == pytest.approx({label: n / sum(groups.values()) for label, n in groups.items()}, abs=0.02)
    assert not {v.group for v in stays.videos} & {v.group for v in out.videos}
    assert held_out(whole, 800, 0) == held_out(whole, 800 / 1200, 0)


def test_more_videos_than_there_are_cannot_be_held_out():
    with pytest.raises(UserError, match=r"12 of 12 videos cannot be held out.*held_out=0\.1"):
        held_out(grouped({0: 12}, 1), 12, 0)
    assert len(held_out(grouped({0: 12}, 1), 11, 0)[0].videos) == 1


def test_one_video_cannot_be_split():
    with pytest.raises(ValueError, match="cannot hold out"):
        held_out(VideoSet("set", (Video("a", info=INFO),)), 0.2, 0)
