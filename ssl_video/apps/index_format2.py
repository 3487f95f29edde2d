"""Reading an index of format 2, which versions before this wrote: it becomes segments with its first change.

videos-N.jsonl   a line a video: path, size, time of change, first vector, times of its clips, content, labels
vectors-N.f32    the vectors of all clips, rows of little-endian 32-bit floats
index-N.faiss    what faiss searches; an exact index has none
"""

import hashlib
import itertools
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.apps.index_folder import MANIFEST, check_described
from ssl_video.apps.index_rows import Entry, columns_of, in_order, keys_of
from ssl_video.apps.index_segments import AGAIN, Segment, changed
from ssl_video.apps.index_stored import Described, Header, Stored
from ssl_video.datasets.columns import Columns
from ssl_video.errors import UserError
from ssl_video.eval.shard_files import without_file
from ssl_video.files import running_sha256
from ssl_video.readback import DAMAGE, in_short, of_type, parsed, texts


def open_format2(folder: Path, given: dict[str, Any]) -> Stored:
    """The index as one segment; every byte is compared with its SHA-256.

    Raises:
        UserError: if it is damaged.
        FileNotFoundError: if a file is not there.
    """
    try:
        header, files, sha256 = _header(given)
    except DAMAGE as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({in_short(error)}); {AGAIN}.") from None
    text = _verified(folder / files["videos"], sha256["videos"])
    path, size = folder / files["vectors"], 4 * header.rows * header.dim
    if path.stat().st_size < size or running_sha256(path, size).hexdigest() != sha256["vectors"]:
        raise changed(path)
    faiss_bytes = None
    if "faiss" in files:
        faiss_bytes = np.frombuffer(_verified(folder / files["faiss"], sha256["faiss"]), np.uint8)
    try:
        entries = _entries(text.decode("utf-8"), header.rows)
    except DAMAGE:
        raise changed(folder / files["videos"]) from None
    vectors_RD = without_file(np.memmap(path, "<f4", "r", shape=(header.rows, header.dim)))
    return stored_of(folder, header, entries, vectors_RD, faiss_bytes)


def stored_of(
    folder: Path, header: Header, entries: list[Entry], vectors_RD: np.ndarray, faiss_bytes: np.ndarray | None = None
) -> Stored:
    """An index of one segment that lies in memory; vectors that are no video's become those of removed ones."""
    whole: list[Entry] = []
    removed: list[bool] = []
    for entry in (*sorted(entries, key=lambda e: e.first), Entry("", 0, 0, header.rows, ())):
        before = whole[-1].end if whole else 0
        if entry.first > before:
            whole.append(Entry("", 0, 0, before, ((0.0, 0.0),) * (entry.first - before)))
            removed.append(True)
        if entry.times_s:
            whole.append(entry)
            removed.append(False)
    columns = Columns(folder, len(whole), {}, columns_of(whole))
    segment = Segment(folder, columns, in_order(keys_of(whole)), vectors_RD, faiss_bytes, {})
    return Stored(folder, replace(header, videos=len(removed) - sum(removed)), (segment,), np.array(removed))


def _header(given: dict[str, Any]) -> tuple[Header, dict[str, str], dict[str, str]]:
    """What header.json says, and the names and digests of the files. Raises one of ``DAMAGE``."""
    known = {*(field.name for field in fields(Described)), "format", "rows", "files", "sha256", "digest"}
    if not given.keys() <= known:
        raise ValueError("it says more than there is to say")
    without = json.dumps({**given, "digest": ""}, sort_keys=True).encode()
    if given.get("digest") and given["digest"] != hashlib.sha256(without).hexdigest():
        raise ValueError("it was altered since it was written")
    files, sha256 = of_type(given["files"], dict), of_type(given["sha256"], dict)
    texts([*files.values(), *sha256.values()])
    suffixes = {"videos": ".jsonl", "vectors": ".f32", "faiss": ".faiss"}
    named = all(Path(n).name == n and n.endswith(suffixes[kind]) and kind in sha256 for kind, n in files.items())
    if not named or not files.keys() >= {"videos", "vectors"}:
        raise ValueError("it contradicts itself")
    about = {field.name: given[field.name] for field in fields(Described)}
    header = Header(**about, format=2, videos=0, rows=given["rows"], digest=given.get("digest", ""))
    check_described(header)
    return header, files, sha256


def _verified(path: Path, digest: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise changed(path)
    return content


def _entry(line: dict[str, Any], rows: int) -> Entry:
    entry = Entry(
        of_type(line["path"], str),
        of_type(line["size"], int),
        of_type(line["mtime_ns"], int),
        of_type(line["first"], int),
        tuple((float(a), float(b)) for a, b in line["times_s"]),
        of_type(line.get("content", ""), str),
        tuple(texts(line.get("labels", []))),
    )
    if not 0 <= entry.first < entry.end <= rows:
        raise ValueError("a video has vectors that are not there")
    return entry


def _entries(text: str, rows: int) -> list[Entry]:
    """Raises one of ``DAMAGE``, also where two videos have one vector."""
    entries = [_entry(parsed(line), rows) for line in text.splitlines()]
    taken = sorted((e.first, e.end) for e in entries)
    if any(end > start for (_, end), (start, _) in itertools.pairwise(taken)):
        raise ValueError("a vector belongs to two videos")
    return entries
