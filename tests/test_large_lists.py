"""A training on a large list: the same numbers as on a small one, in memory that does not grow with it."""

import os
import pickle
import shutil
import time
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ssl_video.datasets import large, many, noted
from ssl_video.datasets.base import VideoRows, VideoSet
from ssl_video.datasets.held_out import held_out
from ssl_video.datasets.large import load_list
from ssl_video.datasets.manifest import write_manifest
from ssl_video.datasets.many import in_fixed_order
from ssl_video.datasets.prepare import scan_to_manifest
from ssl_video.datasets.table import load_table
from ssl_video.errors import UserError
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretraining import pretrain, untrained
from ssl_video.run import Lists, Run
from ssl_video.tensors import load_tensors
from ssl_video.train import order
from ssl_video.train.config import DataConfig, TrainingConfig
from ssl_video.train.data import BatchKeys, ClipDataset, batches
from ssl_video.train.distributed import Ranks
from ssl_video.train.order import Computed, order_of
from tests import videos as drawn
from tests.nets import drawn_frames, video_set

OPTIONS = {"frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16}
BACKBONE = Choice("r2plus1d_4", {"width": 2, "strides_t": (1, 1, 2, 1)})
FAST = TrainingConfig(steps=3, batch_size=4, workers=0, device="cpu", log_every=1, monitor_every=2, checkpoint_every=1)


@pytest.fixture
def small_is_large(monkeypatch):
    for module in (large, many, noted):
        monkeypatch.setattr(module, "COLUMNS_FROM", 2)


# ---- order


def epoch_of(seed: int, epoch: int, count: int) -> np.ndarray:
    return Computed(seed, epoch, count)[np.arange(count)]


def slowly_ordered(count: int, clips: int, seed: int, places: range) -> list[tuple[int, int, int]]:
    """As it was written before lists were in columns: place by place."""
    keys = []
    for place in places:
        epoch, within = divmod(place, count * clips)
        shuffled = np.random.default_rng([seed, epoch]).permutation(np.arange(count * clips))
        keys.append((epoch, *divmod(int(shuffled[within]), clips)))
    return keys


@pytest.mark.parametrize("count, clips", [(1, 1), (7, 1), (5, 3), (40, 2)])
def test_the_order_is_that_of_earlier_versions(count, clips):
    keys = iter(BatchKeys(count, clips, 4, seed=3))
    found = [key for batch in islice(keys, 12) for key in batch]
    assert found == slowly_ordered(count, clips, 3, range(48))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97, 1000, 4097])
def test_a_computed_order_is_a_permutation(count):
    assert sorted(epoch_of(0, 0, count).tolist()) == list(range(count))


def test_a_computed_order_depends_on_seed_and_epoch_alone():
    first = epoch_of(1, 2, 5000)
    assert np.array_equal(first, epoch_of(1, 2, 5000))
    for seed, epoch in ((2, 2), (1, 3), (2, 1)):
        assert (first == epoch_of(seed, epoch, 5000)).sum() < 10  # of a random one, 1 on average


def test_a_computed_order_looks_random():
    """Of a random permutation: neighbours are as far apart as any two, and every stretch covers the whole list."""
    count = 20_000
    found = epoch_of(0, 0, count) / count
    assert abs(np.abs(np.diff(found)).mean() - 1 / 3) < 0.01
    assert (
        abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.03 and abs(np.corrcoef(found, np.arange(count))[0, 1]) < 0.03
    )
    in_tenths = np.stack([np.histogram(part, 10, (0, 1))[0] for part in np.split(found, 20)])
    assert (
        ((in_tenths - 100) ** 2 / 100).sum(1) < 40
    ).all()  # chi square of 9 degrees of freedom: 1 in 10 million above


def test_orders_are_computed_only_where_they_are_larger_than_any_list_of_before():
    assert isinstance(order_of(0, 0, 1000), np.ndarray) and order.SHUFFLED_AT_MOST == 2**24
    assert isinstance(order_of(0, 0, 2**24 + 1), Computed)


