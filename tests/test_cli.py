import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_video.__main__ import wait_briefly
from ssl_video.cli import main
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, save_tensors
from tests import videos, warm

SMALL = [
    "--pretext.frames=8", "--pretext.stride=1", "--pretext.short-side=32", "--pretext.crop=32", "--pretext.min-size=24",
    "--pretext.max-size=32", "--backbone.width=4", "--steps=4", "--batch-size=4", "--workers=0", "--log-every=2",
    "--monitor-every=4", "--checkpoint-every=2", "--cache=none", "--no-probe",
]  # fmt: skip


def script(*words, cwd, env=None):
    """The console script, as a user runs it."""
    command = [str(Path(sys.executable).with_name("ssl-video")), *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, timeout=300)


def said(capsys, *words) -> str:
    """What a user's mistake prints: one sentence, code 2, no traceback."""
    assert main([str(w) for w in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ssl-video: ") and error.count("\n") == 1 and "Traceback" not in error
    return error


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    synthesize(folder, SyntheticConfig(train=16, test=8, size=40, frames=32))
    return folder


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["pretrain", "--data", str(drawn), "--out", str(out), *SMALL]) == 0
    return out


def test_help_imports_no_torch_and_every_command_has_its_own(tmp_path, capsys):
    code = "import sys; from ssl_video.cli import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "--held-out" in script("pretrain", "--help-all", cwd=tmp_path).stdout
    with pytest.raises(SystemExit):
        main(["pretrain", "--pretext", "clip_order", "--help"])
    assert "--pretext.gap" in capsys.readouterr().out


def test_a_run_leaves_everything_behind(finished):
    names = {p.name for p in finished.iterdir()}
    assert names >= {"config.yaml", "metrics.jsonl", "checkpoints", "backbone.safetensors", "pretext.safetensors"}
    assert names >= {"report.md", "report.png"}
    last = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 4
    assert {"loss", "accuracy", "feature_std", "effective_rank", "clips_per_s", "waiting"} <= set(last)
    assert {"held_out_loss", "held_out_accuracy", "probe_top1"} <= set(last)


def test_its_configuration_repeats_the_run_bit_for_bit(finished, tmp_path):
    assert main(["pretrain", "--config", str(finished / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    for name in ("backbone.safetensors", "pretext.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("protocol", ["linear", "knn", "retrieval", "pretext"])
def test_every_protocol_evaluates_a_run(finished, drawn, tmp_path, protocol, capsys):
    out = tmp_path / "r.json"
    words = ["evaluate", protocol, "--model", str(finished), "--data", str(drawn), "--out", str(out), "--workers", "0"]
    assert main(words) == 0
    (result,) = json.loads(out.read_text())
    assert result["protocol"] == protocol and result["metrics"]
    assert result["counts"] and result["data_hash"] and result["versions"]["torch"]
    assert not result["transductive"]


def test_a_run_may_start_from_the_weights_of_another_and_goes_on_without_them(finished, drawn, tmp_path, capsys):
    weights = Path(shutil.copy(finished / "backbone.safetensors", tmp_path / "weights.safetensors"))
    words = ["pretrain", "--data", drawn, "--out", tmp_path / "run", *SMALL, "--backbone.weights", weights]
    assert main([str(w) for w in words]) == 0
    assert f"tensors from {weights}\n" in capsys.readouterr().out
    weights.unlink()
    assert main(["pretrain", "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_an_evaluation_says_from_which_weights_its_network_starts(finished, drawn, capsys):
    weights = finished / "backbone.safetensors"
    model = f"net:r2plus1d_4?width=4&weights={weights}"
    assert main(["evaluate", "knn", "--model", model, "--data", str(drawn), "--workers", "0"]) == 0
    assert f"tensors from {weights}\n" in capsys.readouterr().out


def test_random_networks_are_models(finished, drawn):
    for model in ("random:r2plus1d_4?width=4", f"random:{finished}"):
        assert main(["evaluate", "knn", "--model", model, "--data", str(drawn), "--workers", "0"]) == 0


def test_index_and_query_find_the_same_video_in_another_file(finished, drawn, tmp_path, capsys):
    assert main(["index", "--model", str(finished), "--data", str(drawn), "--out", str(tmp_path / "i")]) == 0
    source = next((drawn / "videos").rglob("*.mp4"))
    copy = str(shutil.copy(source, tmp_path / "copy.mp4"))
    capsys.readouterr()
    assert main(["query", str(tmp_path / "i"), copy, "--top-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[1].endswith(f"{source}  (identical)")
    (vectors,) = (tmp_path / "i").glob("segment-*/vectors.npy")
    vectors.write_bytes(vectors.read_bytes()[:-4] + b"evil")
    assert "changed since the index was made" in said(capsys, "query", tmp_path / "i", copy)


def test_scan_writes_a_manifest_to_train_from(drawn, tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    videos.mp4(folder / "good.mp4")
    (folder / "bad.mp4").write_text("no video")
    words = ["data", "scan", str(folder), "--out", str(tmp_path / "m.csv")]
    assert main(words) == 0
    assert "1 of 2 files can be used" in capsys.readouterr().out
    assert main([*words, "--strict"]) == 2
    out = tmp_path / "run"
    assert main(["pretrain", "--data", str(tmp_path / "m.csv"), "--out", str(out), *SMALL]) == 0


def test_a_run_on_copies_knows_which_videos_it_was_trained_on(drawn, tmp_path):
    run, out = tmp_path / "run", tmp_path / "r.json"
    words = ["pretrain", "--data", drawn, "--out", run, *SMALL, "--cache", "raw", "--cache-short-side", "32"]
    assert main([str(w) for w in words]) == 0
    same = tmp_path / "same"  # the training videos, as a set of their own with a test list
    shutil.copytree(drawn / "videos", same / "train")
    shutil.copytree(drawn / "videos", same / "test")
    assert main(["evaluate", "knn", "--model", str(run), "--data", str(same), "--workers", "0", "--out", str(out)]) == 0
    assert json.loads(out.read_text())[0]["transductive"]


def test_training_from_copies(drawn, tmp_path):
    assert main(["data", "cache", "--data", str(drawn), "--out", str(tmp_path / "c"), "--short-side", "32"]) == 0
    out = tmp_path / "run"
    assert main(["pretrain", "--data", str(tmp_path / "c" / "manifest.csv"), "--out", str(out), *SMALL]) == 0


def test_the_odd_files_together_are_scanned_pretrained_on_and_indexed(shared_data, finished, tmp_path, capsys):
    odd = str(shared_data / "odd")
    assert main(["data", "scan", odd, "--out", str(tmp_path / "m.csv")]) == 0
    assert "cannot" in capsys.readouterr().out
    assert main(["pretrain", "--data", odd, "--out", str(tmp_path / "run"), *SMALL]) == 0
    assert "are left out" in capsys.readouterr().out
    words = ["index", "--model", str(finished), "--data", odd, "--out", str(tmp_path / "i"), "--clips", "1"]
    assert main(words) == 0
    assert "were left out" in capsys.readouterr().out


def test_a_folder_without_usable_videos_is_refused(tmp_path, capsys):
    assert "no video" in said(capsys, "pretrain", "--data", tmp_path).lower()
    (tmp_path / "bad.mp4").write_text("no video")
    assert "can be used" in said(capsys, "pretrain", "--data", tmp_path)
    assert main(["data", "scan", str(tmp_path), "--out", str(tmp_path / "m.csv")]) == 2


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["pretrian"], "did you mean 'pretrain'"),
        (["pretrain", "--stps", "3"], "did you mean '--steps'"),
        (["pretrain", "--steps", "many"], "steps"),
        (["pretrain", "--pretext", "speedines"], "did you mean 'speediness'"),
        (["pretrain", "--backbone", "r2plus1d_5"], "'r2plus1d_4'"),
        (["pretrain", "--pretext.frame", "3"], "did you mean '--pretext.frames'"),
        (["pretrain", "--config", "defualt"], "did you mean 'default'"),
        (["pretrain", "--data", "nowhere"], "no file or folder 'nowhere'"),
        (["pretrain", "--data", "ucf102:x"], "did you mean 'ucf101'"),
        (["pretrain", "--data", "x", "--device", "cuda:9"], "GPU"),
        (["pretrain", "--resume"], "--out"),
        (["pretrain", "--monitor-every", "0"], "--monitor-every must be a whole number of 1 or more, not 0"),
        (["evaluate", "liner", "--model", "x", "--data", "y"], "did you mean 'linear'"),
        (["evaluate", "linear", "--data", "y"], "model"),
        (["index", "videos", "--model", "x", "--out", "y"], "name the option that it is for"),
        (["query", "nothing", "here.mp4"], "no video file"),
        (["data", "scam", "x"], "did you mean 'scan'"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(capsys, words, answer):
    assert answer in said(capsys, *words)


def test_what_goes_wrong_in_a_worker_is_one_sentence_too(tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    for n in range(6):
        videos.mp4(folder / f"{n}.mp4")
    assert main(["data", "scan", str(folder), "--out", str(tmp_path / "m.csv")]) == 0
    for file in folder.iterdir():  # by something of the same size and time, which nobody notices before it is read
        stat = file.stat()
        file.write_bytes(bytes(stat.st_size))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    words = ["pretrain", "--data", tmp_path / "m.csv", "--out", tmp_path / "run", *SMALL]
    capsys.readouterr()
    assert "draws in a row" in said(capsys, *words, "--workers", "1", "--held-out", "0")


def test_a_full_disk_ends_the_run_with_its_last_checkpoint(drawn, tmp_path, capsys):
    """A limit on the size of files stands for the disk: the checkpoint does not fit, the small files do."""
    out = tmp_path / "run"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limit[1]))
    try:
        assert "could not be written" in said(capsys, "pretrain", "-q", "--data", drawn, "--out", out, *SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list((out / "checkpoints").iterdir())
    assert main(["pretrain", "--out", str(out), "--resume"]) == 0


def test_a_folder_that_may_not_be_written_is_one_sentence(finished, drawn, tmp_path, capsys, monkeypatch):
    def refuse(path, *_words, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    words = ["index", "--model", finished, "--data", drawn, "--out", tmp_path / "i"]
    assert "Permission denied" in said(capsys, *words)


def test_tensorboard_gets_the_numbers_of_metrics_jsonl(drawn, tmp_path):
    assert main(["pretrain", "--data", str(drawn), "--out", str(tmp_path / "run"), *SMALL, "--tensorboard"]) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([r["loss"] for r in records])


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(finished, drawn, tmp_path, capsys):
    words = ["evaluate", "knn", "--model", finished, "--data", drawn, "--workers", "0", "--out"]
    assert "is a folder; --out must name a file" in said(capsys, *words, tmp_path)
    (tmp_path / "file").write_text("")
    assert "is a file, so that nothing can be written in it" in said(capsys, *words, tmp_path / "file" / "r.json")


def test_an_output_folder_in_use_is_refused(finished, drawn, capsys):
    assert "--resume" in said(capsys, "pretrain", "--data", drawn, "--out", finished)


def test_a_resumed_run_keeps_its_configuration(finished, capsys):
    assert "--seed" in said(capsys, "pretrain", "--out", finished, "--resume", "--seed", "5")


def test_weights_of_another_architecture_or_damaged_ones_are_refused(finished, drawn, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    weights = copy / "backbone.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-50])
    words = ["evaluate", "knn", "--model", copy, "--data", drawn]
    assert "not a whole safetensors file" in said(capsys, *words)
    weights.write_bytes(whole.replace(b'\\"width\\": 4', b'\\"width\\": 8'))
    assert "was altered since it was written" in said(capsys, *words)
    tensors, header = load_tensors(finished / "backbone.safetensors")
    save_tensors(weights, tensors, {**header, "options": header["options"] | {"width": 8}})
    assert "does not fit this architecture" in said(capsys, *words)


def test_the_main_job_runs_where_opencv_cannot_be_imported(drawn, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    code = "import sys; assert 'cv2' not in sys.modules; from ssl_video.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*words):
        return warm.run(["-c", code, *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(blocked)})

    done = run("pretrain", "--data", drawn, "--out", tmp_path / "run", *SMALL, "--probe")
    assert done.returncode == 0, done.stderr
    assert "retrieval recall@1" in done.stdout
    assert "libgl1" in run("doctor").stdout


@pytest.mark.parametrize(
    "what", ["pretexts", "backbones", "encoders", "datasets", "protocols", "recipes", "tables", "weights"]
)
def test_lists_have_a_line_for_each_thing(what, capsys):
    assert main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_two_processes_make_one_run_on_the_videos_that_the_first_has_chosen(finished, drawn, tmp_path):
    words = ["-m", "ssl_video", "pretrain", "--data", drawn, "--out", tmp_path / "run", *SMALL, "--precision", "fp32"]
    said = warm.run_together(words)
    assert said.count("Next: ") == 1 and said.count("into ") == 1
    run = Run(tmp_path / "run")
    assert run.finished and [r["step"] for r in run.records()] == [2, 4]
    assert run.lists() == Run(finished).lists()


@pytest.mark.parametrize(
    "said, found",
    [
        ({}, {"GOMP_SPINCOUNT": "10000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_threads_that_wait_leave_their_cores_to_readers_unless_something_else_is_said(said, found):
    wait_briefly(said)
    assert said == found
