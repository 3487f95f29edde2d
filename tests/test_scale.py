"""Many processes and many starts: what docs/scale.md promises, on CPUs; the commands of a scheduler are played."""

import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest
import torch

from ssl_video.cli import main
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.run import Run
from ssl_video.tensors import load_tensors
from tests import warm
from tests.killed import command

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
ONE_MACHINE, SLURM = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE, re.DOTALL)
SIZES = {"short-side": 18, "crop": 16, "min-size": 16, "max-size": 16, "frames": 4}
TINY = ["--config", "speediness:small", "--backbone.width", "2", *(f"--pretext.{k}={v}" for k, v in SIZES.items())]
TINY += ["--batch-size=4", "--workers=0", "--device=cpu", "--precision=fp32", "--held-out=0", "--no-probe"]
TINY += ["--log-every=1", "--checkpoint-every=2", "--cache=none"]
RANK = """
import os, sys
from ssl_video.train import distributed
os.chdir(os.environ["HERE"])
distributed.SEES_S = 1.0
from ssl_video.cli import main
sys.exit(main())
"""
SRUN = """#!/bin/bash
# As srun: the command once for each task; the worst of their codes.
shift
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
    tasks="$tasks $!"
done
worst=0
for task in $tasks; do
    wait "$task"
    code=$?
    if [ "$code" -gt "$worst" ]; then worst=$code; fi
done
exit "$worst"
"""
SCONTROL = """#!/bin/bash
case $1 in
    show) echo localhost ;;
    requeue) echo "$2" >> "$REQUEUED" ;;
esac
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return synthesize(
        tmp_path_factory.mktemp("drawn"), SyntheticConfig(size=32, frames=24, train=6, test=2), workers=1
    ).parent


@pytest.fixture
def python(tmp_path):
    with warm.interpreter(tmp_path) as program:
        yield program


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def assert_same_weights(one: Run, other: Run) -> None:
    a, b = load_tensors(one.pretext_file)[0], load_tensors(other.pretext_file)[0]
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def signalled(folder: Path, name: str, when: str) -> str:
    """A plug-in by which a process gets a signal after a step."""
    (folder / "signalled.py").write_text(
        "import os, signal\n"
        "from ssl_video.pretexts.speediness import Speediness\n"
        "def after_step(self, progress):\n"
        f"    if {when}:\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "Speediness.after_step = after_step\n"
    )
    return str(folder / "signalled.py")


@pytest.mark.parametrize("there", [False, True])
def test_a_process_that_does_not_see_the_runs_folder_ends_all_of_them_before_they_train(tmp_path, drawn, there):
    found = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}  # started by hand
    for rank in ("0", "1"):  # each on a disk of its own
        (tmp_path / rank).mkdir()
    if there:
        (tmp_path / "1" / "run").mkdir()
    words = ["pretrain", "--data", str(drawn), "--out", "run", "--steps", "2", *TINY]
    envs = [environment(RANK=rank, LOCAL_RANK=rank, HERE=str(tmp_path / rank), **found) for rank in ("0", "1")]
    first, second = warm.run_all(["-c", RANK, *words], envs)
    assert [first.returncode, second.returncode] == [2, 2]
    assert re.fullmatch(r"ssl-video: Process 1 of 2, on .*, does not see what the first one writes .*\n", first.stderr)
    assert second.stderr == "" and not (tmp_path / "0" / "run").exists()
    assert not list(tmp_path.rglob("*.jsonl"))


def test_one_line_three_times_after_kills_is_one_run_to_the_last_bit(tmp_path, drawn):
    words = ["pretrain", "--data", str(drawn), "--steps", "6", *TINY]
    assert main([*words, "--out", str(tmp_path / "whole"), "--resume", "auto"]) == 0
    line = [*words, "--out", str(tmp_path / "run"), "--resume", "auto"]
    for kill_at in (16, 8):
        assert command(line, tmp_path, kill_at).returncode == -9
    begun = Run(tmp_path / "run").last_step()
    assert main(line) == 0
    assert 0 < begun < 6 and [r["step"] for r in Run(tmp_path / "run").records()] == [1, 2, 3, 4, 5, 6]
    assert_same_weights(Run(tmp_path / "whole"), Run(tmp_path / "run"))


def test_the_script_for_slurm_saves_goes_back_into_the_queue_and_ends_the_run(tmp_path, drawn, python):
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin" / "srun", SRUN)
    executable(tmp_path / "bin" / "scontrol", SCONTROL)
    executable(tmp_path / "bin" / "ssl-video", f'#!/bin/bash\nexec {python} -m ssl_video "$@"\n')
    script = executable(tmp_path / "train.slurm", SLURM)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "MASTER_PORT": free_port()}
    slurm |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REQUEUED": str(tmp_path / "requeued")}
    plugin = signalled(
        tmp_path, "SIGTERM", "progress.step == 3 and os.environ['RANK'] == '1' and 'FIRST' in os.environ"
    )
    words = ["--data", str(drawn), "--out", str(tmp_path / "run"), "--steps", "12", *TINY, "--plugin", plugin]
    run = Run(tmp_path / "run")

    def submitted(**more: str) -> "subprocess.CompletedProcess[str]":
        line = ["bash", str(script), *words]
        return subprocess.run(line, env=environment(**slurm, **more), capture_output=True, text=True, timeout=300)

    stopped = submitted(FIRST="1")
    assert (stopped.returncode, run.finished) == (130, False), stopped.stderr[-2000:]
    assert (tmp_path / "requeued").read_text() == "17\n" and 3 <= run.last_step() <= 3 + 5
    assert stopped.stderr.count("Stopped by a signal") == 1
    again = submitted()
    assert again.returncode == 0 and run.finished, again.stderr[-2000:]
    assert [r["step"] for r in run.records()] == list(range(1, 13))
    assert (tmp_path / "requeued").read_text() == "17\n"


def test_the_script_for_one_machine_starts_its_processes_again_when_one_is_lost(tmp_path, drawn, python):
    first = "os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'"
    plugin = signalled(tmp_path, "SIGKILL", f"progress.step == 3 and os.environ['RANK'] == '1' and {first}")
    script = executable(tmp_path / "train.sh", ONE_MACHINE)
    words = ["--data", str(drawn), "--steps", "4", *TINY, "--plugin", plugin]
    line = ["bash", str(script), *words, "--out", str(tmp_path / "run")]
    done = subprocess.run(
        line, env=environment(GPUS="2", PYTHON_EXEC=str(python)), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[:2000]
    assert "is resumed after step 2" in done.stdout
    assert [r["step"] for r in Run(tmp_path / "run").records()] == [1, 2, 3, 4]
