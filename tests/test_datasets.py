"""What SPEC strings, folders, lists and published data sets are read as."""

import csv
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from ssl_video.datasets import hmdb51, kinetics, ucf101
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.manifest import COLUMNS, manifest_rows, read_manifest, write_manifest
from ssl_video.datasets.spec import describe, held_out, load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.video.info import Problem, VideoInfo

INFO = VideoInfo(117, 30000 / 1001, 320, 240, 0.1 + 0.2, "mpeg4", pts_start=-1024, pts_step=512)


def put(root: Path, *names: str) -> None:
    """Empty files: loading looks at names only."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def seen(videos: VideoSet | None) -> list[tuple[str, str]]:
    """(file name, class) of every video."""
    assert videos is not None
    return [(Path(v.path).name, videos.classes[v.label] if v.labels else "") for v in videos.videos]


def names(videos: VideoSet | None) -> list[str]:
    return [name for name, _ in seen(videos)]


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
        ("file,class\na.mp4,x\n", "line 1: 'file'"),
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
    train = VideoSet(
        "t", (Video(inside, (1,), "g1", INFO), Video(far, (0,), "", INFO)), ("Run", "wave"), (Problem("/x.mp4", "cut"),)
    )
    test = VideoSet("t", (Video(quoted, (1,), "g2", None),), ("Run", "wave"))
    path = tmp_path / "data" / "manifest.csv"
    write_manifest(path, manifest_rows(train, "train") + manifest_rows(test, "test"))
    back = read_manifest(path)
    assert back.test is not None
    assert (back.train.videos, back.train.classes, back.train.problems) == (train.videos, train.classes, train.problems)
    assert (back.test.videos, back.test.classes) == (test.videos, test.classes)


def test_several_labels_of_a_video_survive_a_manifest(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    classes = ("a\\", "b|c", "d, e", "|", "f\\|g")
    labels = ((0, 1, 3), (2,), (4, 0))
    videos = tuple(Video(f"{tmp_path}/{name}.mp4", given) for name, given in zip("abc", labels, strict=True))
    write_manifest(tmp_path / "m.csv", manifest_rows(VideoSet("", videos, classes)))
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
            *("pts_start", "pts_step", "reason"),
        )  # fmt: skip


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


# ---- UCF101

UCF_LISTS = {
    "classInd.txt": "1 Walk\r\n2 YoYo\r\n",
    "trainlist01.txt": "Walk/v_Walk_g08_c01.avi 1 \r\nYoYo/v_YoYo_g08_c01.avi 2\r\n\r\n",
    "testlist01.txt": "Walk/v_Walk_g01_c01.avi\r\nYoYo/v_YoYo_g01_c01.avi \r\n",
}
UCF_VIDEOS = ("Walk/v_Walk_g08_c01", "YoYo/v_YoYo_g08_c01", "Walk/v_Walk_g01_c01", "YoYo/v_YoYo_g01_c01")


@pytest.mark.parametrize(
    ("lists", "videos"),
    [
        ("ucfTrainTestlist", "UCF-101"),
        ("trainTestlist", "videos"),
        (".", "videos"),
        ("ucfTrainTestlist", "."),
        (".", "."),
    ],
)
@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_ucf101_is_read_in_every_layout(tmp_path, lists, videos, suffix):
    for name, text in UCF_LISTS.items():
        write(tmp_path / lists / name, text)
    put(tmp_path / videos, *(f"{name}{suffix}" for name in UCF_VIDEOS), f"Walk/in_no_list{suffix}")
    splits = load_splits(f"ucf101:{tmp_path}")
    assert seen(splits.train) == [(f"v_Walk_g08_c01{suffix}", "Walk"), (f"v_YoYo_g08_c01{suffix}", "YoYo")]
    assert seen(splits.test) == [(f"v_Walk_g01_c01{suffix}", "Walk"), (f"v_YoYo_g01_c01{suffix}", "YoYo")]
    assert [v.group for v in splits.train.videos] == ["Walk/g08", "YoYo/g08"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("classInd.txt", "1 Walk\n3 YoYo\n", "not numbered"),
        ("classInd.txt", "0 Walk\n1 YoYo\n", "numbered from 0"),
        ("trainlist01.txt", "Walk/v_Walk_g08_c01.avi 0\n", "line 1: the class of Walk is 0 here and 1 in classInd"),
        ("classInd.txt", "Walk\n", "line 1"),
        ("trainlist01.txt", "Walk/v_Walk_g08_c01.avi 2\n", "line 1"),
        ("trainlist01.txt", "\nFly/v_Fly_g08_c01.avi 2\n", "line 2"),
    ],
)
def test_a_wrong_ucf101_list_is_a_sentence(tmp_path, name, text, said):
    for list_name, right in UCF_LISTS.items():
        write(tmp_path / list_name, right)
    write(tmp_path / name, text)
    with pytest.raises(UserError, match=said):
        load_splits(f"ucf101:{tmp_path}")


def test_a_split_that_is_not_there_is_named(shared_data):
    with pytest.raises(UserError, match="no split 4; there are: 1, 2, 3"):
        load_splits(f"ucf101:{shared_data / 'ut_interaction'}", split=4)


@pytest.mark.parametrize(("split", "train", "test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_the_official_ucf101_lists_are_complete_and_group_disjoint(shared_data, split, train, test):
    folder = shared_data / "splits" / "ucfTrainTestlist"
    classes = ucf101.parse_classes((folder / "classInd.txt").read_bytes().decode(), folder)
    lists = [
        ucf101.parse_list((folder / f"{kind}list0{split}.txt").read_bytes().decode(), classes, folder)
        for kind in ("train", "test")
    ]
    assert (len(classes), len(lists[0]), len(lists[1])) == (101, train, test)
    groups = [{line.group for line in listed} for listed in lists]
    assert "" not in groups[0] | groups[1]
    assert not groups[0] & groups[1]


def test_ut_interaction_is_read_whole(shared_data):
    splits = load_splits(f"ucf101:{shared_data / 'ut_interaction'}")
    assert splits.test is not None
    assert (len(splits.train.videos), len(splits.test.videos), len(splits.train.classes)) == (67, 17, 6)
    assert splits.warnings == splits.train.problems == splits.test.problems == ()


def test_a_leaking_split_is_a_warning_that_names_groups(shared_data):
    (warning,) = load_splits(f"ucf101:{shared_data / 'arid6'}", split=2).warnings
    assert "15 of the 15 groups" in warning and "Jump/g08" in warning


def test_a_group_disjoint_split_gives_no_warning(shared_data):
    assert load_splits(f"ucf101:{shared_data / 'arid6'}", split=1).warnings == ()


def test_a_file_in_both_lists_is_a_warning_that_names_it(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / "test.csv", "a.mp4\n")
    (warning,) = load_splits(str(write(tmp_path / "train.csv", "a.mp4\nb.mp4\n"))).warnings
    assert "1 of the 1 test files" in warning and "a.mp4" in warning


# ---- HMDB51

HMDB_NAMES = ("Golf_300+_Yards!!!_golf_f_nm_np1_fr_med_0.avi", "(HQ)_[New]_golf_f_cm_np1_le_bad_2.avi")


@pytest.mark.parametrize("videos", ["videos", "hmdb51_org", "."])
@pytest.mark.parametrize("lists", ["testTrainMulti_7030_splits", "."])
def test_hmdb51_is_read_in_every_layout(tmp_path, lists, videos):
    text = f"{HMDB_NAMES[0]} 1 \n{HMDB_NAMES[1]} 2 \nunused_golf_f_cm_np1_le_bad_0.avi 0 \n"
    write(tmp_path / lists / "golf_test_split1.txt", text)
    put(tmp_path / videos, *(f"golf/{name}" for name in HMDB_NAMES), "golf/unused_golf_f_cm_np1_le_bad_0.avi")
    splits = load_splits(f"hmdb51:{tmp_path}")
    assert (seen(splits.train), seen(splits.test)) == ([(HMDB_NAMES[0], "golf")], [(HMDB_NAMES[1], "golf")])


@pytest.mark.parametrize("split", [1, 2, 3])
def test_the_official_hmdb51_lists_are_complete_and_group_disjoint(shared_data, split):
    lines = []
    for path in (shared_data / "splits" / "testTrainMulti_7030_splits").glob(f"*_test_split{split}.txt"):
        lines += hmdb51.parse_list(path.read_bytes().decode(), path.name.partition("_test_split")[0], path)
    groups = {use: {line.group for u, line in lines if u == use} for use in (hmdb51.TRAIN, hmdb51.TEST)}
    assert Counter(use for use, _ in lines) == {hmdb51.TRAIN: 3570, hmdb51.TEST: 1530, hmdb51.UNUSED: 1666}
    assert len({line.class_names for _, line in lines}) == 51
    assert "" not in groups[hmdb51.TRAIN] | groups[hmdb51.TEST]
    assert not groups[hmdb51.TRAIN] & groups[hmdb51.TEST]


def test_the_group_of_an_hmdb51_clip_is_its_source():
    name = "Golf_Tips_-_Hit_The_Driver_300+_Yards!!!_golf_f_nm_np1_fr_med_0.avi"
    assert hmdb51.group_of("golf", name) == "golf/Golf_Tips_-_Hit_The_Driver_300+_Yards!!!"


def test_a_wrong_hmdb51_line_is_a_sentence(tmp_path):
    write(tmp_path / "golf_test_split1.txt", "a.avi 1\nb.avi 3\n")
    with pytest.raises(UserError, match="line 2"):
        load_splits(f"hmdb51:{tmp_path}")


def test_skateboard2_is_read_whole(shared_data):
    splits = load_splits(f"hmdb51:{shared_data / 'skateboard2'}")
    assert splits.test is not None
    assert (len(splits.train.videos), len(splits.test.videos)) == (71, 41)
    assert Counter(c for _, c in seen(splits.train) + seen(splits.test)) == {"kickflip": 60, "ollie": 52}


# ---- Kinetics

KINETICS_TRAIN = (
    "label,youtube_id,time_start,time_end,split,is_cc\r\n"
    "abseiling,-a_B,7,17,train,0\r\n"
    "zumba,c_1,10,20,train,0\r\n"
    'abseiling,"d",0,10,train,1\r\n'
    "zumba,gone,0,10,train,1\r\n"
)
KINETICS_VAL = "label,youtube_id,time_start,time_end,split\nzumba,e,100,110,val\n"


@pytest.mark.parametrize("folder", ["train/", "train/some class/", "", "anywhere/"])
@pytest.mark.parametrize("lists", [".", "annotations"])
def test_kinetics_files_are_found_by_id_and_times(tmp_path, folder, lists):
    write(tmp_path / lists / "train.csv", KINETICS_TRAIN)
    write(tmp_path / lists / "kinetics_val.csv", KINETICS_VAL)
    write(tmp_path / lists / "test.csv", "youtube_id,time_start,time_end,split\nx,1,11,test\n")
    put(tmp_path, *(f"{folder}{name}" for name in ("-a_B.mp4", "c_1_000010_000020.mp4", "d_0_10.mkv")), "val/e.mp4")
    splits = load_splits(f"kinetics:{tmp_path}")
    assert seen(splits.train) == [
        ("-a_B.mp4", "abseiling"),
        ("c_1_000010_000020.mp4", "zumba"),
        ("d_0_10.mkv", "abseiling"),
    ]
    assert seen(splits.test) == [("e.mp4", "zumba")]
    assert [Path(p.path).name for p in splits.train.problems] == ["gone_000000_000010.mp4"]


def test_the_official_kinetics_csv_is_complete(shared_data):
    path = shared_data / "splits" / "kinetics" / "kinetics-400_val.csv"
    lists = kinetics.parse_csv(path.read_text(), path)
    assert {name: len(lines) for name, lines in lists.items()} == {"val": 19906}
    assert len({line.class_names for line in lists["val"]}) == 400


def test_two_kinetics_lists_of_one_split_are_refused(tmp_path):
    write(tmp_path / "a.csv", KINETICS_VAL)
    write(tmp_path / "b.csv", KINETICS_VAL)
    with pytest.raises(UserError, match="keep one"):
        load_splits(f"kinetics:{tmp_path}")


def test_a_wrong_kinetics_line_is_a_sentence(tmp_path):
    write(tmp_path / "a.csv", KINETICS_VAL + "zumba,f,soon,110,val\n")
    with pytest.raises(UserError, match="line 3"):
        load_splits(f"kinetics:{tmp_path}")


# ---- whole and cut sets


@pytest.fixture(scope="module")
def stub_files(tmp_path_factory, shared_data):
    """Empty files under the official names of all of UCF101 and HMDB51, beside the official lists."""
    root = tmp_path_factory.mktemp("stubs")
    for name, lists in (("ucf101", "ucfTrainTestlist"), ("hmdb51", "testTrainMulti_7030_splits")):
        (root / name).mkdir()
        (root / name / lists).symlink_to(shared_data / "splits" / lists)
    lines = (shared_data / "splits" / "ucfTrainTestlist").glob("t*list0*.txt")
    files = {f"ucf101/UCF-101/{line.split()[0]}" for p in lines for line in p.read_text().splitlines() if line.strip()}
    for path in (shared_data / "splits" / "testTrainMulti_7030_splits").glob("*_split1.txt"):
        folder = f"hmdb51/videos/{path.name.removesuffix('_test_split1.txt')}"
        files |= {f"{folder}/{line.split()[0]}" for line in path.read_text().splitlines() if line.strip()}
    for folder in {file.rpartition("/")[0] for file in files}:
        (root / folder).mkdir(parents=True)
    for file in files:
        (root / file).touch()
    return root


@pytest.mark.parametrize(
    ("spec", "split", "train", "test", "classes"),
    [
        *(("ucf101", split, *ucf101.OFFICIAL[split], 101) for split in (1, 2, 3)),
        *(("hmdb51", split, 3570, 1530, 51) for split in (1, 2, 3)),
    ],
)
def test_a_whole_set_is_loaded_with_its_official_counts_and_no_warning(stub_files, spec, split, train, test, classes):
    splits = load_splits(f"{spec}:{stub_files / spec}", split)
    assert splits.test is not None
    assert (len(splits.train.videos), len(splits.test.videos), len(splits.train.classes)) == (train, test, classes)
    assert splits.train.problems == splits.test.problems == splits.warnings == ()


def test_absent_files_are_counted_and_named_in_a_warning(tmp_path):
    for name, text in UCF_LISTS.items():
        write(tmp_path / name, text)
    put(tmp_path, *(f"{name}.avi" for name in UCF_VIDEOS[:3]))
    absent, empty_class = load_splits(f"ucf101:{tmp_path}").warnings
    assert "1 of the 2 videos" in absent and "v_YoYo_g01_c01.avi" in absent
    assert "1 of the 2 classes have no video" in empty_class and "YoYo" in empty_class


def test_cut_official_lists_are_a_warning(tmp_path, shared_data):
    folder = shared_data / "splits" / "ucfTrainTestlist"
    write(tmp_path / "classInd.txt", (folder / "classInd.txt").read_text())
    for name in ("trainlist01.txt", "testlist01.txt"):
        lines = (folder / name).read_text().splitlines()[:40]
        write(tmp_path / name, "\n".join(lines))
        put(tmp_path, *(line.split()[0] for line in lines))
    warnings = load_splits(f"ucf101:{tmp_path}").warnings
    assert any("list 40 training and 40 test videos, where UCF101's split 1 has 9537 and 3783" in w for w in warnings)


# ---- lists that contradict themselves


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ("a.mp4,x\n", "b.mp4,x\nc.mp4,y\n", "1 of the 2 classes have no video in .* train .y., so that their test"),
        ("a.mp4,x\nb.mp4,y\n", "c.mp4,y\n", "1 of the 2 classes have no video in .* test .x., so that nothing is"),
        ("a.mp4,0\nb.mp4,1\n", "c.mp4,1\nd.mp4,2\n", "1 of the 3 classes .* train .2."),  # counted from 0 and from 1
    ],
)
def test_a_class_on_one_side_only_is_a_warning(tmp_path, train, test, said):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    write(tmp_path / "test.csv", test)
    assert any(re.search(said, w) for w in load_splits(str(write(tmp_path / "train.csv", train))).warnings)


def test_a_file_with_two_labels_in_two_lines_is_a_warning(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4")
    (warning,) = load_splits(str(write(tmp_path / "l.csv", "a.mp4,x\nb.mp4,x\na.mp4,y\nb.mp4,x\n"))).warnings
    assert "1 files" in warning and "a.mp4" in warning


def test_one_file_name_in_two_classes_is_two_videos_where_files_are_listed_by_path(tmp_path):
    for name in ("golf", "swing"):
        write(tmp_path / f"{name}_test_split1.txt", "same.avi 1\n")
        put(tmp_path, f"videos/{name}/same.avi")
    assert seen(load_splits(f"hmdb51:{tmp_path}").train) == [("same.avi", "golf"), ("same.avi", "swing")]


def test_one_file_name_in_two_folders_is_ambiguous_where_files_are_listed_by_name(tmp_path):
    write(tmp_path / "train.csv", KINETICS_TRAIN)
    put(tmp_path, "train/-a_B.mp4", "train/c_1.mp4", "resized/c_1.mp4", "d_0_10.mkv", "d_0_10.mp4")
    train = load_splits(f"kinetics:{tmp_path}").train
    assert names(train) == ["-a_B.mp4", "d_0_10.mp4"]
    reasons = [p.reason for p in train.problems]
    assert reasons[0] == f"2 files have this name: {tmp_path}/resized/c_1.mp4 and {tmp_path}/train/c_1.mp4; keep one"


@pytest.mark.parametrize("suffixes", [(".avi", ".mp4"), (".mp4", ".avi", ".mkv")])
def test_of_a_file_and_its_copies_in_other_formats_the_listed_one_is_read(tmp_path, suffixes):
    for name, text in UCF_LISTS.items():
        write(tmp_path / name, text)
    put(tmp_path, *(f"{name}{suffix}" for name in UCF_VIDEOS for suffix in suffixes))
    assert names(load_splits(f"ucf101:{tmp_path}").train) == ["v_Walk_g08_c01.avi", "v_YoYo_g08_c01.avi"]


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
    write_manifest(
        tmp_path / "manifest.csv", manifest_rows(VideoSet("", (Video(str(tmp_path / "empty.mp4"), info=INFO),)))
    )
    assert scanned(load_splits(str(tmp_path)).train).videos[0].info == INFO


# ---- held-out part


def grouped(groups_of_class: dict[int, int], videos_per_group: int) -> VideoSet:
    videos = [
        Video(f"{c}-{g}-{i}.mp4", (c,), f"{c}/g{g}")
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
@pytest.mark.parametrize(
    "videos", [(Video("a"), Video("b")), (Video("a", (), "g"), Video("b", (), "g"), Video("c", (), "g"))]
)
def test_both_parts_have_a_video(videos, fraction):
    stays, out = held_out(VideoSet("set", videos), fraction, 0)
    assert stays.videos and out.videos


def test_one_video_cannot_be_split():
    with pytest.raises(ValueError, match="cannot hold out"):
        held_out(VideoSet("set", (Video("a"),)), 0.2, 0)
