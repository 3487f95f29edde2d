"""Does what is read back survive damage? Small things are drawn, damaged, and read by the library in a child process.

    python benchmarks/fuzz.py [files|headers|indices|checkpoints|databases|all] --count N --seed S [--keep FOLDER]

Prints how many were read as they are, how many were refused in one sentence, and a line for each failure: a traceback,
a crash, a time-out, or something read that is not what was written. Files of failures are kept in FOLDER. Ends with 1
if there are any. A child has 4 GB of memory (of addresses 12 GB) and 60 s for each.
"""

import argparse
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
LIMIT = 12 << 30
"""Bytes of addresses: torch alone takes several GB of them."""
TIME_LIMIT_S = 60
A_CHILD = 500
"""Cases that a child reads before another takes its place."""
FAILURES = ("traceback", "wrong", "crash", "time-out")


class Child:
    """A process that reads one case after the other."""

    def __init__(self, kind: str, whole: Path):
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, __file__, kind, "--child", str(whole)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.left = A_CHILD

    def ask(self, name: str, case: Path) -> tuple[str, str]:
        """What comes of a case; the process has ended then if it crashed, or took too long."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.left -= 1
        try:
            print(json.dumps([name, str(case)]), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return self._end("crash")
        if not select.select([self.process.stdout], [], [], TIME_LIMIT_S)[0]:
            return self._end("time-out")
        answer = self.process.stdout.readline()
        return tuple(json.loads(answer)) if answer else self._end("crash")

    def _end(self, what: str) -> tuple[str, str]:
        self.left = 0
        self.end()
        self.errors.seek(0)
        return what, f"code {self.process.returncode}: {self.errors.read()[-300:]}"

    def end(self) -> None:
        """The end."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.left <= 0:
            self.process.kill()
        self.process.wait()


def child(kind: str, whole: Path) -> None:
    """Read cases as they are named."""
    from tests.fuzzed import outcome

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    for line in sys.stdin:
        name, case = json.loads(line)
        print(json.dumps(outcome(kind, name, Path(case), whole)), file=answers, flush=True)


def fuzz(kind: str, numbers: range, seed: int, keep: Path) -> Counter[str]:
    """How often each outcome came."""
    from tests.fuzzed import KINDS, make_case

    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        whole, case = Path(place) / "whole", Path(place) / "case"
        whole.mkdir()
        names = KINDS[kind].draw(whole)
        reader = Child(kind, whole)
        for number in numbers:
            name = make_case(kind, number, seed, names, whole, case)
            if reader.left <= 0:
                reader.end()
                reader = Child(kind, whole)
            what, said = reader.ask(name, case)
            counts[what] += 1
            if what in FAILURES:
                kept = keep / f"{kind}-{seed}-{number}"
                shutil.copytree(case, kept, dirs_exist_ok=True)
                (kept / "SAID.txt").write_text(said)
                last = said.strip().splitlines()[-1] if said.strip() else ""
                print(f"{kind} {number}: {what}: {name}: {last} ({kept})", flush=True)
        reader.left = 0
        reader.end()
    return counts


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["files", "headers", "indices", "checkpoints", "databases"]
    parser.add_argument("kind", choices=[*kinds, "all"], nargs="?", default="all")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case, to go on in portions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.kind, given.child)
        return 0
    failed = 0
    for kind in kinds if given.kind == "all" else [given.kind]:
        counts = fuzz(kind, range(given.first, given.first + given.count), given.seed, given.keep.resolve())
        failed += sum(counts[what] for what in FAILURES)
        print(f"{kind}: {sum(counts.values())} cases: {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
