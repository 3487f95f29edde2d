"""What published data sets and their lists are read as."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ssl_video.datasets import hmdb51, kinetics, ucf101
from ssl_video.datasets.phases import annotation_of
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError
from tests.listings import names, put, put_penn, seen, write

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
    for part, videos in (("train", splits.train), ("test", splits.test)):
        assert {v.published for v in videos.videos} == {f"{spec}:{part}{split}"}


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


# ---- Penn Action and Pouring


def test_penn_action_is_read_with_its_labels_and_the_phases_beside_it(tmp_path):
    put_penn(tmp_path, "0001", "golf_swing", 1)
    put_penn(tmp_path, "0002", "bowling", -1)
    write(tmp_path / "annotations" / "0001_phases.csv", "frame,phase\n0,setup\n")
    splits = load_splits(f"penn_action:{tmp_path}")
    assert splits.test is not None
    assert seen(splits.train) == [("0001", "golf_swing")] and seen(splits.test) == [("0002", "bowling")]
    assert annotation_of(Path(splits.train.videos[0].path)) == tmp_path / "annotations" / "0001_phases.csv"


def test_videos_of_penn_action_without_frames_or_with_broken_labels_are_problems(tmp_path):
    put_penn(tmp_path, "0001", "golf_swing", 1)
    put_penn(tmp_path, "0002", "bowling", -1)
    write(tmp_path / "labels" / "0003.mat", "")
    write(tmp_path / "labels" / "0004.mat", "no such file")
    write(tmp_path / "frames" / "0004" / "000001.jpg", "")
    savemat(tmp_path / "labels" / "0005.mat", {"action": np.array(["a", "b"]), "train": 1})
    write(tmp_path / "frames" / "0005" / "000001.jpg", "")
    train = load_splits(f"penn_action:{tmp_path}").train
    reasons = {Path(p.path).name: p.reason for p in train.problems}
    assert "not there" in reasons["0003"] and "cannot be read" in reasons["0004"] and "one action" in reasons["0005"]
    with pytest.raises(UserError, match="name the folder of Penn Action"):
        load_splits(f"penn_action:{tmp_path / 'frames'}")


@pytest.mark.parametrize("test", ["test", "val"])
def test_pouring_is_one_action_in_two_lists(tmp_path, test):
    put(tmp_path / "videos" / "train", "a.mov")
    put(tmp_path / "videos" / test, "b.mov")
    splits = load_splits(f"pouring:{tmp_path}")
    assert splits.test is not None
    assert seen(splits.train) == [("a.mov", "pouring")] and seen(splits.test) == [("b.mov", "pouring")]


def test_pouring_without_its_folders_is_one_sentence(tmp_path):
    put(tmp_path / "videos", "a.mov")
    with pytest.raises(UserError, match="videos/train and videos/test"):
        load_splits(f"pouring:{tmp_path}")
