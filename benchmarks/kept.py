"""What the longer benchmarks share: results that are kept as they come, and tables in Markdown.

A benchmark that is called again with the same options goes on with what is missing.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.errors import UserError
from ssl_video.files import write_text, written_aside
from ssl_video.readback import parsed, reading


class Kept:
    """Results by name in a JSON file, each written as soon as it is there."""

    def __init__(self, file: Path):
        self.file, self.found = file, dict[str, Any]()
        if file.is_file():
            with reading(file, "remove it, and measure again"):
                self.found = dict(parsed(file.read_text("utf-8")))

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The result of that name, made now if there is none yet, which a line says."""
        if name not in self.found:
            print(f"{name} ...", flush=True)
            self.found[name] = json.loads(json.dumps(make()))
            write_text(self.file, json.dumps(self.found, indent=1) + "\n")
        return self.found[name]


def check_same(work: Path, options: Mapping[str, Any]) -> None:
    """Note in ``work`` with which options it is made. Raises UserError if it was made with others."""
    before = Kept(work / "options.json").found
    now = json.loads(json.dumps(options))
    if before and before != now:
        others = ", ".join(name for name in {**before, **now} if before.get(name) != now.get(name))
        raise UserError(f"{work} holds what was made with other options ({others} differ); name another folder.")
    write_text(work / "options.json", json.dumps(now, indent=1) + "\n")


def kept_array(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in a file, made and written now if there is none yet, which a line says."""
    if not file.is_file():
        print(f"{file.stem} ...", flush=True)
        with written_aside(file) as aside, aside.open("wb") as stream:
            np.save(stream, make())
    return np.load(file, allow_pickle=False)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; numbers that are not whole have three digits behind the point."""
    lines = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, *lines)).replace(
        "\n", f"\n|{'---|' * len(head)}\n", 1
    )
