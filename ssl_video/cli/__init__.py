"""The command line: one module a command, imported when it runs, so that ``ssl-video --help`` answers at once."""

import contextlib
import errno
import importlib
import io
import logging
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, cast

from ssl_video._version import __version__
from ssl_video.errors import UserError, nearest
from ssl_video.files import shown, shown_lines
from ssl_video.progress import LOG, showing

COMMANDS = {
    "pretrain": "train a backbone on videos without labels",
    "evaluate": "measure a backbone or an encoder: linear, finetune, svm, knn, retrieval, pretext, ...",
    "benchmark": "measure a table of models, data sets, splits and seeds",
    "extract": "write the features of videos as arrays",
    "index": "make a search index of videos",
    "query": "find the nearest neighbours of a video in an index",
    "map": "a picture of an index: videos that look alike lie near each other",
    "track": "carry objects or points of a video's first frame to its other frames",
    "represent": "learn one video by one network: paint on it, render it at any size and time",
    "align": "play two videos of one action in step",
    "speediness": "measure along a video where it looks as if played at its normal speed",
    "speedup": "speed up a video, most where little happens",
    "generate": "draw videos: from nothing, from a text, an image or a video, by a run of video_diffusion",
    "explain": "pictures of a video's optical flow, of a network's class activation maps and affinities",
    "compare": "what differs between runs, in configuration and results, and their curves on one sheet",
    "report": "a page on a run: its curves, the pretext's inputs, neighbours before and after training",
    "app": "a local web page on a run: drop a video, see its neighbours, its speediness and more",
    "export": "for use elsewhere: a network (safetensors, ONNX, torch.export) or vectors (TensorBoard, FiftyOne)",
    "data": "scan, cache, pack or synthesize videos, or compute their optical flow",
    "list": "what there is: pretexts, backbones, encoders, datasets, protocols, recipes, tables, weights",
    "weights": "which published file a file of weights is, what would be loaded, and how it is used",
    "completion": "the script by which bash or zsh completes commands, flags and choices",
    "doctor": "versions, readers and devices; what is missing and which package brings it",
}

REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE),
    *(errno.ENOTDIR, errno.EISDIR),
)
"""What the system answers for reasons that the user can mend: a full disk, a quota, no permission, no folder."""

NOTES = (
    "'ssl-video COMMAND --help' lists a command's options; 'ssl-video pretrain' alone is a good start.",
    "Every command takes --plugin FILE.py, any number of times: a file with a pretext, a backbone, a data set or a "
    "protocol of your own; -q (--quiet): results and errors only; -v (--verbose): more, every video that is left out "
    "for one.",
)

