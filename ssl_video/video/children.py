"""Child processes that work on files: FFmpeg can crash or hang on a hostile one, and that is one bad file.

A child gets a JSON request a line on stdin and answers with a JSON line on stdout: first that it is ready, while it
works that it gets on, and at last its reply or the reason for none. A reason says of which kind it is, since only what
comes from the bytes of a file may be kept.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ssl_video import processes
from ssl_video.errors import UserError
from ssl_video.members import member_of
from ssl_video.processes import end_with_parent
from ssl_video.progress import bar
from ssl_video.remote import is_remote
from ssl_video.video.alive import listened_to
from ssl_video.video.content import state_of
from ssl_video.video.info import Problem, VideoError, behind, reason_of

R = TypeVar("R")

STARTING_S = 60.0
"""Seconds more that a child may be silent until it is ready: it imports much, from a disk that may be slow."""
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
"""Signals by which a process dies of what it does itself; by others somebody ends it."""


class OutputError(Exception):
    """A child's own file could not be written, for this reason of the system's; what it read is not to blame."""

    def __init__(self, number: int | None, reason: str):
        super().__init__(reason)
        self.errno = number


@contextlib.contextmanager
def to_disk() -> Iterator[None]:
    """What the system refuses in this context is told as an OutputError; what is read inside raises VideoError."""
    try:
        yield
    except OSError as error:
        raise OutputError(error.errno, error.strerror or str(error)) from None


class Children:
    """Child processes, one a thread, started when needed and replaced when they die or are late.

    Args:
        command: starts a child, which calls ``answer_requests``.
        time_limit_s: seconds that a child may be at work without getting on.
        remedy: what messages say of that limit.
    """

    def __init__(self, command: Sequence[str], time_limit_s: float, remedy: str = ""):
        self.command, self.time_limit_s, self.remedy = command, time_limit_s, remedy
        self.local = threading.local()
        self.turn = threading.Condition()
        self.alive: list[_Child] = []
        self.working = self.alone = 0
        self.ended = False

    def request(self, path: str, request: Any) -> dict[str, Any] | Problem:
        """The reply of this thread's child to a request about the file ``path``.

        A child that dies is not asked twice, but another one is, while no other works: memory may have been short.

        Raises:
            OutputError: if the child cannot write its own file.
            UserError: if the request itself is a mistake.
        """
        if (problem := _not_readable(path)) is not None:
            return problem
        reply = self._ask(request, alone=False)
        if isinstance(reply, int):
            reply = self._ask(request, alone=True)
        if reply is None:
            remedy = f"; {self.remedy}" if self.remedy else ""
            return Problem(path, f"it did not get on for {self.time_limit_s:g} s{remedy}", passing=True)
        if isinstance(reply, int):
            how = f"signal {-reply}" if reply < 0 else f"exit code {reply}"
            if -reply in CRASHES:
                return Problem(path, f"the decoder crashed on it ({how})")
            return Problem(path, f"the process that read it was ended ({how}): is memory short?", passing=True)
        if "reason" not in reply:
            return reply
        if reply["kind"] == "user":
            raise UserError(reply["reason"])
        if reply["kind"] == "output":
            raise OutputError(reply["errno"], reply["reason"])
        return Problem(path, reply["reason"], passing=reply["kind"] == "machine")

    def work(
        self, do: Callable[[Any], R], things: Sequence[Any], *, workers: int | None, what: str, progress: bool
    ) -> Iterator[R]:
        """``do``, which may ``request``, on every thing, by ``workers`` threads (one a core); the children end with it.

        Results come in order; ``progress`` shows a bar that says ``what``, on a terminal.
        """
        workers = max(1, min(processes.cores() if workers is None else workers, len(things)))
        try:
            with ThreadPoolExecutor(workers) as pool:
                yield from bar(pool.map(do, things), what, "file", progress, len(things))
        finally:
            self.end()

    def _ask(self, request: Any, *, alone: bool) -> dict[str, Any] | int | None:
        """A reply, the exit code of a child that died (negative: its signal), or None of one that is late."""
        with self._turn(alone):
            try:
                child = self._child()
                reply = child.ask(request, self.time_limit_s)
            except OSError as error:
                return {"reason": reason_of(error), "kind": "machine"}
            if isinstance(reply, dict):
                return reply
            self.local.child = None
            with self.turn:
                self.alive.remove(child)
            code, said = child.bury()
            if reply is None:
                return None
            if not child.ready and not self.ended:
                last = f": {said}" if said else ""
                return {"reason": f"the process to read it did not start (exit code {code}{last})", "kind": "machine"}
            return {"reason": "the work was ended", "kind": "machine"} if self.ended else code

    @contextlib.contextmanager
    def _turn(self, alone: bool) -> Iterator[None]:
        """In this context a child may work, no other one with ``alone``."""
        with self.turn:
            self.alone += alone
            self.turn.wait_for(lambda: not (self.working if alone else self.alone))
            self.working += 1
        try:
            yield
        finally:
            with self.turn:
                self.working -= 1
                self.alone -= alone
                self.turn.notify_all()

    def _child(self) -> "_Child":
        child: _Child | None = getattr(self.local, "child", None)
        if child is None:
            with self.turn:
                if self.ended:
                    raise OSError(None, "the work was ended")
                child = _Child(self.command)
                self.alive.append(child)
            self.local.child = child
        return child

    def end(self) -> None:
        """End all children, for good."""
        with self.turn:
            self.ended = True
            children = list(self.alive)
        for child in children:
            child.process.kill()
        for child in children:
            child.bury()


class _Child:
    def __init__(self, command: Sequence[str]):
        try:
            self.said = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the child)
        except OSError:
            self.said = None
        errors = subprocess.DEVNULL if self.said is None else self.said
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0
        )
        self.lock = threading.Lock()
        self.rest = b""
        self.ready = self.over = False

    def ask(self, request: Any, limit_s: float) -> dict[str, Any] | int | None:
        """The reply, 0 if the child has died, None if it has not got on for so long."""
        with self.lock:
            if self.process.stdin is None or self.process.stdin.closed:
                return 0
            try:
                self.process.stdin.write(json.dumps(request).encode() + b"\n")
            except BrokenPipeError:
                self.over = True
                return 0  # its exit code is asked for when it is buried
            while True:
                line = self._line(limit_s if self.ready else limit_s + STARTING_S)
                if not line:
                    return 0 if line is not None else None
                try:
                    reply = json.loads(line)
                except ValueError:
                    continue  # a library's own words
                if isinstance(reply, dict):
                    return reply
                self.ready = True

    def _line(self, limit_s: float) -> bytes | None:
        """The next line, empty if there is none any more, None if none came in time."""
        assert self.process.stdout is not None
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        while b"\n" not in self.rest:
            if not poll.poll(1000 * limit_s):
                return None
            block = os.read(self.process.stdout.fileno(), 1 << 16)
            if not block:
                self.over = True
                return b""
            self.rest += block
        line, _, self.rest = self.rest.partition(b"\n")
        return line + b"\n"

    def bury(self) -> tuple[int, str]:
        """Kill it unless it is dead; its exit code, and the last line of what it said of errors."""
        with self.lock:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.over:
                    self.process.wait(STARTING_S)
            self.process.kill()
            code = self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            last = ""
            if self.said is not None and not self.said.closed:
                self.said.seek(0)
                lines = self.said.read().decode(errors="replace").split("\n")
                last = next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
                self.said.close()
            return code, last


def _not_readable(path: str) -> Problem | None:
    """Why there is no need to ask a child: the system does not let us read the file, or it is empty."""
    try:
        state, member = state_of(path), member_of(path)
        if member is not None and is_remote(member.shard):
            return None
        if os.path.isdir(path):  # noqa: PTH112
            os.listdir(path)  # noqa: PTH208
            return None
        os.close(os.open(member.shard if member else path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return Problem(path, reason_of(error), passing=True)
    except ValueError:
        return Problem(path, "no file can have this name")
    return Problem(path, "it is empty") if state.startswith("0|") else None


def answer_requests(reply: Callable[[Any], dict[str, Any]]) -> None:
    """What a child does, until its parent is gone."""

    def say(line: Any) -> None:
        try:
            print(json.dumps(line), flush=True)
        except BrokenPipeError:
            os._exit(1)

    end_with_parent()  # the end of stdin is not seen during a decode
    say("ready")
    listened_to(lambda: say("alive"))
    for line in sys.stdin:
        try:
            found = reply(json.loads(line))
        except UserError as error:
            found = {"reason": str(error), "kind": "user"}
        except OutputError as error:
            found = {"reason": str(error), "kind": "output", "errno": error.errno}
        except Exception as error:  # whatever a hostile file brings about is a reason, too
            found = _reason(error)
        say(found)


def _reason(error: Exception) -> dict[str, Any]:
    cause = behind(error)
    kind = "bytes" if cause is None else "machine"
    if isinstance(cause, PermissionError):
        return {"reason": reason_of(cause), "kind": kind}
    if isinstance(error, VideoError):
        return {"reason": str(error), "kind": kind}
    how = "cannot be decoded" if cause is None else "could not be read"
    return {"reason": f"it {how} ({type(error).__name__}: {' '.join(str(error).split())[:200]})", "kind": kind}