def test_a_computed_order_shows_every_clip_once_an_epoch_and_resumes_where_it_was(monkeypatch):
    monkeypatch.setattr(order, "SHUFFLED_AT_MOST", 10)
    whole = list(islice(BatchKeys(11, 2, 4, seed=5), 22))
    keys = [key for batch in whole for key in batch]
    for epoch in range(4):
        assert sorted(keys[22 * epoch : 22 * epoch + 22]) == [(epoch, v, c) for v in range(11) for c in range(2)]
    assert list(islice(BatchKeys(11, 2, 4, seed=5, start=9), 13)) == whole[9:]
    parts = [iter(BatchKeys(11, 2, 2, seed=5, ranks=Ranks(rank, 2))) for rank in range(2)]
    assert [a + b for a, b in islice(zip(*parts, strict=True), 22)] == whole


# ---- what it costs


def long_list(folder: Path, rows: int) -> Path:
    """A manifest of videos that were scanned, and are not there."""
    few = [asdict(v.info) for v in video_set(4).videos]

    def row(n: int) -> dict:
        return {"path": f"some folder/{n}.mp4", "label": f"c{n % 4}", **few[n % 4], "content": f"{n:016x}"}

    write_manifest(folder / f"{rows}.csv", map(row, range(rows)))
    return folder / f"{rows}.csv"


def private_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def test_becoming_columns_takes_less_than_half_of_what_a_tuple_takes(tmp_path):
    path = long_list(tmp_path, 10_000)
    since = time.process_time()
    tuple_ = load_table(path).train
    of_a_tuple = time.process_time() - since
    columns = load_list(path).train
    assert time.process_time() - since - of_a_tuple < of_a_tuple / 2
    assert len(columns.videos) == len(tuple_.problems) == 10_000


def test_opening_and_dividing_a_list_takes_memory_for_its_places_only(tmp_path):
    path = long_list(tmp_path, 40_000)
    load_list(path)
    before = private_mb(os.getpid())
    train = load_list(path).train
    stays, out = held_out(VideoSet(train.name, train.videos), 0.2, 0)
    chosen = in_fixed_order(stays.videos)[:10]
    assert (len(stays.videos), len(out.videos), len(chosen)) == (32_000, 8_000, 10)
    assert private_mb(os.getpid()) - before < 12  # as objects they take 50


def test_a_worker_takes_as_much_memory_whatever_the_length_of_the_list(tmp_path):
    pretext = untrained(PretrainConfig(Choice("speediness", OPTIONS), BACKBONE))
    of_workers = []
    for rows in (20_000, 60_000):
        videos = load_list(long_list(tmp_path, rows)).train.videos
        assert isinstance(videos, VideoRows)
        dataset = ClipDataset(VideoSet("long", videos), pretext, 0, drawn_frames)
        keys = [[(0, int(n), 0)] for n in np.random.default_rng(0).integers(0, rows, 300)]
        loader = iter(batches(dataset, keys, workers=1))
        for _ in range(290):
            next(loader)
        of_workers.append(private_mb(loader._workers[0].pid))
    assert abs(of_workers[1] - of_workers[0]) < 5


def test_a_large_set_goes_to_a_worker_as_the_name_of_a_folder(tmp_path):
    videos = load_list(long_list(tmp_path, 20_000)).train.videos
    dataset = ClipDataset(VideoSet("long", videos), None, 0)
    assert len(pickle.dumps(dataset)) < 2000 and pickle.loads(pickle.dumps(dataset)).videos.videos[7] == videos[7]


