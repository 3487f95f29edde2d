"""Memory that runs out is a sentence that names options which need less."""

import re

import pytest
import torch

# imported before anything is patched: a module that is imported later would keep what stands in its place
import ssl_video.api
import ssl_video.apps.align
import ssl_video.apps.index_update  # noqa: F401
from ssl_video.cli import COMMANDS, doctor_command, main, memory
from tests.test_help import page

ERRORS = {
    "GPU": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), RuntimeError(
        "Caught OutOfMemoryError in replica 0 on device 0."), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")),
    "this machine": (MemoryError(), RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B")),
}  # fmt: skip


def raising(error):
    def run(*_args, **_options):
        raise error

    return run


@pytest.mark.parametrize("where, error", [(where, e) for where, errors in ERRORS.items() for e in errors])
def test_memory_that_runs_out_in_a_training_is_one_sentence_with_three_remedies(where, error, monkeypatch, capsys):
    monkeypatch.setattr("ssl_video.pretraining.pretrain", raising(error))
    assert main(["pretrain", "--data", "videos"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and where in said
    assert all(flag in said for flag in ("--batch-size", "--optim.accumulate", "--precision"))


@pytest.mark.parametrize(
    "words, target",
    [
        ("evaluate linear --data videos", "ssl_video.eval.harness.evaluate_on"),
        ("extract --model m --data videos --out f", "ssl_video.eval.harness.extract_on"),
        ("index --model m --data videos --out i", "ssl_video.apps.search.load_search_model"),
    ],
)
def test_commands_that_read_features_name_their_batch_size(words, target, monkeypatch, capsys):
    monkeypatch.setattr(target, raising(ERRORS["GPU"][0]))
    assert main(words.split()) == 2
    assert "use a smaller --batch-size" in capsys.readouterr().err


def test_a_command_without_such_an_option_names_the_cpu(monkeypatch, capsys):
    monkeypatch.setattr("ssl_video.model.load_model", raising(ERRORS["GPU"][0]))
    assert main(["align", "a.mp4", "b.mp4", "--model", "m"]) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_any_other_error_of_the_runtime_stays_a_traceback(monkeypatch):
    monkeypatch.setattr(doctor_command, "parse", raising(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["doctor"])


@pytest.mark.parametrize("command", memory.REMEDIES)
def test_every_command_has_the_options_that_are_named(command, capsys):
    assert command.split()[0] in COMMANDS
    text = page(capsys, command, "--help-all")
    for flag in re.findall(r"--[a-z.-]+", memory.REMEDIES[command]):
        assert f"  {flag} " in text
