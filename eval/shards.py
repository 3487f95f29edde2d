"""Extracted features that are kept on disk, shard by shard, and the features of both lists of a task."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.backbones.base import BACKBONES, backbone_options
from ssl_video.config import plain
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.calibration import calibrate_batch_norm
from ssl_video.eval.features import Extraction, Features, check_some, extract
from ssl_video.eval.parquet import write_table
from ssl_video.eval.shard_files import FeatureFolder, finished, rows_of, vectors_of
from ssl_video.files import clear_dead, is_empty, write_text, written_aside
from ssl_video.members import member_of
from ssl_video.model import LARGEST, Model, count_bad
from ssl_video.processes import held
from ssl_video.progress import Bar
from ssl_video.readback import of_type, parsed, reading
from ssl_video.train.distributed import Ranks
from ssl_video.video.view import View

SHARD = 256
"""Videos whose features are written together, at most, but for a list of which that would be more files than SHARDS."""
SHARDS = 30_000
"""Files of a list's features: each is mapped, and Linux maps 65,530 of them for a process."""
CALIBRATION = 2
"""Version of ``calibrate_batch_norm``: features that are kept of another one are not those of today."""


def train_and_test_features(
    model: Model | Encoder, task: Task, what: Extraction, *, calibrate: bool
) -> tuple[Features, Features]:
    """Features of both lists of a task, extracted once for all tasks that hold the same store; see ``extract``.

    ``calibrate`` recomputes the batch-norm statistics on the training list first (``calibrate_batch_norm``). An encoder
    is fitted to the training list and gives one vector a video, of which neither this nor ``what`` says anything.
    Features of a network are kept in ``task.folder``, if there is one.

    Raises:
        UserError: if no video can be read, features are not finite, or for an option that an encoder does not have.
    """
    assert task.test is not None
    test, lists = task.test, lists_of(task)
    if isinstance(model, Encoder):
        if what.still or what.shuffle or what.reversed or what.stage is not None:
            raise UserError(
                f"{model.name} sees whole videos; "
                "leave out the options still, shuffle, reversed and stage, which are for networks."
            )
        return task.features.get((model.name, lists), lambda: _encoded(model, task, test))
    weights = fingerprint(model)  # before the calibration, whose last bits another machine may round
    what = replace(what, batch=task.batch)
    key = weights, what, calibrate, lists
    return task.features.get(key, lambda: _extracted(model, task, test, what, calibrate, weights))


