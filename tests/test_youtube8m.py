"""YouTube-8M's shards as feature sequences."""

import numpy as np
import pytest

from ssl_video.datasets.base import FeatureSplits
from ssl_video.datasets.spec import load_features, load_splits
from ssl_video.datasets.tfrecord import TFRecordError
from ssl_video.datasets.youtube8m import FeatureSequence, FeatureSet, dequantised, sequence_of
from ssl_video.errors import UserError
from ssl_video.video.info import Problem
from tests import tfrecords as made
from tests.listings import put


def video_level(labels, rgb_D, audio_D) -> bytes:
    names = {"id": made.of_bytes(b"abcd"), "labels": made.of_integers(labels)}
    return made.example(names | {"mean_rgb": made.of_floats(rgb_D), "mean_audio": made.of_floats(audio_D)})


def random_bytes(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns), np.uint8)


RGB_TD, AUDIO_TD = random_bytes(5, 1024), random_bytes(5, 128, 1)
GOOD = made.seconds_of_features([3, 3861, 3], RGB_TD, AUDIO_TD)


def sequences(set_: FeatureSet) -> list[FeatureSequence]:
    found = list(set_)
    assert all(isinstance(s, FeatureSequence) for s in found)
    return [s for s in found if isinstance(s, FeatureSequence)]


def loaded(root) -> tuple[FeatureSplits, FeatureSet]:
    splits = load_features(f"youtube8m:{root}")
    return splits, FeatureSet(splits.train)


def test_a_frame_level_record_is_a_sequence_with_a_row_a_second():
    sequence = sequence_of(GOOD, 3862)
    assert (sequence.id, sequence.labels, sequence.features_TD.shape) == ("abcd", (3, 3861), (5, 1152))
    expected = np.concatenate([RGB_TD, AUDIO_TD], axis=1) * (4 / 255) + 4 / 512 - 2
    assert np.allclose(sequence.features_TD, expected, atol=1e-6)


def test_a_video_level_record_is_a_sequence_of_one_row():
    mean_rgb, mean_audio = np.linspace(-1, 1, 1024), np.linspace(0, 2, 128)
    sequence = sequence_of(video_level([7], mean_rgb, mean_audio), 3862)
    assert np.allclose(sequence.features_TD, np.concatenate([mean_rgb, mean_audio])[None])


def test_sound_that_is_longer_than_the_picture_is_cut():
    assert sequence_of(made.seconds_of_features([1], RGB_TD, random_bytes(6, 128)), 3862).features_TD.shape == (5, 1152)


def test_the_picture_alone_can_be_asked_for():
    assert sequence_of(GOOD, 3862, audio=False).features_TD.shape == (5, 1024)


def test_bytes_become_numbers_from_minus_two_to_two():
    assert np.allclose(dequantised(np.array([[0, 255]], np.uint8)), [[-2 + 1 / 128, 2 + 1 / 128]])


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (made.seconds_of_features([3862], RGB_TD, AUDIO_TD), "label is not one of 0 to 3861"),
        (made.seconds_of_features([-1], RGB_TD, AUDIO_TD), "label is not one of 0 to 3861"),
        (made.seconds_of_features([1], RGB_TD[:, :1000], AUDIO_TD), "1024 bytes a second"),
        (made.seconds_of_features([1], RGB_TD, AUDIO_TD[:0]), "'audio' is empty"),
        (made.sequence_example({}, {"rgb": [made.of_bytes(RGB_TD[0].tobytes())]}), "neither 'audio' nor 'mean_audio'"),
        (made.sequence_example({}, {"rgb": [made.of_floats([1.0])]}), "1024 bytes a second"),
        (video_level([1], [0.0] * 1023, [0.0] * 128), "mean_rgb does not hold 1024"),
        (video_level([1], [float("nan")] * 1024, [0.0] * 128), "not finite"),
        (b"\x0a\x05ab", "ends within a field"),
    ],
)
def test_a_record_that_is_none_of_youtube8m_is_a_reason(record, said):
    with pytest.raises(TFRecordError, match=said):
        sequence_of(record, 3862)


@pytest.mark.parametrize("folder", ["frame", "frame/train", "video", "."])
def test_shards_are_found_in_every_layout(tmp_path, folder):
    made.write(tmp_path / folder / "train0093.tfrecord", [GOOD])
    made.write(tmp_path / folder / "train-A.tfrecord", [GOOD, GOOD])
    made.write(tmp_path / folder / "validate00.tfrecord", [GOOD])
    made.write(tmp_path / folder / "test00.tfrecord", [GOOD])
    splits, train = loaded(tmp_path)
    assert splits.test is not None
    assert (len(sequences(train)), len(sequences(FeatureSet(splits.test)))) == (3, 1)
    assert len(train.classes) == 3862


def test_the_vocabulary_names_the_classes(tmp_path):
    made.write(tmp_path / "train0.tfrecord", [made.seconds_of_features([1], RGB_TD, AUDIO_TD)])
    text = 'Index,TrainVideoCount,KnowledgeGraphId,Name\n0,788288,/m/0,Game\n1,5,/m/1,"Car, old"\n'
    (tmp_path / "vocabulary.csv").write_text(text)
    splits, train = loaded(tmp_path)
    assert splits.train.classes == ("Game", "Car, old")
    assert sequences(train)[0].labels == (1,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no columns Index and Name"),
        ("Index,Name\n1,x\n2,y\n", "not numbered from 0 to 1"),
        ("Index,Name\nx,y\n", "line 2"),
        ("Index,Name\n", "not numbered"),
    ],
)
def test_a_wrong_vocabulary_is_a_sentence(tmp_path, text, said):
    made.write(tmp_path / "train0.tfrecord", [GOOD])
    (tmp_path / "vocabulary.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        loaded(tmp_path)


def test_no_shards_are_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no file train\*\.tfrecord"):
        loaded(tmp_path)


def test_both_kinds_of_features_are_a_warning_that_says_which_are_used(tmp_path):
    for folder in ("frame", "video"):
        made.write(tmp_path / folder / "train0.tfrecord", [GOOD])
    splits, train = loaded(tmp_path)
    assert len(sequences(train)) == 1 and "video" in splits.warnings[0]


def test_damaged_records_are_problems_between_good_ones(tmp_path):
    shard = made.write(tmp_path / "train0.tfrecord", [GOOD, b"\x0a\x05ab", GOOD])
    shard.write_bytes(shard.read_bytes() + b"more")
    found = list(loaded(tmp_path)[1])
    assert [type(f) for f in found] == [FeatureSequence, Problem, FeatureSequence, Problem]
    assert isinstance(found[1], Problem) and found[1].path == f"{shard}, record 1"


def test_features_cannot_be_scanned_as_videos(tmp_path):
    made.write(tmp_path / "train0.tfrecord", [GOOD])
    with pytest.raises(UserError, match=r"holds features and no videos, .* 'ssl-video evaluate features'"):
        load_splits(f"youtube8m:{tmp_path}")


def test_videos_cannot_be_read_as_features(tmp_path):
    put(tmp_path, "a.mp4")
    with pytest.raises(UserError, match="holds videos and no published features"):
        load_features(str(tmp_path))


def test_the_hash_changes_with_the_shards(tmp_path):
    made.write(tmp_path / "train0.tfrecord", [GOOD])
    before = loaded(tmp_path)[0].train.hash
    made.write(tmp_path / "train1.tfrecord", [GOOD])
    assert loaded(tmp_path)[0].train.hash != before