# ---- runs


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A manifest of twelve videos that were scanned."""
    folder = tmp_path_factory.mktemp("made") / "videos"
    for n in range(12):
        (folder / f"c{n % 2}").mkdir(parents=True, exist_ok=True)
        drawn.mp4(folder / f"c{n % 2}" / f"{n}.mp4", count=30 + n)
    scan_to_manifest(str(folder), folder / "manifest.csv", workers=1)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "videos"))


def config(data: Path, **training) -> PretrainConfig:
    spec = DataConfig(str(data), held_out=0.25)
    return PretrainConfig(Choice("speediness", OPTIONS), BACKBONE, spec, replace(FAST, **training))


def test_a_training_in_columns_is_that_of_a_tuple_bit_for_bit(folder, tmp_path, monkeypatch):
    small = pretrain(config(folder), tmp_path / "small")
    for module in (large, many, noted):
        monkeypatch.setattr(module, "COLUMNS_FROM", 2)
    columns = pretrain(config(folder, workers=1), tmp_path / "large")
    assert [r["loss"] for r in columns.records()] == [r["loss"] for r in small.records()]
    assert columns.records()[1]["held_out_loss"] == small.records()[1]["held_out_loss"]
    (before, header), (after, other) = (load_tensors(run.pretext_file) for run in (small, columns))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert (header["data"]["hash"], header["videos"]) == (other["data"]["hash"], other["videos"])
    one, two = small.lists(), columns.lists()
    assert one is not None and two is not None and isinstance(two.training.videos, VideoRows)
    assert two.training == one.training and two.held_out == one.held_out


def test_a_large_training_resumes_on_the_rows_that_it_noted_bit_for_bit(folder, tmp_path, small_is_large, monkeypatch):
    whole = pretrain(config(folder), tmp_path / "whole")
    save = Run.save_checkpoint

    def killed_after(run, step, state):
        save(run, step, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Run, "save_checkpoint", killed_after)
        pretrain(config(folder), tmp_path / "cut")
    (folder / "manifest.csv").unlink()
    cut = pretrain(config(folder), tmp_path / "cut", resume=True)
    before, after = (load_tensors(run.pretext_file)[0] for run in (whole, cut))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_videos_that_are_gone_or_others_now_are_replaced_when_they_are_read(folder, tmp_path, small_is_large):
    run, made = Run(tmp_path / "run"), config(folder, steps=4, batch_size=8)
    made = replace(made, data=replace(made.data, held_out=0.0))
    (folder / "c0" / "4.mp4").unlink()
    drawn.mp4(folder / "c1" / "3.mp4", count=90)
    os.utime(folder / "c1" / "5.mp4", ns=(1, 1))  # of another time, but the same bytes
    pretrain(made, run.folder)
    reason = "it is not there, or has changed since it was scanned"
    assert run.replaced() == {str(folder / "c0" / "4.mp4"): reason, str(folder / "c1" / "3.mp4"): reason}


def test_large_lists_of_a_run_are_columns_and_small_ones_lines(tmp_path, monkeypatch):
    for module in (many, noted):
        monkeypatch.setattr(module, "COLUMNS_FROM", 4)
    videos = video_set(7)
    lists = Lists(replace(videos, videos=videos.videos[:4]), replace(videos, name="kept", videos=videos.videos[4:]))
    run = Run(tmp_path)
    run.write_lists(lists)
    found = run.lists()
    assert found == lists and found is not None
    assert isinstance(found.training.videos, VideoRows) and found.held_out.videos == videos.videos[4:]


def test_what_a_killed_start_left_of_large_lists_is_written_anew(tmp_path, small_is_large):
    run = Run(tmp_path)
    left = tmp_path / "lists" / "held_out"
    left.mkdir(parents=True)
    (left / "path.npy").write_text("half")
    assert run.lists() is None
    run.write_lists(Lists(video_set(4), replace(video_set(3), name="kept")))
    found = run.lists()
    assert found is not None and len(found.held_out.videos) == 3


def test_large_lists_of_a_run_that_are_damaged_are_a_sentence(tmp_path, small_is_large):
    run = Run(tmp_path)
    run.write_lists(Lists(video_set(4), VideoSet("kept", ())))
    file = next((tmp_path / "lists").glob("training*/frames.npy"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UserError, match="lists are damaged; start a new run with another --out"):
        run.lists()
