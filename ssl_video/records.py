"""The records of a training: one JSON object a line, each with the steps that were done."""

from pathlib import Path
from typing import Any

from ssl_video.files import write_text
from ssl_video.readback import DAMAGE, parsed

Record = dict[str, Any]


def read_records(file: Path) -> list[Record]:
    """The records, numbers only, up to a line cut off by a crash; none where there is no file."""
    found: list[Record] = []
    for line in _lines(file):
        record = _record(line)
        if record is None:
            break
        found.append({k: v for k, v in record.items() if type(v) in (int, float)})
    return found


def cut_records(file: Path, step: int) -> None:
    """Drop the records after ``step``, and what a crash cut off."""
    kept = []
    for line in _lines(file):
        record = _record(line)
        if record is None or record["step"] > step:
            break
        kept.append(line + "\n")
    if file.is_file():
        write_text(file, "".join(kept))


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def _record(line: str) -> Record | None:
    try:
        record = parsed(line, numbers=False)
    except DAMAGE:  # cut off by a crash
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None
