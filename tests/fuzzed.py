"""Small valid things, what damage does to them, and the library's own way to read them again.

``KINDS`` maps the name of a kind to a pair: ``draw(folder)`` writes whole things and returns those of its files that
are to be damaged, and ``look(folder, name, whole)`` reads what holds the file ``name``. It returns if that is fine,
raises what users see as one sentence (``SENTENCES``), and ``Wrong`` for what was read and is not what ``whole`` has.
"""

import contextlib
import json
import os
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_video.errors import UserError
from ssl_video.run import Lists, Run
from ssl_video.video.info import VideoError, VideoInfo
from tests import videos
from tests.damage import damaged
from tests.fuzzed_states import Wrong, draw_checkpoints, draw_columns, look_at_checkpoint, look_at_columns

SENTENCES = (UserError, VideoError)
INFO = VideoInfo(40, 25.0, 64, 48, 1.6, "h264", content="0123456789abcdef")


@dataclass(frozen=True)
class Kind:
    """See the module."""

    draw: Callable[[Path], list[str]]
    look: Callable[[Path, str, Path], None]


# videos

CONTAINERS = {
    "b.avi": ("mpeg4", "yuv420p"), "vp9.webm": ("libvpx-vp9", "yuv420p"), "hevc.mkv": ("libx265", "yuv420p"),
    "png.mov": ("png", "rgb24"), "m2.ts": ("mpeg2video", "yuv420p"), "g.gif": ("gif", "rgb8"),
    "f.flv": ("flv", "yuv420p"),
    "w.wmv": ("wmv2", "yuv420p"), "vp8.ogv": ("libvpx", "yuv420p"), "mj.avi": ("mjpeg", "yuvj420p"),
    "ffv1.mkv": ("ffv1", "yuv420p"), "p.mp4": ("mpeg4", "yuv420p"), "raw.avi": ("rawvideo", "yuv420p"),
}  # fmt: skip


def _draw_files(folder: Path) -> list[str]:
    videos.mp4(folder / "h264.mp4", count=16, gop=4)
    videos.mp4(folder / "h264.mkv", count=16, gop=4)
    videos.avi_with_b_frames(folder / "bf.avi", count=16)
    videos.variable_rate(folder / "vfr.mp4", count=12)
    videos.of_sizes(folder / "sizes.avi", [(64, 48), (32, 48)], count=5)
    for name, (codec, pixels) in CONTAINERS.items():
        videos.special(folder / name, codec, pixels, count=8)
    np.save(folder / "array.npy", np.stack(videos.pictures(6)))
    return sorted(path.name for path in folder.iterdir())


