import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from ssl_video.cli import main
from ssl_video.datasets.base import Video
from ssl_video.datasets.phases import NONE, FramePhases, annotation_of, numbered, phases_of, read_csv, write_csv
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval.alignment import (
    Alignment,
    AlignmentConfig,
    Embedded,
    classification_accuracy,
    few_shot,
    frame_retrieval,
    half_interval,
    kendalls_taus,
    measure,
    progression_score,
    progression_targets,
)
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.frames import calibrate_on_frames, embed_frames
from ssl_video.model import load_model
from ssl_video.video.info import VideoInfo


def line(*places):
    return np.array(places, float)[:, None]


def rng(seed=0):
    return np.random.default_rng(seed)


def tau_b(order):
    """Kendall's tau-b of ``order`` with 0, 1, 2, ..., by counting pairs."""
    agree = against = tied = 0
    for a, b in itertools.combinations(order, 2):
        agree, against, tied = agree + (b > a), against + (b < a), tied + (a == b)
    pairs = agree + against + tied
    return (agree - against) / math.sqrt(pairs * (pairs - tied))


def test_tau_is_1_in_the_same_order_and_minus_1_in_the_reverse():
    up, faster = line(0, 1, 2, 3, 4, 5), line(0, 2, 4)
    assert kendalls_taus([faster, up], 1).tolist() == pytest.approx([1, tau_b([0, 0, 1, 1, 2, 2])])
    assert kendalls_taus([up, -up + 5], 1).tolist() == pytest.approx([-1, -1])


@pytest.mark.parametrize("preset", ["penn", "pouring", "default"])
def test_tau_takes_every_stride_th_frame_of_both_videos(preset):
    stride = Alignment.presets[preset].stride
    videos = [rng(n).normal(size=(frames, 3)) for n, frames in enumerate((47, 36, 53))]
    expected = []
    for queries, keys in itertools.permutations(videos, 2):
        kept = range(0, len(keys), stride)
        nearest = [min(kept, key=lambda n: ((keys[n] - queries[m]) ** 2).sum()) for m in range(0, len(queries), stride)]
        assert kendalltau(range(len(nearest)), nearest).statistic == pytest.approx(tau_b(nearest))
        expected.append(tau_b(nearest))
    assert kendalls_taus(videos, stride) == pytest.approx(np.array(expected), abs=1e-12)


def test_a_nearest_neighbour_between_the_strided_frames_is_passed_over():
    video = line(0, 1, 2, 3, 4, 5, 6)
    other = line(0, 4, 2.1, 2, 4.1, 0, 5)  # the nearest of 2 and 4 are its frames 3 and 1
    assert tau_b([0, 3, 1, 6]) < 1
    assert kendalls_taus([video, other], 2)[0] == pytest.approx(tau_b([0, 1, 2, 3]))


def test_tau_of_one_nearest_neighbour_for_all_is_left_out_and_counted():
    near, far = line(0, 1, 2), line(1.4, 50)
    assert np.isnan(kendalls_taus([near, far], 1)).tolist() == [True, False]
    metrics, taus = measure([], [Embedded(x, None) for x in (near, far)], AlignmentConfig(stride=1), rng(), True)
    assert np.isnan(taus).tolist() == [True, False]
    assert metrics == {"kendalls_tau": pytest.approx(kendalls_taus([near, far], 1)[1])}


def test_one_frame_has_no_order():
    assert np.isnan(kendalls_taus([line(0), line(0, 1)], 1)[0])


def test_targets_are_the_time_since_the_last_frame_of_a_phase():
    assert progression_targets(np.array([0, 0, 1, 2]), 3).tolist() == [
        [-0.25, -0.5],
        [0, -0.25],
        [0.25, 0],
        [0.5, 0.25],
    ]


@pytest.mark.parametrize(
    ("phases", "ends"),
    [
        ([0, 0, 2, 2], [1, 2]),  # without phase 1: the first frame of phase 2
        ([1, 1, 2, 2], [0, 1]),  # without phase 0
        ([0, 0, 1, 1], [1, 3]),  # phase 1 is the last; it has an end of its own
        ([0, 0, 0, 0], [3, 3]),  # one phase only: nothing later
        ([2, 2, 2, 2], [0, 0]),
    ],
)
def test_a_phase_that_is_missing_ends_with_the_first_later_one_or_with_the_video(phases, ends):
    targets = progression_targets(np.array(phases), 3)
    assert (np.arange(4) - 4 * targets[:, 0]).tolist() == [ends[0]] * 4
    assert (np.arange(4) - 4 * targets[:, 1]).tolist() == [ends[1]] * 4


def test_progression_is_the_mean_r2_of_one_regression_an_event():
    def video(seed, length):
        return rng(seed).normal(size=(length, 2)), np.sort(rng(seed).integers(0, 3, length))

    train, test = [video(0, 20), video(1, 15)], [video(2, 12)]
    scores = []
    for event in range(2):
        x = np.concatenate([x for x, _ in train])
        y = np.concatenate([progression_targets(y, 3)[:, event] for _, y in train])
        predicted = LinearRegression().fit(x, y).predict(test[0][0])
        scores.append(r2_score(progression_targets(test[0][1], 3)[:, event], predicted))
    assert progression_score(train, test, 3) == pytest.approx(np.mean(scores))


