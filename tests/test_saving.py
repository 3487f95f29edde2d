"""Checkpoints that are written while a training goes on, and folders of shards."""

import errno
import threading

import pytest
import torch

from ssl_video.checkpoints import Checkpoints, Piece, save_shard, whole
from ssl_video.errors import UserError
from ssl_video.run import Run
from ssl_video.train import distributed, saving
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import train
from ssl_video.train.saving import Saver
from tests.nets import drawn_frames, video_set
from tests.train_script import config_for, make_pretext


def full(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_changes_while_a_checkpoint_is_written_is_not_in_it(tmp_path, monkeypatch):
    go, weight = threading.Event(), torch.ones(4)
    save = Run.save_checkpoint
    monkeypatch.setattr(Run, "save_checkpoint", lambda run, *what: go.wait(60) and save(run, *what))
    with Saver(Run(tmp_path)) as saver:
        saver.save(1, {"step": 1, "w": weight, "same": weight.view(4)})
        assert not Run(tmp_path).checkpoints()
        weight.zero_()
        go.set()
    state = Run(tmp_path).load_checkpoint()
    assert state["w"].tolist() == [1, 1, 1, 1]
    assert state["w"].data_ptr() == state["same"].data_ptr()  # one tensor under two names is written once


def test_the_next_copy_takes_the_place_of_the_one_before(tmp_path):
    weight = torch.ones(4)
    with Saver(Run(tmp_path)) as saver:
        saver.save(1, {"step": 1, "w": weight})
        first = next(iter(saver.copies.values()))
        weight.mul_(2)
        saver.save(2, {"step": 2, "w": weight})
        assert next(iter(saver.copies.values())) is first
    assert Run(tmp_path).load_checkpoint()["w"].tolist() == [2, 2, 2, 2]


def test_a_full_disk_ends_the_training_with_a_sentence_and_the_last_good_checkpoint_stays(tmp_path, monkeypatch):
    pretext, save = make_pretext(), Run.save_checkpoint

    def save_or_not(run, step, state):
        if step == 6:
            monkeypatch.setattr(torch, "save", full)
        save(run, step, state)

    monkeypatch.setattr(Run, "save_checkpoint", save_or_not)
    dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
    with pytest.raises(UserError, match=r"checkpoint of step 6 could not .*No space left.*step_00000003\.pt"):
        train(pretext, dataset, config_for(0, 8), Run(tmp_path))
    assert [path.name for path in Run(tmp_path).checkpoints()] == ["step_00000003.pt"]


def test_a_training_ends_when_its_last_checkpoint_is_written(tmp_path, monkeypatch):
    names, save, pretext = [], Run.save_checkpoint, make_pretext()

    def save_and_note(run, step, state):
        names.append(threading.current_thread().name)
        save(run, step, state)

    monkeypatch.setattr(Run, "save_checkpoint", save_and_note)
    train(pretext, ClipDataset(video_set(), pretext, 0, drawn_frames), config_for(0, 4), Run(tmp_path))
    assert names == ["checkpoint 3", "checkpoint 4"] and Run(tmp_path).last_step() == 4
    assert not [thread for thread in threading.enumerate() if thread.name in names]


# folders of shards

WEIGHT = torch.arange(15.0).reshape(5, 3)


def write(checkpoints: Checkpoints, step: int, shares: tuple[int, ...] = (3, 2)) -> None:
    """A checkpoint of processes that hold so many rows each."""
    aside = checkpoints.aside(step)
    for number, rows in enumerate(WEIGHT.split(shares)):
        state = {"step": step, "w": {"weight": Piece(rows + step), "count": torch.tensor(7)}, "list": [Piece(rows)]}
        save_shard(aside, number, len(shares), state)
    checkpoints.show(step, aside)


@pytest.mark.parametrize("shares", [(3, 2), (2, 2, 1), (5,), (5, 0)])
def test_shards_of_any_number_of_processes_are_one_state(tmp_path, shares):
    write(Checkpoints(tmp_path), 1, shares)
    path, state = Checkpoints(tmp_path).newest()
    assert path.name == "step_00000001" and state["w"]["weight"].shape == (5, 3)
    assert torch.equal(state["w"]["weight"].rows(2, 2), WEIGHT[2:4] + 1)
    found = whole(state)
    assert torch.equal(found["w"]["weight"], WEIGHT + 1) and torch.equal(found["list"][0], WEIGHT)
    assert (found["step"], found["w"]["count"]) == (1, 7)


def test_the_newest_folders_and_files_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        write(checkpoints, step)
    checkpoints.save(4, {"step": 4})
    assert [path.name for path in checkpoints.there()] == ["step_00000003", "step_00000004.pt"]
    assert {path.name for path in tmp_path.iterdir()} == {"step_00000003", "step_00000004.pt"}
    assert checkpoints.last_step() == 4


def test_a_folder_that_no_process_has_finished_is_none(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 1)
    aside = checkpoints.aside(2)
    save_shard(aside, 0, 2, {"step": 2})
    assert checkpoints.last_step() == 1
    dead = aside.rename(tmp_path / ".step_00000002.4194305-0123abcd.tmp")
    write(checkpoints, 3)
    assert not dead.exists() and [path.name[-1] for path in checkpoints.there()] == ["1", "3"]


@pytest.mark.parametrize("harm", ["lost", "altered", "cut"])
def test_a_folder_with_a_damaged_shard_gives_way_to_the_one_before(tmp_path, harm):
    checkpoints = Checkpoints(tmp_path)
    write(checkpoints, 1)
    write(checkpoints, 2)
    shard = tmp_path / "step_00000002" / "shard_00001.pt"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "lost":
        shard.unlink()
    else:
        shard.write_bytes(content if harm == "altered" else content[:100])
    with pytest.warns(UserWarning, match="step_00000002 is passed over"):
        path, state = checkpoints.newest()
    assert path.name == "step_00000001" and state["step"] == 1


def test_a_shard_that_cannot_be_written_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    run = Run(tmp_path)
    write(run.saved, 1)
    monkeypatch.setattr(saving, "any_sharded", lambda _state: True)
    monkeypatch.setattr(torch, "save", full)
    said = r"step 2 could not be written \(.*No space.*; the last good one is step_00000001"
    with pytest.raises(UserError, match=said), Saver(run) as saver:
        saver.save(2, {"step": 2, "w": WEIGHT})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]


def test_a_part_of_a_process_that_is_lost_is_not_waited_for_once_the_training_has_failed(monkeypatch):
    class Silent:
        def set(self, *_what): ...

        def check(self, _keys):
            return False

    monkeypatch.setattr(distributed, "_store", Silent)
    monkeypatch.setattr(distributed, "LATE_S", 0.0)
    looks: list[None] = []
    with pytest.raises(UserError, match="has not written its part of the checkpoint"):
        Ranks(0, 2).tell_first("step_1", "", lambda: looks.append(None) or len(looks) > 3)
    assert len(looks) > 3  # it waits as long as the training goes on