def _look_at_file(folder: Path, name: str, _whole: Path) -> None:
    from ssl_video.video.reader import iterate_frames, read_frames
    from ssl_video.video.scan import scan_one

    path = str(folder / name)
    try:
        info = VideoInfo(6, 25.0, 64, 48, 0.24, "array") if name.endswith(".npy") else scan_one(path)
    except VideoError as error:
        if error.__cause__ is not None:  # memory that ended: the machine's reason
            raise
        try:
            found = read_frames(path, [0])
        except VideoError:
            raise error from None
        raise Wrong(f"the scan refuses it ({error}), but the reader gives a frame {found.shape}") from None
    frames = list(iterate_frames(path))
    if name.endswith(".npy"):
        read_frames(path, [0, len(frames) - 1])
        return
    if len(frames) != info.frames or not 0 < info.fps <= 1000:
        raise Wrong(f"the scan counts {info.frames} frames at {info.fps}, the reader {len(frames)}")
    if {frame.shape for frame in frames} != {(info.height, info.width, 3)}:
        raise Wrong("frames have other sizes than the scan says")
    if not _whole_pictures(path, info.frames):
        return
    last = info.frames - 1
    for wanted in ([last, 0], [last // 2], list(range(info.frames))):
        if not np.array_equal(read_frames(path, wanted, info), [frames[n] for n in wanted]):
            raise Wrong(f"the reader gives other frames {wanted[:2]} than come one after the other")


def _whole_pictures(path: str, count: int) -> bool:
    """False where a picture may be damaged inside: some decoders leave there whatever lay in memory."""
    from ssl_video.video.reader import decoded, opened

    try:
        with opened(path) as (container, stream):
            stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
            whole = sum(1 for _ in decoded(container, stream, strict=True)) == count
            return whole and stream.codec_context.name != "ffv1"  # which conceals whatever it is told
    except VideoError:
        return False


# what a training and the evaluations note

TABLE = """# A table
title: Drawn videos
seeds: 2
data:
  one: {spec: "folder:videos", splits: [1, 2], cache: raw, cache_short_side: 72}
  other: videos
rows:
  - {name: scratch, model: "random:r2plus1d_4?width=2", protocol: linear, options: {clips: 2}, published: {one: 0.5}}
  - {name: speed, model: "recipe:speediness:small", protocol: linear, pretrain: {steps: 20}, only: [one]}
"""


def _lists(folder: Path) -> Lists:
    from ssl_video.datasets.base import Video, VideoSet

    def one(name: str) -> VideoSet:
        made = tuple(Video(str(folder / f"{name}{n}.mp4"), (n % 2,), info=INFO) for n in range(3))
        return VideoSet(name, made, ("a", "b"))

    return Lists(one("training"), one("held out"))


def _draw_headers(folder: Path) -> list[str]:
    from ssl_video.config import save_yaml
    from ssl_video.datasets.manifest import manifest_rows, write_manifest
    from ssl_video.eval.results import Prediction, Result, write_results
    from ssl_video.pretrain_config import PretrainConfig

    config = PretrainConfig.from_mapping(_recipe()).to_mapping()
    run = Run(folder / "run")
    run.write_config(config)
    run.write_lists(_lists(folder))
    run.note_seen_before(["0123456789abcdef", "ucf101:train1"])
    run.records_file.write_text("".join(json.dumps({"step": n, "loss": 1 / n, "lr": 0.1}) + "\n" for n in range(1, 6)))
    run.note_replaced({"a.mp4": "it is damaged"})
    said = Prediction("v.mp4", "a", "b", 0.5, ("b", "a"))
    result = Result("linear", {"top1": 0.5}, options={"k": 3, "most": float("inf")}, counts={"test": 8, "classes": 2},
                    classes=["a", "b"], confusion=[[2, 2], [1, 3]], per_video={"v": {"j": 0.5}},
                    predictions=[said])  # fmt: skip
    write_results(run.probe_file, [result])
    write_results(folder / "results.json", [result], predictions=True)
    save_yaml(folder / "recipe.yaml", config)
    (folder / "table.yaml").write_text(TABLE)
    write_manifest(folder / "manifest.csv", manifest_rows(_lists(folder).training, "train"))
    (folder / "plain.csv").write_text("training0.mp4,a\ntraining1.mp4,b\ntraining2.mp4,a\n")
    features = folder / "features"
    features.mkdir()
    about = {"clips": 2, "weights": "0123", "data": "4567", "videos": 3, "shard": 256}
    (features / "about.json").write_text(json.dumps(about, indent=1))
    rows = [{"number": n, "path": f"{n}.mp4", "labels": [n], "classes": ["a"], "starts": [0, 8],
             "times_s": [[0, 1.0], [1.0, 2.0]]} for n in range(3)]  # fmt: skip
    (features / "00000.json").write_text(
        json.dumps({"rows": rows, "problems": [{"path": "x.mp4", "reason": "it is damaged"}]})
    )
    np.save(features / "00000.npy", np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32))
    for path in ("training0.mp4", "training1.mp4", "training2.mp4"):
        (folder / path).touch()
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".mp4")


def _recipe() -> dict:
    from ssl_video.recipes import load_recipe

    return {**load_recipe("speediness:small"), "steps": 20, "backbone": {"name": "r2plus1d_4", "width": 2}}


def _look_at_header(folder: Path, name: str, whole: Path) -> None:
    from ssl_video.apps.compare import compare_runs
    from ssl_video.apps.run_report import config_of
    from ssl_video.apps.table import entries_of, load_table
    from ssl_video.apps.vectors import load_vectors
    from ssl_video.datasets.spec import load_splits
    from ssl_video.eval.results import read_results, side_by_side
    from ssl_video.pretrain_config import PretrainConfig
    from ssl_video.recipes import load_recipe
    from ssl_video.train.report import last_values

    run = Run(folder / "run")
    if name.startswith("run/"):
        config_of(run)
        compare_runs([run.folder, whole / "run"])
        last_values(run.records())
        run.lists(), run.seen_before(), run.note_replaced({"b.mp4": "gone"}), run.cut_records(3)
        assert all(record["step"] <= 3 for record in run.records())
    elif name == "results.json":
        for result in read_results(folder / name):
            result.table(), result.row(), result.to_dict(), result.intervals
            side_by_side([result], {result.model: "m"})
    elif name == "recipe.yaml":
        PretrainConfig.from_mapping(load_recipe(str(folder / name)))
    elif name == "table.yaml":
        list(entries_of(load_table(str(folder / name), {"one": "videos"})))
    elif name.endswith(".csv"):
        load_splits(str(folder / name))
    else:
        vectors = load_vectors(folder / "features")
        assert len(vectors.vectors_ND) == len(vectors.paths)


