"""What long work says of itself: a bar on a terminal and in a notebook, a line now and then elsewhere.

Nothing is shown unless it is asked for: by ``progress=True`` of the function that does the work, or by ``showing``
around it. Lines go to the logger ``ssl_video``, or to stderr where nobody has set up logging.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

LOG = logging.getLogger("ssl_video")
EVERY_S = 30.0
"""Seconds between two lines of a long part, where there is no bar."""
NAMED = 5
"""Files that are named where there are many; ``-v`` names all."""
Listener = Callable[["Bar"], None]
_asked: ContextVar[bool] = ContextVar("ssl_video_progress", default=False)
_listener: ContextVar[Listener | None] = ContextVar("ssl_video_listener", default=None)


@contextlib.contextmanager
def showing(shown: bool = True) -> Iterator[None]:
    """In this context long work shows its progress, or with False shows none unless a function is told to."""
    token = _asked.set(shown)
    try:
        yield
    finally:
        _asked.reset(token)


@contextlib.contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """In this context long work tells another program, such as a page, how far it is, whether it shows that or not."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def note(line: str) -> None:
    """A line to the logger, or to stderr where nobody has said what is to be done with our lines."""
    if LOG.hasHandlers() and LOG.isEnabledFor(logging.INFO):
        LOG.info(line)
    elif LOG.level == logging.NOTSET:
        logging.StreamHandler(sys.stderr).handle(LOG.makeRecord(LOG.name, logging.INFO, "", 0, line, (), None))


def announce(line: str, shown: bool = False) -> None:
    """``note`` where progress is shown, else the logger alone."""
    if shown or _asked.get():
        note(line)
    else:
        LOG.info(line)


class Unusable(Protocol):
    """A file and a phrase that says why it cannot be used."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...


class Bar:
    """One long part, of which ``total`` units are to be done (None: nobody knows how many).

    ``every_s`` seconds apart are its lines where there is no bar. ``clock`` counts seconds.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str,
        shown: bool = False,
        *,
        done: int = 0,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.what, self.total, self.unit, self.done, self.every_s, self.clock = what, total, unit, done, every_s, clock
        self.shown = (shown or _asked.get()) and LOG.level <= logging.INFO and total != 0
        self.first, self.since = done, clock()
        self.said_at, self.said = self.since, False
        self.bar: Any = _drawn(what, total, unit, done) if self.shown else None
        self.listener = _listener.get()
        self._tell_listener()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def update(self, number: int = 1) -> None:
        """So many more are done."""
        self.done += number
        self._tell_listener()
        if self.bar is not None:
            self.bar.update(number)
        elif self.shown and self.clock() - self.said_at >= self.every_s and self.done != self.total:
            self._say("")

    def tell(self, numbers: Mapping[str, float]) -> None:
        """Numbers of now: behind the bar, or in a line of their own."""
        if self.bar is not None:
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in numbers.items()})
        elif self.shown:
            self._say(", ".join(f"{name} {value:.3g}" for name, value in numbers.items()))

    def close(self) -> None:
        """The end, of which a line is said if there was one before."""
        if self.bar is not None:
            self.bar.close()
        elif self.said and self.done == self.total:
            note(f"{self.what}: {count(self.done, self.unit)} in {duration(self.clock() - self.since)}")
        self.shown, self.said = False, False

    def _tell_listener(self) -> None:
        if self.listener is not None:
            self.listener(self)

    def _say(self, numbers: str) -> None:
        elapsed, done = self.clock() - self.since, self.done - self.first
        words = [f"{self.done} of {count(self.total, self.unit)}" if self.total else count(self.done, self.unit)]
        words += [numbers] if numbers else []
        if done and elapsed > 0:
            words.append(f"{done / elapsed:.3g} {_many(self.unit)}/s")
            if self.total and self.done < self.total:
                words.append(f"about {duration((self.total - self.done) * elapsed / done)} left")
        note(f"{self.what}: {', '.join(words)}")
        self.said_at, self.said = self.clock(), True


def bar(things: Iterable[T], what: str, unit: str, shown: bool = False, total: int | None = None) -> Iterator[T]:
    """The things, and how many of them are done; ``total`` where they have no length."""
    if total is None and isinstance(things, Sized):
        total = len(things)
    with Bar(what, total, unit, shown) as one:
        for thing in things:
            yield thing
            one.update()


def left_out(problems: Sequence[Unusable], what: str = "left out") -> Iterator[str]:
    """A line for each of the first few problems (see ``few``)."""
    return few([f"{what}: {problem.path}: {problem.reason}" for problem in problems], what)


def few(lines: Sequence[str], what: str) -> Iterator[str]:
    """The first few lines, one of which is about one file each, and how many more there are; with ``-v`` all."""
    named = len(lines) if LOG.isEnabledFor(logging.DEBUG) else NAMED
    yield from lines[:named]
    if len(lines) > named:
        yield f"{what}: {len(lines) - named} more (-v names all)"


def duration(seconds: float) -> str:
    """Seconds in words that are as exact as they need be: ``40 s``, ``12 min``, ``3 h 20 min``, ``2 days 5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def size(number: float) -> str:
    """Bytes in words: ``4 kB``, ``350 MB``, ``41 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 999.5 or unit == "GB":
            break
        number /= 1000
    return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"


def count(number: int | None, unit: str) -> str:
    """So many of a thing: ``1 video``, ``84 videos``."""
    return f"{number} {unit if number == 1 else _many(unit)}"


def are(number: int, unit: str) -> str:
    """So many of a thing, and the verb: ``1 video is``, ``84 videos are``."""
    return f"{count(number, unit)} {'is' if number == 1 else 'are'}"


def _many(unit: str) -> str:
    return {"batch": "batches", "entry": "entries", "class": "classes", "copy": "copies"}.get(unit, f"{unit}s")


def _drawn(what: str, total: int | None, unit: str, done: int) -> Any:
    """A bar, where one can be drawn."""
    from tqdm.auto import tqdm  # light as it is, commands that draw none do without

    in_notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    if not in_notebook and not (sys.stderr is not None and sys.stderr.isatty()):
        return None
    return tqdm(initial=done, total=total, unit=unit, desc=what, dynamic_ncols=True, smoothing=0.1)
