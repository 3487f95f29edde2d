"""Lists of shards that lie elsewhere: fetched anew each time, and kept in the cache folder with whole addresses."""

import csv
import hashlib
import io
import tempfile
from pathlib import Path

from ssl_video.datasets.base import Splits
from ssl_video.datasets.large import load_list
from ssl_video.datasets.manifest import IN_SHARD, PATHS
from ssl_video.datasets.packed import called
from ssl_video.errors import UserError
from ssl_video.files import cache_dir, write_text
from ssl_video.remote import RemoteError, is_remote, read_whole


def load_remote(spec: str, split: int = 1) -> Splits:
    """The videos of shards that 'data pack' wrote, by the address of their folder, of a list, or of one shard.

    Raises UserError if the list cannot be fetched or is none of shards.
    """
    if split != 1:
        raise UserError(f"{spec} has one split only, not {split}; leave --split out.")
    address = list_of(spec)
    try:
        content = read_whole(address)
    except RemoteError as error:
        raise UserError(f"{spec} cannot be read: {error}; name a folder that 'ssl-video data pack' wrote.") from None
    text = with_addresses(content.decode("utf-8-sig", "surrogateescape"), address)
    name = spec.rstrip("/").rpartition("/")[2]
    ours, key = (hashlib.sha256(part).hexdigest()[:16] for part in (address.encode(errors="surrogateescape"), content))
    kept = cache_dir() / "shards" / f"{ours}-{key}.csv"
    try:
        if not kept.is_file():
            write_text(kept, text)
    except OSError:  # nobody keeps it, then
        with tempfile.TemporaryDirectory() as folder:
            write_text(Path(folder) / kept.name, text)
            return called(load_list(Path(folder) / kept.name), name)
    for former in kept.parent.glob(f"{ours}-*"):
        if former != kept:
            former.unlink(missing_ok=True)
    return called(load_list(kept), name)


def list_of(spec: str) -> str:
    """The address of the list that a SPEC means."""
    if spec.lower().endswith((".tar", ".csv")):
        return f"{spec[:-4]}.csv"
    return f"{spec.rstrip('/')}/manifest.csv"


def with_addresses(text: str, address: str) -> str:
    """A list, with the whole addresses of what lies beside it. Raises UserError if it is none of shards."""
    above = address.rpartition("/")[0]
    lines = csv.DictReader(io.StringIO(text, newline=""))
    names = list(lines.fieldnames or ())
    if not set(IN_SHARD) <= set(names):
        raise UserError(f"{address} is no list of shards; pack its videos by 'ssl-video data pack'.")
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    try:
        for row in lines:
            for name in ("shard", *PATHS[1:]):
                cell = row.get(name) or ""
                if cell and not cell.startswith("/") and not is_remote(cell):
                    row[name] = f"{above}/{cell}"
            writer.writerow(row)
    except csv.Error as error:
        raise UserError(f"{address} is damaged ({error}); pack its videos again.") from None
    return out.getvalue()
