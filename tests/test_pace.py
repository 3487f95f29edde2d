"""Before its first step a training says what it will do and how long it takes; that changes none of its numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ssl_video as sv
from ssl_video import pretrain_plan
from ssl_video.pretrain_config import PretrainConfig, changed
from ssl_video.pretraining import pretrain
from ssl_video.recipes import load_recipe
from ssl_video.train.pace import Pace, measure_pace
from ssl_video.video.writer import write_video


@pytest.fixture
def folder(tmp_path):
    for n in range(5):
        still_HWC = np.random.default_rng(n).integers(0, 256, (80, 80, 3), np.uint8)
        write_video(tmp_path / "videos" / f"{n}.mp4", (np.roll(still_HWC, t * (n + 1), 1) for t in range(60)))
    write_video(tmp_path / "videos" / "short.mp4", (still_HWC for _ in range(3)))
    return tmp_path / "videos"


def config_of(folder: Path, **options) -> PretrainConfig:
    given = {"data": str(folder), "steps": 24, "batch_size": 2, "workers": 0, "log_every": 1, "pretext.frames": 8}
    return PretrainConfig.from_mapping(changed(load_recipe("small"), given | {"held_out": 0.2} | options))


def test_a_training_says_what_it_will_do_before_its_first_step(folder, tmp_path):
    lines: list[str] = []
    run = pretrain(config_of(folder), tmp_path / "run", say=lines.append)
    begin = next(n for n, line in enumerate(lines) if "are trained on" in line)
    assert lines[begin] == "4 videos are trained on, 1 held out, 1 left out."
    assert lines[begin + 1].endswith(f"24 steps, into {run}")
    assert lines[begin + 2].startswith("Estimated time on this machine: about ")
    assert lines[begin + 3].startswith(f"Written to {run}: the newest 2 checkpoints of ")


def test_the_sizes_that_are_announced_are_those_of_the_files(folder, tmp_path):
    lines: list[str] = []
    run = pretrain(config_of(folder), tmp_path / "run", say=lines.append)
    (said,) = (line for line in lines if line.startswith("Written to"))
    checkpoint = run.checkpoints()[-1].stat().st_size / 1e6
    announced = float(said.partition("checkpoints of ")[2].partition(" ")[0])
    assert announced == pytest.approx(checkpoint, rel=0.1)


def test_timing_changes_no_number_of_a_training(folder, tmp_path, monkeypatch):
    timed = pretrain(config_of(folder), tmp_path / "a")
    monkeypatch.setattr(pretrain_plan, "STEPS_TO_TIME", 1000)
    plain = pretrain(config_of(folder), tmp_path / "b")
    assert [r["loss"] for r in timed.records()] == [r["loss"] for r in plain.records()]
    assert timed.backbone_file.read_bytes() == plain.backbone_file.read_bytes()


def test_a_short_training_is_not_timed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_plan, "measure_pace", None)
    run = sv.pretrain(config_of(folder, steps=2), out=tmp_path / "run", progress=False)
    assert run.finished


@pytest.mark.parametrize(
    ("workers", "shared", "step_s"),
    [(0, True, 5.0), (1, False, 3.0), (4, False, 2.0), (2, True, 2.75), (1, True, 3.0)],
)
def test_a_step_waits_for_whichever_takes_longer(workers, shared, step_s):
    assert Pace(3.0, 2.0, workers, cores=4, shared=shared).step_s == step_s


def test_the_pace_of_a_training_is_had_without_starting_it(folder, tmp_path):
    from ssl_video.pretraining import untrained
    from ssl_video.train.data import ClipDataset
    from ssl_video.train.lists import choose_lists

    config = config_of(folder)
    pretext = untrained(config)
    before = {name: value.clone() for name, value in pretext.state_dict().items()}
    lists = choose_lists(config.data, pretext, print)
    pace = measure_pace(pretext, ClipDataset(lists.training, pretext, 0), config.training)
    assert pace.step_s == pace.reading_s + pace.computing_s > 0
    assert all((value == before[name]).all() for name, value in pretext.state_dict().items())


def test_where_copies_will_be_read_decoding_does_not_count(folder):
    from ssl_video.pretraining import untrained
    from ssl_video.train import pace
    from ssl_video.train.data import ClipDataset
    from ssl_video.train.lists import choose_lists

    config = config_of(folder)
    pretext = untrained(config)
    dataset = ClipDataset(choose_lists(config.data, pretext, print).training, pretext, 0)
    decoder = pace.Decoder(dataset.read, seconds=1000.0)
    assert pace._batch(replace(dataset, read=decoder), decoder, config.training, pace.Ranks(), decoding=False)[1] == 0.0
    assert decoder.seconds > 1000.0
