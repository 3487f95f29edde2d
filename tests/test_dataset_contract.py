"""What holds of every registered data set, on the smallest layout of it as it is published."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssl_video.datasets.base import DATASETS, FeatureShards, FeatureSplits, VideoList
from ssl_video.datasets.listing import MISSING, leaks
from ssl_video.datasets.youtube8m import FeatureSequence, FeatureSet
from ssl_video.errors import UserError
from tests import tfrecords
from tests.listings import put, put_penn, write

# ---- the cases: each writes a set and returns which videos below the folder its lists name; none needs to decode

Case = Callable[[Path], list[str]]
CASES: dict[str, Case] = {}


def case(write_set: Case) -> Case:
    """The case of the data set that is called like the function."""
    CASES[write_set.__name__] = write_set
    return write_set


@case
def davis(root: Path) -> list[str]:
    names = ("bear", "bus", "camel", "dogs")
    write(root / "ImageSets" / "2017" / "train.txt", "bear\nbus\n")
    write(root / "ImageSets" / "2017" / "val.txt", "camel\ndogs\n")
    for name in names:
        put(root, f"JPEGImages/480p/{name}/00000.jpg", f"Annotations/480p/{name}/00000.png")
    return [f"JPEGImages/480p/{name}" for name in names]


@case
def hmdb51(root: Path) -> list[str]:
    videos = []
    for action in ("golf", "wave"):
        names = [f"film{n}_{action}_f_nm_np1_fr_med_0.avi" for n in range(4)]
        lines = (f"{name} {use} \n" for name, use in zip(names, (1, 1, 2, 0), strict=True))
        write(root / "testTrainMulti_7030_splits" / f"{action}_test_split1.txt", "".join(lines))
        videos += [f"videos/{action}/{name}" for name in names]
    put(root, *videos)
    return [video for video in videos if "film3" not in video]


@case
def jhmdb(root: Path) -> list[str]:
    names = [f"{action}/{n}" for action in ("golf", "wave") for n in range(3)]
    for action in ("golf", "wave"):
        write(root / "splits" / f"{action}_test_split1.txt", "0.avi 1\n1.avi 1\n2.avi 2\n")
    for name in names:
        put(root, f"Rename_Images/{name}/00001.png", f"joint_positions/{name}/joint_positions.mat")
    return [f"Rename_Images/{name}" for name in names]


@case
def kinetics(root: Path) -> list[str]:
    header = "label,youtube_id,time_start,time_end,split,is_cc\r\n"
    write(root / "train.csv", header + "abseiling,a,7,17,train,0\r\nzumba,b,10,20,train,0\r\n")
    write(root / "val.csv", header + "abseiling,c,0,10,val,0\r\nzumba,d,5,15,val,0\r\n")
    videos = [
        "train/a_000007_000017.mp4",
        "train/b_000010_000020.mp4",
        "val/c_000000_000010.mp4",
        "val/d_000005_000015.mp4",
    ]
    put(root, *videos)
    return videos


@case
def penn_action(root: Path) -> list[str]:
    for number, action, train in ((1, "bowl", 1), (2, "golf_swing", 1), (3, "bowl", -1), (4, "golf_swing", -1)):
        put_penn(root, f"{number:04d}", action, train)
    return [f"frames/{number:04d}" for number in range(1, 5)]


@case
def pouring(root: Path) -> list[str]:
    put(root / "videos", "train/a.mov", "train/b.mov", "val/c.mov", "test/d.mov")
    return []  # no list names them


@case
def sports1m(root: Path) -> list[str]:
    address = "http://www.youtube.com/watch?v="
    write(root / "labels.txt", "kitesurfing\nfutsal\n")
    write(root / "original" / "train_partition.txt", f"{address}a1234567890 0,1\n{address}b1234567890 1\n")
    write(root / "original" / "test_partition.txt", f"{address}c1234567890 0\n{address}d1234567890 1,0\n")
    videos = [f"videos/{name}1234567890.mp4" for name in "abcd"]
    put(root, *videos)
    return videos


@case
def ucf101(root: Path) -> list[str]:
    videos = [f"{action}/v_{action}_g{g:02d}_c01.avi" for action in ("Walk", "YoYo") for g in (1, 8, 9)]
    lists = root / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 Walk\r\n2 YoYo\r\n")
    write(lists / "trainlist01.txt", "".join(f"{v} {1 + (v[0] == 'Y')}\r\n" for v in videos if "_g01" not in v))
    write(lists / "testlist01.txt", "".join(f"{v}\r\n" for v in videos if "_g01" in v))
    put(root / "UCF-101", *videos)
    return [f"UCF-101/{video}" for video in videos]


@case
def vip(root: Path) -> list[str]:
    names = ("videos1", "videos2", "videos3", "videos4")
    write(root / "lists" / "train_videos.txt", "videos1\nvideos2\n")
    write(root / "lists" / "val_videos.txt", "videos3\nvideos4\n")
    for name in names:
        put(root, f"Images/{name}/0001.jpg", f"Annotations/Category_ids/{name}/0001.png")
    return [f"Images/{name}" for name in names]


@case
def youtube8m(root: Path) -> list[str]:
    write(root / "vocabulary.csv", "Index,Name\n0,Game\n1,Car\n")
    for number, name in enumerate(("train0093", "train0094", "validate00")):
        seconds_TD = np.full((2, 1152), number, np.uint8)
        record = tfrecords.seconds_of_features({number % 2}, seconds_TD[:, :1024], seconds_TD[:, 1024:])
        tfrecords.write(root / "frame" / f"{name}.tfrecord", [record])
    return []  # no list names the shards


# ---- the contract


def lists_of(name: str, root: Path, split: int = 1) -> tuple[VideoList | FeatureShards, VideoList | FeatureShards]:
    splits = DATASETS[name](root, split)
    assert splits.test is not None
    return splits.train, splits.test


def files_in(part: VideoList | FeatureShards) -> list[str]:
    return [v.path for v in part.videos] if isinstance(part, VideoList) else list(part.shards)


def labels_in(part: VideoList | FeatureShards) -> list[tuple[int, ...]]:
    if isinstance(part, VideoList):
        return [v.labels for v in part.videos]
    return [sequence.labels for sequence in FeatureSet(part) if isinstance(sequence, FeatureSequence)]


def test_every_data_set_has_a_case():
    assert sorted(CASES) == DATASETS.names()


@pytest.mark.parametrize("name", CASES)
def test_the_official_lists_are_read_whole_and_are_disjoint(tmp_path, name):
    listed = {str(tmp_path / video) for video in CASES[name](tmp_path)}
    train, test = (files_in(part) for part in lists_of(name, tmp_path))
    assert train and test and all(Path(path).exists() for path in train + test)
    assert len({*train, *test}) == len(train) + len(test)
    assert not listed or listed == {*train, *test}
    splits = DATASETS[name](tmp_path, 1)
    assert isinstance(splits, FeatureSplits) or leaks(splits) == ()


@pytest.mark.parametrize("name", CASES)
def test_every_video_has_labels_of_its_set_or_an_annotation(tmp_path, name):
    CASES[name](tmp_path)
    for part in lists_of(name, tmp_path):
        labels = labels_in(part)
        assert all(0 <= label < len(part.classes) for given in labels for label in given)
        annotated = [Path(v.annotation).exists() for v in part.videos] if isinstance(part, VideoList) else [False]
        assert labels and (all(labels) or all(annotated))


@pytest.mark.parametrize("name", CASES)
def test_a_listed_video_that_is_absent_is_a_problem_with_a_reason(tmp_path, name):
    for number, video in enumerate(CASES[name](tmp_path / "whole")):
        root = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "whole", root)
        (root / video).rename(tmp_path / f"gone{number}")
        train, test = lists_of(name, root)
        assert isinstance(train, VideoList) and isinstance(test, VideoList)
        (problem,) = train.problems + test.problems
        assert (Path(problem.path).name, problem.reason) == (Path(video).name, MISSING)
        assert str(root / video) not in files_in(train) + files_in(test)


@pytest.mark.parametrize("name", CASES)
def test_the_videos_of_a_published_list_say_which_one_it_is(tmp_path, name):
    CASES[name](tmp_path)
    said = [{v.published for v in part.videos} for part in lists_of(name, tmp_path) if isinstance(part, VideoList)]
    if name in ("ucf101", "hmdb51"):  # sets in their layout are many; theirs are told by their numbers of videos
        assert said == [{""}, {""}]
    elif said:  # features are of no videos that could be seen again
        (train,), (test,) = said
        assert re.fullmatch(r"[a-z_0-9]+:train\d*", train) and re.fullmatch(r"[a-z_0-9]+:(test|val)\d*", test)


def is_a_sentence(error: UserError) -> bool:
    return str(error).endswith(".") and ". " not in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("name", CASES)
def test_a_split_that_is_not_there_is_one_sentence(tmp_path, name):
    CASES[name](tmp_path)
    with pytest.raises(UserError, match="99") as raised:
        DATASETS[name](tmp_path, 99)
    assert is_a_sentence(raised.value)


@pytest.mark.parametrize("name", CASES)
def test_a_folder_without_the_set_is_one_sentence_that_names_it(tmp_path, name):
    with pytest.raises(UserError, match=str(tmp_path)) as raised:
        DATASETS[name](tmp_path, 1)
    assert is_a_sentence(raised.value)


@pytest.mark.parametrize("name", CASES)
def test_the_hash_tells_the_lists_apart_and_does_not_change_when_the_set_moves(tmp_path, name):
    CASES[name](tmp_path / "here")
    before = [part.hash for part in lists_of(name, tmp_path / "here")]
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = shutil.move(tmp_path / "here", tmp_path / "far" / "away" / "there")
    assert [part.hash for part in lists_of(name, Path(moved))] == before
    assert before[0] != before[1]