LEVELS = {"-q": logging.ERROR, "--quiet": logging.ERROR, "-v": logging.DEBUG, "--verbose": logging.DEBUG}
TRAINING = ("pretrain", "evaluate", "benchmark")
"""Commands that may train, which goes on when nobody reads what they say."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0 is success, 2 a user's mistake (one sentence on stderr), 130 an interrupted run."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may not be UTF-8
    show = warnings.showwarning
    warnings.showwarning = _warn
    try:
        with _telling(argv), showing(os.environ.get("RANK", "0") == "0"):  # one of torchrun's processes tells
            return _command(_load_plugins([word for word in argv if word not in LEVELS]))
    except UserError as error:
        if error.alone or os.environ.get("RANK", "0") == "0":  # of torchrun's processes, which all met it, one tells
            print(f"ssl-video: {shown(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ssl-video: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `ssl-video list backbones | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MemoryError, RuntimeError) as error:
        from ssl_video.cli.memory import others_ended, out_of_memory, reading_ended

        command = " ".join(word for word in argv[:2] if not word.startswith("-"))
        first = command.partition(" ")[0]
        sentence = out_of_memory(error, command) or reading_ended(error, first) or others_ended(error, first)
        if "determine home directory" in str(error):
            sentence = "This user has no home folder (HOME is not set); write paths without '~'."
        if sentence is None:
            raise
        print(f"ssl-video: {sentence}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"ssl-video: The system refused to write or read{shown(where)}: {error.strerror}.", file=sys.stderr)
        return 2
    finally:
        warnings.showwarning = show


def usage() -> str:
    """The page of all commands, as wide as the terminal."""
    width = terminal_width()
    lines = ["usage: ssl-video COMMAND [options]", "", "Self-supervised pretraining of video networks.", ""]
    lines += [line for name, what in COMMANDS.items() for line in beside(f"  {name}", what, 14, width)]
    return "\n".join([*lines, "", *(line for text in NOTES for line in wrapped(text, width))])


def terminal_width() -> int:
    """Columns of a page of help: the terminal's, but 60 at least and 100 at most."""
    return max(60, min(100, shutil.get_terminal_size().columns))


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines; words, names of options among them, stay whole."""
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def beside(head: str, about: str, column: int, width: int) -> list[str]:
    """A head with the words about it beside it from ``column`` on, or below it if it is too long."""
    first, *others = wrapped(about, width - column) or [""]
    below = [f"{'':<{column}}{line}".rstrip() for line in others]
    if len(head) > column - 2:
        return [head, f"{'':<{column}}{first}".rstrip(), *below]
    return [f"{head:<{column}}{first}".rstrip(), *below]


def tell(line: str, stream: TextIO | None = None) -> None:
    """Print what is no result: nothing with ``-q``."""
    if LOG.isEnabledFor(logging.INFO):
        print(shown_lines(line), file=stream)


class Lines(logging.Formatter):
    """Lines of which everything can be seen: names of files in them may have anything."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return shown_lines(super().format(record))


class Plain:
    """A stream of which everything can be seen, also control characters in names, which a terminal would obey."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write it, lines as lines."""
        self.stream.write(shown_lines(text))
        return len(text)


@contextlib.contextmanager
def _telling(argv: Sequence[str]) -> Iterator[None]:
    """Our lines go to stderr, as many as ``-q`` or ``-v`` ask for; those of a training may find no reader."""
    handler, level, streams = logging.StreamHandler(), LOG.level, (sys.stdout, sys.stderr)
    LOG.setLevel(next((LEVELS[word] for word in argv if word in LEVELS), logging.INFO))
    handler.setFormatter(Lines())
    command = next((word for word in argv if word not in LEVELS), "")
    if command in TRAINING:
        sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], tuple(map(Unheard, streams)))
    sys.stdout = cast(TextIO, Plain(sys.stdout))
    handler.setStream(sys.stderr)
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        sys.stdout, sys.stderr = streams


class Unheard:
    """A stream that is written at once, and drops what is written when its reader has gone: ``pretrain | head -1``."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write it, if anybody reads."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        return len(text)

    def flush(self) -> None:
        """It is done already."""


def _warn(message: Warning | str, *_where: object) -> None:
    """A warning as a sentence, without the place in the program."""
    if not LOG.isEnabledFor(logging.WARNING):
        return
    print(f"ssl-video: warning: {shown(message)}", file=sys.stderr)


def _command(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        print(f"ssl-video {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        raise UserError(f"There is no command {argv[0]!r}; {nearest(argv[0], COMMANDS)}")
    command = importlib.import_module(f"ssl_video.cli.{argv[0]}_command")
    return command.main(argv[1:]) or 0


def _load_plugins(argv: Sequence[str]) -> list[str]:
    """The words without ``--plugin FILE`` and ``--plugin=FILE``, wherever they stand; each FILE is run."""
    rest, words = [], iter(argv)
    for word in words:
        flag, equals, path = word.partition("=")
        if flag != "--plugin":
            rest.append(word)
            continue
        if not equals:
            path = next(words, "")
        if not path:
            raise UserError("--plugin needs a file: --plugin FILE.py.")
        from ssl_video.registry import load_plugin  # --help without a plug-in does without it

        load_plugin(path)
    return rest