def lists_of(task: Task) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What says which videos both lists of a task are of, and which files are read for them."""
    lists = (task.train,) if task.test is None else (task.train, task.test)
    return tuple((videos.hash, tuple(v.path for v in videos.videos)) for videos in lists)


def _extracted(
    model: Model, task: Task, test: VideoSet, what: Extraction, calibrate: bool, weights: str
) -> tuple[Features, Features]:
    calibrated = calibrate_batch_norm(model, task.train, workers=task.workers) if calibrate else model
    noted = what.noted() | {"calibrate": calibrate and CALIBRATION}
    options = "-".join(f"{k}={v}" for k, v in noted.items())

    def extracted(name: str, videos: VideoSet) -> Features:
        if task.folder is None:
            return extract(calibrated, videos, what, workers=task.workers)
        kept = FeatureFolder(task.folder / "features" / options / name, weights)
        found = extract_to(kept, calibrated, videos, what, workers=task.workers)
        check_some(found, videos)
        return found

    return extracted("train", task.train), extracted("test", test)


def _encoded(encoder: Encoder, task: Task, test: VideoSet) -> tuple[Features, Features]:
    encoder.fit(task.train, task.workers)

    def encoded(videos: VideoSet) -> Features:
        found = encoder.encode(videos, task.workers)
        if bad := count_bad(found.features_ND):
            raise UserError(
                f"{encoder.name} cannot be used: its features of {bad} of {len(found.videos)} videos of {videos.name} "
                f"are not finite (NaN, or beyond {LARGEST:g}); choose other options of it, or videos to fit it to."
            )
        starts = [np.zeros(1, int)] * len(found.videos)
        return Features(found.videos, [x[None] for x in found.features_ND], starts, found.problems)

    return encoded(task.train), encoded(test)


def extract_to(
    kept: FeatureFolder,
    model: Model,
    videos: VideoSet,
    what: Extraction = Extraction(),  # noqa: B008  (frozen)
    *,
    workers: int = 2,
    ranks: Ranks = Ranks(),
    progress: bool = False,
) -> Features:
    """As ``extract``, but kept in a folder, shard by shard: an interrupted extraction is resumed, and ranks share it.

    A shard is ``NUMBER.npy``, the vectors of the clips of up to 256 videos, as many for each rank, and ``NUMBER.json``,
    which says whose they are and is written last. The features that are returned are mapped from these files, none of
    which stays open, and may be of no video at all (``check_some``). Tables of parquet cannot be mapped: then
    ``clips_KD`` is empty.

    Raises:
        UserError: if the folder holds features of another model, other videos or other options, or features, now made
            or kept, are not finite, or a rank does not see the folder.
    """
    with ExitStack() as until_the_end:

        def claim() -> Plan:
            until_the_end.enter_context(held(kept.folder, "An extraction"))
            clear_dead(kept.folder)
            shard = shard_size(len(videos.videos), ranks.world_size)
            about = {"weights": kept.weights, "data": videos.hash, "videos": len(videos.videos), "shard": shard}
            about["copies"] = copies_in(videos)
            about |= what.noted() | ({"format": "parquet"} if kept.tables else {})
            shard = _claim(kept.folder, about, videos, model)
            numbers = range(-(-len(videos.videos) // shard))
            return Plan(shard, tuple(n for n in numbers if not finished(kept.note(n))))

        plan = ranks.first_does(claim)
        ranks.all_see(kept.folder)
        mine = {n: plan.of_shard(videos, n) for n in plan.missing[ranks.rank :: ranks.world_size]}
        with Bar("extract", sum(map(len, mine.values())), "video", progress and ranks.first) as done:
            for number, of_shard in mine.items():
                part = VideoSet(videos.name, of_shard, videos.classes)
                found = extract(model, part, what, workers=workers, none_is_an_error=False, done=done)
                _write_shard(kept, number, part, found, model.view)
        ranks.barrier()
        whole = Features([], [], [], [])
        for number in range(-(-len(videos.videos) // plan.shard)):
            _read_shard(kept, number, plan.of_shard(videos, number), whole)
        ranks.barrier()  # who called may remove the folder now
        return whole


def shard_size(videos: int, ranks: int) -> int:
    """Videos of a shard, for a list of so many: at most ``SHARD``, and each rank gets as many shards as the others."""
    if ranks == 1:
        return max(SHARD, -(-videos // SHARDS))
    rounds = max(1, -(-videos // (SHARD * ranks)))
    return max(1, -(-videos // (ranks * rounds)), -(-videos // SHARDS))


@dataclass(frozen=True)
class Plan:
    """Videos of a shard, and the numbers of the shards that are not there yet, as the first rank found the folder."""

    shard: int
    missing: tuple[int, ...]

    def of_shard(self, videos: VideoSet, number: int) -> Sequence[Video]:
        """Its videos."""
        return videos.videos[number * self.shard : (number + 1) * self.shard]


def _claim(folder: Path, about: dict[str, Any], videos: VideoSet, model: Model) -> int:
    """Note what a new folder holds, or compare what one has noted; its videos a shard. Raises UserError."""
    noted = folder / "about.json"
    if noted.exists():
        with reading(noted, f"remove {folder}, and its features are extracted again"):
            before = of_type(parsed(noted.read_text(encoding="utf-8")), dict)
            of_data, shard = of_type(before["data"], str), max(1, of_type(before["shard"], int))
            before["copies"] = before.get("copies", about["copies"])  # which were not noted once
            if before["weights"] != about["weights"] and made_by(model, of_type(before["weights"], str)):
                before["weights"] = about["weights"]
        free = {"data": "", "shard": 0}  # shards are as large as for the ranks that began
        if before | free != about | free or not videos.has_hash(of_data):
            raise UserError(
                f"{folder} holds features of another model, other videos, copies or options; "
                "choose another folder (--out of extract, --run of evaluate)."
            )
    elif not is_empty(folder):
        raise UserError(
            f"{folder} exists and holds something else; choose another folder (--out of extract, --run of evaluate)."
        )
    else:
        write_text(noted, json.dumps(about, indent=1) + "\n")
        shard = about["shard"]
    return shard


def _write_shard(kept: FeatureFolder, number: int, part: VideoSet, found: Features, view: View) -> None:
    listed = enumerate(part.videos)  # in the order of those that were found
    rows = [
        {
            "number": next(n for n, video in listed if video.source == v.source),
            "path": v.source,
            "labels": v.labels,
            "classes": [part.classes[label] if part.classes else str(label) for label in v.labels],
            "starts": s.tolist(),
            "times_s": times_s(v, s, view).tolist(),
        }
        for v, s in zip(found.videos, found.starts, strict=True)
    ]
    if kept.tables is None:
        with written_aside(kept.vectors(number)) as aside:
            np.save(aside, np.concatenate(found.clips_KD) if found.clips_KD else np.zeros((0, 0), np.float32))
    elif rows:
        write_table(kept.vectors(number), rows, kept.folder.name, np.concatenate(found.clips_KD))
    note = {"rows": rows, "problems": [asdict(p) for p in found.problems]}
    write_text(kept.folder / f"{number:05d}.json", json.dumps(note) + "\n")


def times_s(video: Video, starts: np.ndarray, view: View) -> np.ndarray:
    """(K, 2) when the clips that begin with these frames begin and end, in seconds."""
    frames_K2 = np.minimum(starts[:, None] + [0, view.span(video)], video.frames)
    return np.round(frames_K2 / (video.info.fps or 25.0), 3)


def _read_shard(kept: FeatureFolder, number: int, videos: Sequence[Video], whole: Features) -> None:
    folder, file = kept.folder, kept.vectors(number)
    advice = f"remove {folder}, and its features are extracted again"
    rows, problems = rows_of(kept.note(number), advice)
    vectors = None if kept.tables else vectors_of(file, rows, advice) if rows else np.empty((0, 0))
    of_0_1 = {v.source: n for n, v in enumerate(videos)}  # which noted no numbers, so that its sets could not move
    row, before = 0, len(whole.clips_KD)
    for entry in rows:
        place = entry.get("number", of_0_1.get(entry["path"]))
        if place is None:
            raise UserError(
                f"{folder} holds features of {entry['path']}, which has moved; "
                "choose another folder (--out of extract, --run of evaluate)."
            )
        if place >= len(videos):
            raise UserError(f"{folder} is damaged: it has features of a video that is not in the list; {advice}.")
        whole.videos.append(videos[place])
        whole.starts.append(np.array(entry["starts"]))
        if vectors is not None:
            whole.clips_KD.append(vectors[row : row + len(entry["starts"])])
        row += len(entry["starts"])
    whole.problems += problems
    if bad := count_bad(whole.clips_KD[before:]):
        raise UserError(
            f"{file} cannot be used: the features of {bad} of its {len(rows)} videos are not finite (NaN, or "
            f"beyond {LARGEST:g}); remove {folder}, and use a network that gives finite ones."
        )


def fingerprint(model: Model) -> str:
    """16 hexadecimal digits of what features depend on: the weights, how videos are shown, and the network's options.

    Networks of the same weights may differ by these. Options that are as by default do not count, so that a family
    may get new ones.
    """
    backbone, own = model.backbone, dict(model.backbone.provenance.options)
    if backbone.architecture in BACKBONES.names():
        usual = {f.name: f.default for f in fields(backbone_options(backbone.architecture))}
        own = {name: value for name, value in own.items() if name not in usual or plain(usual[name]) != plain(value)}
    shown = [asdict(model.view), backbone.clip.mean, backbone.clip.std]
    return _digest(model, json.dumps([backbone.architecture, *shown, own], sort_keys=True, default=str))


def made_by(model: Model, noted: str) -> bool:
    """True if ``noted`` is the network's fingerprint, or the one that was noted before options counted."""
    if noted == fingerprint(model):
        return True
    backbone = model.backbone
    before = json.dumps([backbone.architecture, asdict(model.view)])
    if backbone.takes_condition or model.run.get("changed"):
        before += json.dumps(backbone.provenance.options, sort_keys=True)
    return noted == _digest(model, before)


def _digest(model: Model, about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name, value in model.backbone.state_dict().items():
        digest.update(f"stages.{name.removeprefix('network.')}".encode())  # as indices of version 0.1 have it
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def copies_in(videos: VideoSet) -> list[str]:
    """What is read in the place of the user's files: kinds of copies, and sides to which frames are made smaller."""
    found = {f"{Path(v.path).suffix} {min(v.info.width, v.info.height)}" for v in videos.videos if is_copy(v)}
    return sorted(found | {f"resized {v.resized_to}" for v in videos.videos if v.resized_to})


def is_copy(video: Video) -> bool:
    """True of a copy by itself, as of --cache; a member of a shard is the user's file, or as good."""
    return bool(video.copy_of) and member_of(video.path) is None
