"""Synthetic videos whose classes show only in motion, written as real video files with exact masks and phases beside.

Shapes with random textures move over a random texture under a slowly drifting camera; neither one frame nor the mean
motion gives the class away. Three kinds:

* ``clips``: eight motions with a natural time scale (bounce, pendulum, orbit, spin, pulse, brown, stopgo, drift);
* ``sequences``: one pass of one of six actions from phase 0 to 1, under a random monotone time warp, one shape;
* ``tracks``: several large shapes that wander and occlude each other.

A set is a folder: ``videos/<class>/<name>.mp4`` (every frame a key frame, so that the encoding tells nothing about
speed), ``annotations/<name>.npz`` with ``masks_THW`` (uint8, 0 background, n instance n) and ``phase_T`` (float32, of
instance 1, NaN where there is none), ``synthetic.json`` with what was asked for, and ``manifest.csv``, written last.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from ssl_video.datasets.base import DATASETS, Splits, Video, VideoSet
from ssl_video.datasets.drawing.motions import CLIPS, SEQUENCES
from ssl_video.datasets.drawing.scene import Scene, clip, sequence, track
from ssl_video.datasets.manifest import manifest_rows, read_manifest, write_manifest
from ssl_video.errors import UserError
from ssl_video.files import write_text, written_aside
from ssl_video.video.info import VideoInfo
from ssl_video.video.writer import write_video

Kind = Literal["clips", "sequences", "tracks"]
LABELS: dict[str, tuple[str, ...]] = {"clips": tuple(CLIPS), "sequences": tuple(SEQUENCES), "tracks": ("wander",)}
SIZES: dict[str, int] = {"clips": 56, "sequences": 64, "tracks": 128}
FPS = 25
TEST_SEEDS = 500_000
"""Numbers from here on belong to test videos: no texture, shape or path is shared with a training video."""


@dataclass(frozen=True)
class Plan:
    """What a set consists of."""

    kind: Kind
    size: int
    frames: int
    sprites: int | None
    train: int
    test: int
    seed: int

    def names(self) -> list[tuple[str, str, int]]:
        """(split, label, number) of every video; the labels take turns."""
        labels = LABELS[self.kind]
        parts = (("train", self.train, 0), ("test", self.test, TEST_SEEDS))
        return [(split, labels[i % len(labels)], first + i) for split, count, first in parts for i in range(count)]


def draw(kind: Kind, label: str, number: int, seed: int, size: int, frames: int, sprites: int | None = None) -> Scene:
    """One video, a function of its arguments alone."""
    rng = np.random.default_rng([seed, number, list(LABELS).index(kind)])
    if kind == "clips":
        return clip(rng, label, size, frames, sprites)
    if kind == "sequences":
        return sequence(rng, label, size, frames)
    return track(rng, label, size, frames, sprites)


def synthesize(
    out: Path | str,
    kind: Kind = "clips",
    size: int | None = None,
    frames: int | None = None,
    sprites: int | None = None,
    train: int = 400,
    test: int = 160,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Write a set and return its manifest. A set that is there is kept, a part of one is completed.

    Args:
        out: folder of the set.
        kind: see above.
        size: side of the square frames in pixels; by default 56, 64 and 128 for the three kinds.
        frames: frames of a video, 64 by default.
        sprites: shapes in a video of clips or tracks; by default a random number.
        train: training videos.
        test: test videos.
        seed: of everything drawn.
        workers: drawing processes, one a core by default; the files do not depend on it.
        progress: show a bar, on a terminal.

    Raises:
        UserError: for numbers that make no video, or a folder that holds something else.
    """
    out = Path(out)
    plan = Plan(kind, size or SIZES[kind], frames or 64, sprites, train, test, seed)
    _check(plan, out)
    manifest = out / "manifest.csv"
    if manifest.exists():
        return manifest
    write_text(out / "synthetic.json", json.dumps(asdict(plan), indent=1) + "\n")
    workers = max(1, min(workers or len(os.sched_getaffinity(0)), train + test))
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "ssl_video.datasets.synthetic", str(out), str(part), str(workers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in range(workers)
    ]
    hidden = not (progress and sys.stderr.isatty())
    try:
        with tqdm(total=train + test, unit="video", desc="draw", disable=hidden) as bar:
            for child in children:
                assert child.stdout is not None
                for _line in child.stdout:
                    bar.update(1)
        failed = [child.wait() for child in children if child.wait()]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    if failed:
        raise UserError(
            f"Drawing into {out} failed (exit code {failed[0]}, see above); mend that and repeat the command."
        )
    write_manifest(manifest, _rows(plan, out))
    return manifest


def _check(plan: Plan, out: Path) -> None:
    if plan.size < 16 or plan.frames < 2 or plan.train < 1 or plan.test < 0 or (plan.sprites or 1) < 1:
        raise UserError("A synthetic set needs --size 16 or more, --frames 2 or more, --sprites and --train 1 or more.")
    if plan.kind == "sequences" and plan.sprites not in (None, 1):
        raise UserError("A sequence shows one shape; leave --sprites out.")
    if plan.train >= TEST_SEEDS:
        raise UserError(f"A set has at most {TEST_SEEDS - 1} training videos.")
    note = out / "synthetic.json"
    if note.exists():
        if json.loads(note.read_text(encoding="utf-8")) != asdict(plan):
            raise UserError(f"{out} holds a synthetic set with other numbers ({note}); choose another --out.")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not a synthetic set; choose another --out.")


def video_path(out: Path, split: str, label: str, number: int) -> Path:
    """Where a video lies."""
    return out / "videos" / label / f"{split}_{label}_{number % TEST_SEEDS:05d}.mp4"


def _rows(plan: Plan, out: Path) -> list[dict]:
    side = plan.size + plan.size % 2
    info = VideoInfo(plan.frames, float(FPS), side, side, plan.frames / FPS, "mpeg4")
    labels = LABELS[plan.kind]
    rows = []
    for split in ("train", "test"):
        videos = tuple(
            Video(str(video_path(out, s, label, n).absolute()), (labels.index(label),), f"{split}{n}", info)
            for s, label, n in plan.names()
            if s == split
        )
        rows += manifest_rows(VideoSet(split, videos, labels), split)
    return rows


def _draw_part(out: Path, part: int, parts: int) -> None:
    """What a child does: every ``parts``-th video, but for those that are there."""
    plan = Plan(**json.loads((out / "synthetic.json").read_text(encoding="utf-8")))
    for split, label, number in plan.names()[part::parts]:
        path = video_path(out, split, label, number)
        notes = out / "annotations" / f"{path.stem}.npz"
        if not (path.exists() and notes.exists()):
            scene = draw(plan.kind, label, number, plan.seed, plan.size, plan.frames, plan.sprites)
            with written_aside(notes) as aside:
                np.savez_compressed(aside, masks_THW=scene.masks_THW, phase_T=scene.phase_T)
            write_video(path, scene.frames_THWC, FPS, "mpeg4", {"qmin": "2", "qmax": "3"}, gop=1)
        print(path.name, flush=True)


@DATASETS.register("synthetic")
def load_synthetic(root: Path, split: int) -> Splits:
    """A set made by 'ssl-video data synthesize'."""
    return read_manifest(root / "manifest.csv")


def main(argv: Sequence[str]) -> None:
    """The child's command line."""
    _draw_part(Path(argv[0]), int(argv[1]), int(argv[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