# indices


def _draw_indices(folder: Path) -> list[str]:
    from ssl_video.apps.index_build import Extracted, change
    from ssl_video.eval.features import Features
    from tests import indices

    for name in ("exact", "IVF2,SQ8", "IVF2,PQ4x4", "HNSW4", "LSH"):
        stored = indices.made(folder / name, indices.entries_of(0, 8), indices.vectors_of(24), name)
        change(stored, Extracted(None, Features([], [], [], []), {}), {3}, {})
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _look_at_index(folder: Path, name: str, whole: Path) -> None:
    from ssl_video.apps.index_folder import open_index
    from ssl_video.apps.ranking import best_clip, rank_moments, rank_videos
    from ssl_video.apps.vectors import load_vectors

    out = name.partition("/")[0]
    stored, right = open_index(folder / out), open_index(whole / out)
    asked = {"path": "/v/4.mp4", "state": (99, 10**18 + 4), "content": f"{4:016x}"}
    known = [stored.having(kind, [value]) for kind, value in asked.items()]
    if stored.header != right.header or stored.entries != right.entries or {len(found[0]) for found in known} != {1}:
        raise Wrong("another header or other videos than were written")
    queries_QD = np.array(right.vectors_RD[:3])
    try:
        for rank in (rank_videos, rank_moments):
            for rerank in (8, 0):
                rank(stored, queries_QD, 12, rerank, 2, [0])
        best_clip(stored, queries_QD, 7)
    except ValueError as error:  # which ``search`` says in a sentence
        raise UserError(f"{error}.") from None
    load_vectors(folder / out)


# what scans found


def _draw_databases(folder: Path) -> list[str]:
    from ssl_video.video.info import Problem
    from ssl_video.video.known import Known

    with _cache(folder):
        memory = Known()
        for n in range(40):
            memory.put(f"/v/{n}.mp4", f"99|{n}", INFO if n % 3 else Problem(f"/v/{n}.mp4", "it is damaged"))
        memory.close()
    return ["probes.sqlite"]


def _look_at_database(folder: Path, _name: str, whole: Path) -> None:
    from ssl_video.video.info import Problem
    from ssl_video.video.known import Known

    with warnings.catch_warnings(), _cache(folder):
        warnings.simplefilter("ignore")
        memory = Known()
        for n in range(40):
            found = memory.get(f"/v/{n}.mp4", f"99|{n}")
            if found not in (None, INFO if n % 3 else Problem(f"/v/{n}.mp4", "it is damaged")):
                raise Wrong(f"of file {n} is known what was never found: {found}")
        memory.put("/v/new.mp4", "1|2", INFO)
        memory.close()


@contextlib.contextmanager
def _cache(folder: Path) -> Iterator[None]:
    before = os.environ.get("SSL_VIDEO_CACHE")
    os.environ["SSL_VIDEO_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["SSL_VIDEO_CACHE"]
        if before is not None:
            os.environ["SSL_VIDEO_CACHE"] = before


KINDS = {
    "files": Kind(_draw_files, _look_at_file),
    "headers": Kind(_draw_headers, _look_at_header),
    "indices": Kind(_draw_indices, _look_at_index),
    "checkpoints": Kind(draw_checkpoints, look_at_checkpoint),
    "columns": Kind(draw_columns, look_at_columns),
    "databases": Kind(_draw_databases, _look_at_database),
}
TEXTS = (".json", ".jsonl", ".yaml", ".csv")
"""Files whose words are changed, too."""


def make_case(kind: str, number: int, seed: int, names: Sequence[str], whole: Path, case: Path) -> str:
    """Write ``case``, the folder ``whole`` with one file damaged; its name. All is keyed by kind, seed and number."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
    name = names[number % len(names)]
    shutil.rmtree(case, ignore_errors=True)
    if kind == "files":
        case.mkdir(parents=True)
    else:
        shutil.copytree(whole, case)
    (case / name).write_bytes(damaged((whole / name).read_bytes(), rng, Path(name).suffix in TEXTS))
    return name


def outcome(kind: str, name: str, case: Path, whole: Path) -> tuple[str, str]:
    """``fine``, ``sentence``, ``wrong`` or ``traceback``, and what was said."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            KINDS[kind].look(case, name, whole)
    except Wrong as error:
        return "wrong", str(error)
    except SENTENCES as error:
        text = str(error)
        good = "\n" not in text and (not isinstance(error, UserError) or text.endswith((".", "?")))
        return ("sentence" if good else "wrong"), text
    except Exception:
        return "traceback", traceback.format_exc()
    return "fine", ""
