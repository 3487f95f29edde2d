"""Two machines on one: a training over two Linux network namespaces, joined by a virtual cable.

    python benchmarks/machines.py WORK

Each of the two processes of a training has a network stack of its own, as on two machines, and they meet at an address
(10.7.0.1) instead of localhost. Checked, with a line each, on drawn videos and CPUs:

* two machines end with the weights of two processes on one, to the last bit;
* the second one's process is killed in the middle, or its cable is pulled as well: the first one ends with an
  error, at once, or after the time that it waits for others (30 minutes; 20 seconds here); the same line, with
  ``--resume auto`` and on both machines again, ends with the same weights;
* a second machine that has another disk in the place of the run's folder: both end with exit code 2 and one sentence
  before anything is trained.

Ends with 1 if one of them does not hold. It needs Linux, ``ip`` and the right to make namespaces (root, or user
namespaces), and takes about two minutes.
"""

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch

from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.run import Run
from ssl_video.tensors import load_tensors

ROOT = Path(__file__).resolve().parents[1]
ADDRESSES = "10.7.0.1", "10.7.0.2"
PORT = "29511"
STEPS = 40
PATIENCE_S = 200
TRAINING = [
    "pretrain", "--config", "speediness:small", "--backbone.width", "2", "--pretext.short-side", "18", "--pretext.crop",
    "16", "--pretext.min-size", "16", "--pretext.max-size", "16", "--pretext.frames", "4", "--batch-size", "4",
    "--workers", "0", "--device", "cpu", "--precision", "fp32", "--held-out", "0", "--no-probe", "--log-every", "1",
    "--checkpoint-every", "2", "--cache", "none", "--steps", str(STEPS), "--resume", "auto",
]  # fmt: skip
PROCESS = """
import sys
from datetime import timedelta
from ssl_video.train import distributed
distributed.TIME_OUT = timedelta(seconds=20)
from ssl_video.cli import main
sys.exit(main())
"""
"""The command, which waits for others less long than usually."""
CABLE = "echo there; read _; ip link set lo up; ip addr add {}/24 dev cable; ip link set cable up; "
"""What a machine does with its end of the cable."""


class Machine:
    """A process in namespaces of its own; it waits for ``start`` before it runs its command."""

    def __init__(self, rank: int, words: Sequence[str], log: Path, before: str):
        given = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": ADDRESSES[0]}
        given |= {"MASTER_PORT": PORT, "GLOO_SOCKET_IFNAME": "cable", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        script = CABLE.format(ADDRESSES[rank]) + before + '"$@" >&2 & echo $!; wait $!; echo $?; read _'
        command = ["unshare", "--net", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", PROCESS, *words]
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                command, env=os.environ | given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, bufsize=0
            )
        if self._said() != "there":
            sys.exit(f"A namespace cannot be made here: {log.read_text().strip()}")

    def _said(self) -> str:
        stream = self.process.stdout
        assert stream is not None
        if not select.select([stream], [], [], PATIENCE_S)[0]:
            sys.exit(f"Nothing was heard of {self.process.args} for {PATIENCE_S} seconds.")
        return stream.readline().decode().strip()

    def _go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def start(self) -> None:
        """Run the command."""
        self._go_on()
        self.command = int(self._said())

    def lose(self, cable: bool) -> None:
        """Kill the command; with its ``cable`` pulled, so that nobody is told."""
        if cable:
            down = ["nsenter", "-t", str(self.process.pid), "-n", "ip", "link", "set", "cable", "down"]
            subprocess.run(down, check=True)
        os.kill(self.command, signal.SIGKILL)

    def code(self) -> int:
        """Of the command, when it has ended; the machine is there until ``off``."""
        return int(self._said())

    def off(self) -> None:
        """Switch it off."""
        self._go_on()
        self.process.wait()


def on_two_machines(run: Run, data: Path, work: Path, lose: str = "", before: str = "") -> list[int]:
    """Exit codes of a training on both; ``lose`` the second one's process, or all of it, in the middle."""
    words = [*TRAINING, "--data", str(data), "--out", str(run.folder)]
    machines = [Machine(rank, words, work / f"machine{rank}.log", before if rank else "") for rank in (0, 1)]
    one, two = (str(machine.process.pid) for machine in machines)
    cable = ["ip", "link", "add", "name", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", two]
    subprocess.run(cable, check=True)
    for machine in machines:
        machine.start()
    if lose:
        while run.last_step() < STEPS // 4 and machines[1].process.poll() is None:
            time.sleep(0.05)
        machines[1].lose(cable=lose == "machine")
    codes = [machine.code() for machine in machines]
    for machine in machines:
        machine.off()
    return codes


def on_one_machine(run: Run, data: Path) -> None:
    """The same by two processes without namespaces."""
    words = [*TRAINING, "--data", str(data), "--out", str(run.folder)]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", PORT, "-m", "ssl_video", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launch], env=environment, check=True, capture_output=True)


def same(one: Run, other: Run) -> bool:
    """Whether both ended with the same weights, to the last bit."""
    a, b = load_tensors(one.pretext_file)[0], load_tensors(other.pretext_file)[0]
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def found(work: Path) -> Iterator[tuple[str, bool]]:
    """What is checked, and whether it holds."""
    data = synthesize(work / "drawn", SyntheticConfig(size=32, frames=24, train=16, test=2)).parent
    whole, two, lost, gone = (Run(work / name) for name in ("one_machine", "two_machines", "lost", "gone"))
    on_one_machine(whole, data)
    yield (
        "two machines end as two processes on one, to the last bit",
        (on_two_machines(two, data, work) == [0, 0] and same(whole, two)),
    )
    for run, what in ((lost, "process"), (gone, "machine")):
        codes = on_two_machines(run, data, work, lose=what)
        said = (work / "machine0.log").read_text()
        ends = codes[0] == 2 and "run the same line" in said and 0 < run.last_step() < STEPS
        yield f"the first one ends with a sentence when the second {what} is lost", ends
        again = on_two_machines(run, data, work)
        yield "the same line goes on with it, and ends the same", again == [0, 0] and same(whole, run)
    disk = work / "disk"
    disk.mkdir()
    codes = on_two_machines(Run(disk / "run"), data, work, before=f"mount -t tmpfs none '{disk}'; ")
    said = (work / "machine0.log").read_text()
    yield (
        "a disk of its own is refused, before anything is trained",
        (codes == [2, 2] and "does not see what the first one writes" in said and not any(disk.iterdir())),
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="a folder that is not there yet")
    given = parser.parse_args()
    if os.geteuid():
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", sys.executable, *sys.argv])
    work = given.work.resolve()
    work.mkdir(parents=True)
    wrong = 0
    for what, holds in found(work):
        print(f"{'holds' if holds else 'DOES NOT HOLD'}: {what}", flush=True)
        wrong += not holds
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