def test_progression_of_embeddings_that_tell_the_time_is_near_1():
    videos = [(line(*np.arange(n) / n), np.repeat([0, 1], n // 2)) for n in (10, 20)]
    assert progression_score(videos[:1], videos[1:], 2) > 0.95


def test_the_classifier_recognises_separate_phases():
    videos = [
        (line(*np.repeat([0, 10, 20], 4)) + 0.1 * rng(s).normal(size=(12, 1)), np.repeat([0, 1, 2], 4)) for s in (0, 1)
    ]
    assert classification_accuracy(videos[:1], videos[1:]) == 1


def test_a_classifier_of_one_phase_says_that_one():
    train, test = [(line(0, 1), np.array([1, 1]))], [(line(0, 1, 2, 3), np.array([0, 1, 1, 1]))]
    assert classification_accuracy(train, test) == 0.75


def test_fractions_take_the_first_training_videos_and_at_least_one():
    right = Embedded(line(0, 0, 9, 9), np.array([0, 0, 1, 1]))
    wrong = Embedded(line(0, 0, 9, 9), np.array([1, 1, 0, 0]))
    config = AlignmentConfig(fractions=(0.1, 0.25, 1.0), stride=1)
    metrics, *_ = measure([right, wrong, wrong, wrong], [right, right], config, rng(), False)
    assert metrics["classification@0.1"] == metrics["classification@0.25"] == 1
    assert metrics["classification@1"] == 0


def test_few_shot_draws_videos_and_gives_an_interval():
    right, wrong = (line(0, 0, 9, 9), np.array([0, 0, 1, 1])), (line(0, 0, 9, 9), np.array([1, 1, 0, 0]))
    draws = few_shot([right, wrong], [right], 1, 40, rng())
    assert set(draws) == {0, 1}
    values = np.array([1.0, 2.0, 3.0])
    assert half_interval(values) == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t of 2 degrees of freedom
    assert half_interval(values[:1]) == 0


def test_retrieval_is_the_precision_among_frames_of_other_videos():
    a, b = (line(0, 10), np.array([0, 1])), (line(0, 1, 11, 12), np.array([0, 1, 1, 1]))
    # from a, K = 2: {0, 1} of b are 0, 1 -> 1/2; {11, 12} -> 1. From b: both frames of a -> 1/2 each time
    assert frame_retrieval([a, b], 2, 1) == pytest.approx((0.75 + 0.5) / 2)
    assert frame_retrieval([a, b], 1, 1) == pytest.approx((1 + 3 / 4) / 2)
    assert frame_retrieval([a, b], 2, 3) == pytest.approx((0.5 + 0.5) / 2)
    assert frame_retrieval([a, b], 99, 1) == pytest.approx((np.mean([1 / 4, 3 / 4]) + 0.5) / 2)


def test_frames_without_a_phase_take_no_part():
    x, y = Embedded(line(0, 5, 9), np.array([0, NONE, 1])).labelled()
    assert x.tolist() == [[0], [9]] and y.tolist() == [0, 1]


def video_at(path, frames=4):
    return Video(str(path), info=VideoInfo(frames, 25.0, 8, 8, frames / 25, "h264"))


def test_phases_are_read_from_a_csv_beside_the_video(tmp_path):
    (tmp_path / "a_phases.csv").write_text("frame,phase\n0,Setup\n1,Setup\n3,Swing\n")
    assert phases_of(video_at(tmp_path / "a.mp4")) == FramePhases(("Setup", "Setup", "", "Swing"))
    assert phases_of(video_at(tmp_path / "b.mp4")) is None


def test_labels_beyond_the_end_are_left_out_and_counted(tmp_path):
    (tmp_path / "a_phases.csv").write_text("frame,phase\n0,0\n3,1\n4,1\n77,2\n")
    assert phases_of(video_at(tmp_path / "a.mp4")) == FramePhases(("0", "", "", "1"), beyond=2)


def test_phases_from_0_to_1_are_cut_into_equal_parts(tmp_path):
    video = video_at(tmp_path / "videos" / "throw" / "x.mp4", 5)
    (tmp_path / "annotations").mkdir()
    np.savez(tmp_path / "annotations" / "x.npz", phase_T=np.array([0, 0.49, np.nan, 0.5, 1, 1], np.float32))
    assert phases_of(video, 2) == FramePhases(("0", "0", "", "1", "1"), beyond=1)
    np.savez(tmp_path / "annotations" / "x.npz", phase_T=np.full(5, np.nan))
    assert phases_of(video, 2) is None


def test_a_csv_beside_the_video_goes_before_the_folder_of_annotations(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "x_phases.csv").write_text("frame,phase\n")
    assert annotation_of(tmp_path / "x.mp4") == tmp_path / "annotations" / "x_phases.csv"
    (tmp_path / "x_phases.csv").write_text("frame,phase\n")
    assert annotation_of(tmp_path / "x.mp4") == tmp_path / "x_phases.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,Setup\n", "must begin with the header"),
        ("", "must begin with the header"),
        ("frame,phase\n0,Setup\n-1,Setup\n", "line 3: write the number"),
        ("frame,phase\n0\n", "line 2: write the number"),
        ("frame,phase\n0,Setup\n0,Swing\n", "line 3: frame 0 has two phases"),
    ],
)
def test_a_wrong_csv_is_answered_with_the_line(tmp_path, text, message):
    path = tmp_path / "a_phases.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_csv(path)


