"""What long work says: lines off a terminal, nothing unless asked, few lines of many, and no end by a closed pipe."""

import logging
import os

import numpy as np
import pytest

from ssl_video.apps import nearest
from ssl_video.cli import Unheard, main
from ssl_video.eval.svm import svm_scores
from ssl_video.progress import Bar, announce, are, bar, count, duration, few, heard, left_out, note, showing, size
from ssl_video.video.info import Problem
from tests import warm


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def unlogged(monkeypatch):
    """Nobody has set up logging, as in a plain script."""
    monkeypatch.setattr(logging.getLogger("ssl_video"), "hasHandlers", lambda: False)


def test_off_a_terminal_a_long_part_says_a_line_now_and_then(capsys, unlogged):
    clock = Clock()
    with Bar("extract", 100, "video", shown=True, clock=clock) as done:
        for _ in range(100):
            clock.now += 1
            done.update()
    assert said(capsys) == [
        "extract: 30 of 100 videos, 1 videos/s, about 70 s left",
        "extract: 60 of 100 videos, 1 videos/s, about 40 s left",
        "extract: 90 of 100 videos, 1 videos/s, about 10 s left",
        "extract: 100 videos in 2 min",
    ]


def test_another_program_hears_how_far_work_is_that_shows_nothing(capsys, unlogged):
    far: list[tuple[str, int, int | None]] = []
    with heard(lambda work: far.append((work.what, work.done, work.total))):
        assert list(bar("ab", "scan", "file")) == ["a", "b"]
    assert far == [("scan", 0, 2), ("scan", 1, 2), ("scan", 2, 2)]
    assert list(bar("ab", "scan", "file")) == ["a", "b"] and len(far) == 3
    assert said(capsys) == []


def test_of_what_is_done_no_time_is_left(capsys, unlogged):
    clock = Clock()
    train = Bar("train", 100, "step", shown=True, clock=clock)
    clock.now = 10.0
    train.update(100)
    train.tell({"loss": 0.5})
    assert said(capsys) == ["train: 100 of 100 steps, loss 0.5, 10 steps/s"]


def test_what_is_short_says_nothing(capsys, unlogged):
    assert list(bar(range(3), "scan", "file", shown=True)) == [0, 1, 2]
    assert said(capsys) == []


def test_numbers_are_told_with_the_time_left_of_what_was_resumed(capsys, unlogged):
    clock = Clock()
    train = Bar("train", 1000, "step", shown=True, done=500, clock=clock)
    clock.now = 100.0
    train.update(100)
    train.tell({"loss": 0.6931, "clips_per_s": 8.0})
    assert said(capsys)[-1] == "train: 600 of 1000 steps, loss 0.693, clips_per_s 8, 1 steps/s, about 7 min left"


@pytest.mark.parametrize("asked", [True, False])
def test_nothing_is_shown_unless_it_is_asked_for_around_the_work_or_by_it(asked, capsys, unlogged):
    with showing(asked):
        Bar("scan", 5, "file").tell({"bad": 1})
        announce("copies are made")
    assert len(said(capsys)) == 2 * asked
    Bar("scan", 5, "file").tell({"bad": 1})
    assert said(capsys) == []


def test_a_program_that_has_set_up_logging_gets_the_lines(caplog, capsys):
    with caplog.at_level(logging.INFO, "ssl_video"):
        note("train: half is done")
    assert [r.message for r in caplog.records] == ["train: half is done"]
    assert said(capsys) == []


def test_many_files_that_are_left_out_are_five_lines_and_a_count():
    problems = [Problem(f"{n}.mp4", "listed but not there") for n in range(100_000)]
    lines = list(left_out(problems))
    assert len(lines) == 6
    assert lines[0] == "left out: 0.mp4: listed but not there"
    assert lines[-1] == "left out: 99995 more (-v names all)"
    assert list(few(["a", "b"], "removed")) == ["a", "b"]


def test_numbers_are_as_exact_as_they_need_be():
    assert [duration(s) for s in (4.2, 700, 12_000, 200_000)] == ["4 s", "12 min", "3 h 20 min", "2 days 7 h"]
    assert [size(n) for n in (512, 4e6, 41.2e9, 3.5e12)] == ["512 bytes", "4 MB", "41.2 GB", "3500 GB"]


@pytest.fixture
def absent(tmp_path, drawn):
    """A list of one video that is there and fifty that are not."""
    rows = "".join(f"gone{n}.mp4\n" for n in range(50))
    (tmp_path / "list.csv").write_text(f"path\n{drawn}\n{rows}")
    return tmp_path / "list.csv"


