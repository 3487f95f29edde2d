"""Processes of their own that need not wait for torch: forked from one that has imported what is dear, and no more.

A fresh Python takes four seconds of a core until it trains, to import torch, its compiler and the rest. What runs here
has arguments, a folder, an environment, output, signals and an end of its own, as a fresh one. How a fresh one begins
(what it imports, what Python and torch read of the environment as they start, torchrun) only ``subprocess`` shows.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from torch.distributed import TCPStore

ROOT = Path(__file__).resolve().parents[1]
SERVER = """
import atexit, os, sys
code = 1
def end():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
atexit.register(end)  # the last of all: Python itself would free what torch has imported one by one
import gc, importlib, json, pkgutil, runpy, socket, warnings
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    for member in pkgutil.iter_modules(getattr(module, "__path__", []) if name.startswith("ssl_video.") else []):
        importlib.import_module(f"{name}.{member.name}")
gc.freeze()
asked = socket.socket(fileno=int(sys.argv[1]))

def next_to_run():
    while True:
        message, files, _, _ = socket.recv_fds(asked, 1 << 20, 3)
        if not message:  # whoever asked has ended
            os._exit(0)
        request = json.loads(message)
        if isinstance(request, int):  # for the exit code of a process that has ended
            answer = os.waitstatus_to_exitcode(os.waitpid(request, 0)[1])
        elif (answer := os.fork()) == 0:
            return request, files
        for file in files:
            os.close(file)
        asked.sendall(json.dumps(answer).encode())

(how, *words), folder, env = (request := next_to_run())[0]
asked.close()
for number, file in enumerate(request[1]):
    os.dup2(file, number)
    os.close(file)
sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)
os.chdir(folder)
os.environ.clear()
os.environ.update(env)
sys.path[:1] = [os.getcwd(), *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
if how == "-u":
    how, *words = words
sys.argv = words if how == "-m" else [how, *words[how == "-c":]]
try:
    if how == "-c":
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
    elif how == "-m":
        warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)  # imported it is, and runs anew
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(how, run_name="__main__")
    code = 0
except SystemExit as ended:
    code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    raise
"""
DEAR = (
    "torch._dynamo", "torch.nn.parallel", "av", "faiss", "matplotlib.backends.backend_agg", "matplotlib.figure",
    "matplotlib.style", "typeguard", "tqdm.auto", "ssl_video.pretraining", "ssl_video.pretexts",
    "ssl_video.backbones", "ssl_video.eval", "ssl_video.train", "ssl_video.cli",
)  # fmt: skip
"""Modules, and the modules of our rooms."""
_one_at_a_time = threading.Lock()


@cache
def _server() -> socket.socket:
    """By which the process is asked from which others are forked; it ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", SERVER, str(its.fileno()), *DEAR]
    process = subprocess.Popen(
        line, env=env, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _asked(request: object, files: Sequence[int] = ()) -> int:
    with _one_at_a_time:
        server = _server()
        socket.send_fds(server, [json.dumps(request).encode()], files)
        answer = server.recv(64)
    assert answer, "the process from which others are forked has ended"
    return json.loads(answer)


class Process:
    """``python LINE``, as ``subprocess.Popen`` has it; ``files`` are open ones, (input,) output and errors."""

    def __init__(self, line: Sequence[str], *files: int, cwd: Path | None = None, env: Mapping | None = None):
        given = os.environ if env is None else env
        with Path(os.devnull).open() as nothing:
            request = [list(map(str, line)), str(cwd or Path.cwd()), dict(given)]
            self.pid = _asked(request, files if len(files) == 3 else (nothing.fileno(), *files))
        self.returncode: int | None = None
        self._end = os.pidfd_open(self.pid)

    def wait(self, timeout: float = 600.0) -> int:
        """Its exit code, negative for a signal. Raises TimeoutError; it is killed then."""
        if self.returncode is None:
            late = not select.select([self._end], [], [], timeout)[0]
            if late:
                os.kill(self.pid, signal.SIGKILL)
            self.returncode = _asked(self.pid)
            os.close(self._end)
            if late:
                raise TimeoutError(f"after {timeout} s")
        return self.returncode

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, if it has not ended."""
        if self.returncode is None:
            os.kill(self.pid, number)


def run_all(
    line: Sequence[str], envs: Sequence[Mapping], cwd: Path | None = None
) -> "list[subprocess.CompletedProcess[str]]":
    """Run ``python LINE`` once with each of the environments, at a time, and wait for all."""
    files = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2 * len(envs))]  # noqa: SIM115
    pairs = list(zip(files[::2], files[1::2], strict=True))
    running = [
        Process(line, out.fileno(), error.fileno(), cwd=cwd, env=env)
        for (out, error), env in zip(pairs, envs, strict=True)
    ]
    try:
        codes = [process.wait() for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        subprocess.CompletedProcess(line, code, _read(out), _read(error))
        for code, (out, error) in zip(codes, pairs, strict=True)
    ]


def _read(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


def run(line: Sequence[str], cwd: Path | None = None, env: Mapping | None = None) -> "subprocess.CompletedProcess[str]":
    """Run ``python LINE``, and wait for it; its output is text."""
    return run_all(line, [os.environ if env is None else env], cwd)[0]


STAND_IN = """#!{python} -SE
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
    asked.connect({place!r})
    socket.send_fds(asked, [json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
    pid = int(asked.recv(64))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    code = int(asked.recv(64))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def interpreter(folder: Path) -> Iterator[Path]:
    """A program for those who start ``python`` themselves, as shell scripts and torchrun do (``PYTHON_EXEC``).

    It passes its line, its files, SIGTERM and the process's end on; in this context it finds us.
    """
    place = folder / "asked"
    program = folder / "python"
    program.write_text(STAND_IN.format(python=sys.executable, place=str(place)))
    program.chmod(0o755)

    def serve(one: socket.socket) -> None:
        with one:
            message, files, _, _ = socket.recv_fds(one, 1 << 20, 3)
            line, cwd, env = json.loads(message)
            process = Process(line, *files, cwd=cwd, env=env)
            for file in files:
                os.close(file)
            with suppress(OSError):  # it was killed itself
                one.send(str(process.pid).encode())
                one.send(str(process.wait()).encode())

    def listen() -> None:
        with suppress(OSError):  # the end
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place))
        listener.listen()
        threading.Thread(target=listen, daemon=True).start()
        yield program
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def together(count: int = 2) -> Iterator[list[dict]]:
    """Environments of processes that train together, as torchrun makes them; in this context they find each other."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    start = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    yield [os.environ | found | start | sizes | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]
    del store


def run_together(line: Sequence[str], count: int = 2, cwd: Path | None = None) -> str:
    """Run ``python LINE`` in ``count`` processes that train together; what they print, if all of them end well."""
    with together(count) as envs:
        done = run_all(line, envs, cwd)
    assert [one.returncode for one in done] == [0] * count, done[0].stderr[-1000:] + done[-1].stderr[-1000:]
    return "".join(one.stdout for one in done)