def test_an_array_that_is_none_is_a_users_error(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "x.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="cannot be read"):
        phases_of(video_at(tmp_path / "x.mp4"))


def test_a_written_csv_is_read_back(tmp_path):
    write_csv(tmp_path / "a.csv", ["Setup", "", 'the "top", then', "Swing"])
    assert read_csv(tmp_path / "a.csv") == {0: "Setup", 2: 'the "top", then', 3: "Swing"}


def test_names_are_numbered_as_they_come_and_whole_numbers_by_value():
    a, b = FramePhases(("Setup", "Setup", "Swing", "")), FramePhases(("Setup", "Back", "Swing"))
    names, numbers = numbered([a, b])
    assert names == ("Setup", "Back", "Swing")
    assert [n.tolist() for n in numbers] == [[0, 0, 2, NONE], [0, 1, 2]]
    assert numbered([FramePhases(("10", "9"))])[0] == ("9", "10")
    assert numbered([]) == ((), [])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    synthesize(folder, SyntheticConfig("sequences", train=12, test=12, size=32, frames=16), workers=1)
    return folder


def test_the_command_prints_every_measure(drawn, tmp_path):
    out = tmp_path / "r.json"
    words = ["evaluate", "alignment", "--model", "random:r2plus1d_4?width=4", "--data", str(drawn), "--out", str(out)]
    assert main([*words, "--option", "episodes=2", "--option", "shots=1,2,3"]) == 0
    (result,) = json.loads(out.read_text())
    names = {"kendalls_tau", "classification@0.1", "classification@0.5", "classification@1", "progression", "AP@5"}
    assert names | {"few_shot@1", "few_shot@2", "few_shot@2_ci95"} <= set(result["metrics"])
    assert "few_shot@3" not in result["metrics"]  # an action has two training videos
    assert result["counts"]["actions"] == 6 and result["counts"]["pairs"] == 12


def test_the_tau_of_each_test_video_is_the_mean_over_the_videos_it_is_compared_with(drawn):
    splits = load_splits(str(drawn))
    task = Task("drawn", 1, scanned(splits.train), scanned(splits.test))
    torch.manual_seed(0)
    model = load_model("random:r2plus1d_4?width=4")
    result = evaluate("alignment", model, task, options={"stride": 1})
    model = calibrate_on_frames(model, task.train.videos)
    embedded = dict(zip([v.source for v in task.test.videos], embed_frames(model, task.test.videos)[0], strict=True))
    action = {v.source: v.label for v in task.test.videos}
    for path, x_TD in embedded.items():
        others = [x for other, x in embedded.items() if other != path and action[other] == action[path]]
        taus = [tau for x in others if not np.isnan(tau := kendalls_taus([x_TD, x], 1)[0])]
        assert (path in result.per_video) == bool(taus)
        assert not taus or result.per_video[path]["kendalls_tau"] == pytest.approx(np.mean(taus))
    assert len(result.per_video) > 6


def test_of_one_list_the_classifier_leaves_one_video_out(shared_data, tmp_path):
    out, swings = tmp_path / "r.json", tmp_path / "swings.csv"
    swings.write_text("".join(f"{shared_data}/golf_phase/swing{n}.mp4\n" for n in (1, 2)))
    words = ["evaluate", "alignment", "--model", "random:r2plus1d_4?width=4", "--data", str(swings), "--out", str(out)]
    assert main([*words, "--option", "calibrate=false"]) == 0
    (result,) = json.loads(out.read_text())
    assert result["counts"]["labelled"] == 2 and result["counts"]["pairs"] == 2
    assert 0 <= result["metrics"]["classification_leave_one_out"] <= 1
    assert -1 <= result["metrics"]["kendalls_tau"] <= 1


def test_one_video_alone_has_nothing_to_be_aligned_with(drawn, capsys):
    alone = next((drawn / "videos" / "throw").iterdir())
    assert main(["evaluate", "alignment", "--model", "random:r2plus1d_4?width=4", "--data", str(alone)]) == 2
    assert "has two that can be read" in capsys.readouterr().err


def test_the_phases_of_a_drawn_set_are_found_through_its_manifest(drawn):
    (video, *_) = scanned(load_splits(str(drawn)).train).videos
    phases = phases_of(video, 4)
    assert phases is not None and phases.names_T[0] == "0" and phases.names_T[-1] == "3"