@pytest.fixture
def drawn(tmp_path):
    from ssl_video.datasets.drawing.config import SyntheticConfig
    from ssl_video.datasets.synthetic import write_one

    return write_one(tmp_path / "set", SyntheticConfig(train=1, test=0, frames=64), 0)["path"]


def test_a_scan_of_many_absent_files_prints_few_lines_and_all_with_v(absent, tmp_path, capsys):
    command = ["data", "scan", str(absent), "--out", str(tmp_path / "manifest.csv")]
    main(command)
    assert capsys.readouterr().out.count("bad: ") == 6
    main([*command, "-v"])
    assert capsys.readouterr().out.count("bad: ") == 50


def test_quiet_leaves_results_and_errors(absent, tmp_path, capsys):
    assert main(["-q", "data", "scan", str(absent), "--out", str(tmp_path / "manifest.csv")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "1 of 51 files can be used (64 frames); 50 cannot."
    assert err == ""
    assert main(["data", "scan", str(tmp_path / "no"), "--quiet"]) == 2
    assert "There is no file or folder" in capsys.readouterr().err


def test_the_level_of_a_command_is_no_other_programs(tmp_path):
    before = logging.getLogger("ssl_video").level
    main(["list", "readers", "-q"])
    assert logging.getLogger("ssl_video").level == before


def test_what_is_written_to_a_stream_without_a_reader_is_dropped():
    read, write = os.pipe()
    stream = Unheard(os.fdopen(write, "w"))
    stream.write("heard\n")
    stream.flush()
    assert os.read(read, 99) == b"heard\n"
    os.close(read)
    stream.write("unheard\n")
    stream.write("unheard\n")
    stream.close()


def test_a_training_goes_on_when_its_reader_has_gone(tmp_path, drawn):
    options = {
        "--config": "small", "--data": str(tmp_path / "set" / "videos"), "--steps": "3", "--batch-size": "2",
        "--workers": "0", "--out": str(tmp_path / "run"), "--held-out": "0", "--pretext.frames": "8",
        "--cache": "none",
    }  # fmt: skip
    words = [word for option in options.items() for word in option]
    read, write = os.pipe()
    os.close(read)
    with (tmp_path / "said").open("w") as said:
        child = warm.Process(["-m", "ssl_video", "pretrain", *words], write, said.fileno())
    os.close(write)
    assert child.wait() == 0, (tmp_path / "said").read_text()
    assert (tmp_path / "run" / "backbone.safetensors").is_file()


@pytest.mark.parametrize("long", [False, True])
def test_a_fit_that_takes_long_says_what_it_does(long, monkeypatch, caplog):
    monkeypatch.setattr("ssl_video.eval.linear.LONG_FIT", 1 if long else 10**9)
    x_ND = np.random.default_rng(0).normal(size=(20, 3))
    with showing(), caplog.at_level(logging.INFO, "ssl_video"):
        svm_scores(x_ND, np.arange(20) % 2, x_ND, 2, 1.0)
    assert ("fit: linear SVM, on 20 rows of 3 numbers" in caplog.text) == long


def test_the_last_line_of_a_long_part_promises_no_time(capsys, unlogged):
    clock = Clock()
    with Bar("train", 2, "step", shown=True, clock=clock) as done:
        clock.now += 1
        done.update(2)
        done.tell({"loss": 1.0})
    assert said(capsys)[0] == "train: 2 of 2 steps, loss 1, 2 steps/s"


def test_one_is_not_many():
    assert [count(1, "video"), count(2, "class"), count(0, "copy")] == ["1 video", "2 classes", "0 copies"]
    assert [are(1, "video"), are(84, "video")] == ["1 video is", "84 videos are"]


def test_quiet_commands_do_not_say_what_they_have_written(tmp_path, capsys):
    assert main(["-q", "data", "synthesize", "--out", str(tmp_path / "set"), "--train", "1", "--test", "0"]) == 0
    assert capsys.readouterr() == ("", "")
    network = ["export", "--model", "random:r2plus1d_4?width=4", "--out"]
    assert main([*network, str(tmp_path / "e"), "-q"]) == 0
    said = capsys.readouterr().out
    assert "max abs difference" in said and "holds" not in said
    assert main([*network, str(tmp_path / "f")]) == 0
    assert f"{tmp_path / 'f'} holds" in capsys.readouterr().out


def test_an_index_of_many_vectors_says_that_it_is_made(monkeypatch, caplog):
    monkeypatch.setattr(nearest, "LONG_BUILD", 50)
    vectors_RD = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    with showing(), caplog.at_level(logging.INFO, "ssl_video"):
        nearest.make(vectors_RD, "Flat")
    assert "index: Flat of 100 vectors" in caplog.text
