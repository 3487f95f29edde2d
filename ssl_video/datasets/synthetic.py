"""A synthetic set: drawn videos of known motion, as real files with exact masks and phases beside them.

Three kinds:

* ``clips``: eight classes (gravity, pendulum, orbit, Brownian motion, ...) that show in motion only. Textures, shapes,
  sizes, places, directions and the slow drift of the camera are random, so that neither one frame nor the amount of
  motion gives a class away. Each class has a natural speed.
* ``sequences``: each video is one pass of one of six actions, phase 0 to 1, under a random monotone time warp, with one
  object. No state comes twice, so that every frame has one right match in another video of the action. A single frame
  does show the phase, and often the action: that is the point of them.
* ``tracks``: larger objects that wander about and hide each other, with a mask for each; without classes.

A set's folder holds ``videos/CLASS/NAME.mp4``, ``annotations/NAME.npz`` (``masks_THW``: uint8, 0 for the background,
n for the visible part of instance n; ``phase_T``: float32, the phase of instance 1, NaN where the motion has none),
``synthetic.json`` with the parameters and, written last, ``manifest.csv``: where it exists, the set is complete. Every
frame is coded by itself with one quantiser, so that the files' structure says nothing of speed.

``python -m ssl_video.datasets.synthetic FOLDER PARAMETERS START STOP STEP`` is a child process of ``synthesize``.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from ssl_video.datasets.drawing.motions import CLIPS, SEQUENCES
from ssl_video.datasets.drawing.scene import Scene, clip, sequence, track
from ssl_video.datasets.manifest import write_manifest
from ssl_video.errors import UserError, nearest
from ssl_video.files import write_text, written_aside
from ssl_video.video.scan import scan_one
from ssl_video.video.writer import write_video

Kind = Literal["clips", "sequences", "tracks"]
Numbered = tuple[int, dict[str, Any]]

CLASSES: dict[Kind, tuple[str, ...]] = {"clips": tuple(CLIPS), "sequences": tuple(SEQUENCES), "tracks": ("tracks",)}
SIZES: dict[Kind, int] = {"clips": 56, "sequences": 64, "tracks": 128}
SMALLEST: dict[Kind, int] = {"clips": 32, "sequences": 32, "tracks": 128}
FRAMES = 64
FPS = 25
QUANTISER = {"qmin": "2", "qmax": "2"}
VERSION = 1
"""Raised when the same parameters give other videos."""


@dataclass(frozen=True)
class Parameters:
    """All that a set depends on. ``sprites`` None means a random number of objects."""

    kind: Kind
    size: int
    frames: int
    sprites: int | None
    train: int
    test: int
    seed: int
    version: int = VERSION


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
    """Write a set, go on with one that was interrupted, or find it complete.

    What is written depends on the parameters only, not on the number of workers.

    Args:
        out: the set's folder.
        kind: ``clips``, ``sequences`` or ``tracks``.
        size: side of the square frames in pixels, even; by default 56, 64 or 128, by kind.
        frames: frames of a video, at 25 frames per second; by default 64.
        sprites: objects in a video; by default a random number, and one in ``sequences``.
        train: training videos; classes take turns.
        test: test videos, of which nothing is shared with training videos but the classes.
        seed: of everything drawn.
        workers: processes; by default one a core.
        progress: show a bar, on a terminal.

    Returns:
        The path of the manifest.

    Raises:
        UserError: if a parameter makes no sense, the folder holds something else or cannot be written.
    """
    if kind not in CLASSES:
        raise UserError(f"There is no kind of synthetic set called {kind!r}; {nearest(kind, CLASSES)}")
    size = SIZES[kind] if size is None else size
    set_ = checked(Parameters(kind, size, FRAMES if frames is None else frames, sprites, train, test, seed))
    out = Path(out)
    try:
        if _claimed(out, set_):
            return out / "manifest.csv"
        rows = dict(_written(out, set_, workers, progress))
        write_manifest(out / "manifest.csv", [rows[number] for number in range(train + test)])
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}.") from None
    return out / "manifest.csv"


def draw(
    kind: Kind,
    number: int,
    *,
    split: Literal["train", "test"] = "train",
    seed: int = 0,
    size: int | None = None,
    frames: int = FRAMES,
    sprites: int | None = None,
) -> Scene:
    """Video ``number`` of a split: the same numbers always give the same video. See ``synthesize`` for the arguments.

    Everything random comes from one generator, keyed by seed, kind, split and number, so that splits share no texture.
    """
    size = SIZES[kind] if size is None else size
    rng = np.random.default_rng((seed, list(CLASSES).index(kind), ("train", "test").index(split), number))
    label = CLASSES[kind][number % len(CLASSES[kind])]
    if kind == "clips":
        return clip(rng, label, size, frames, sprites)
    if kind == "sequences":
        return sequence(rng, label, size, frames)
    return track(rng, label, size, frames, sprites)


def checked(set_: Parameters) -> Parameters:
    """The parameters, if a set can be drawn with them. Raises UserError."""
    smallest = SMALLEST[set_.kind]
    if set_.size % 2 or set_.size < smallest:
        raise UserError(f"The size of {set_.kind} must be even and at least {smallest} pixels, not {set_.size}.")
    if set_.frames < 8:
        raise UserError(f"A video needs at least 8 frames, not {set_.frames}.")
    if set_.kind == "sequences" and set_.sprites not in (None, 1):
        raise UserError(f"Sequences have one object, not {set_.sprites}; leave out the number of sprites.")
    if set_.sprites is not None and not 1 <= set_.sprites <= 20:
        raise UserError(f"The number of sprites must be between 1 and 20, not {set_.sprites}.")
    if set_.train < 1 or set_.test < 0:
        raise UserError(f"There must be at least 1 training and 0 test videos, not {set_.train} and {set_.test}.")
    if set_.seed < 0:
        raise UserError(f"The seed must not be negative, but it is {set_.seed}.")
    return set_


def _claimed(out: Path, set_: Parameters) -> bool:
    """True if the set is complete in ``out``; else the folder is this set's from now on. Raises UserError."""
    recorded = out / "synthetic.json"
    if recorded.is_file():
        try:
            before = json.loads(recorded.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != asdict(set_):
            raise UserError(
                f"{out} holds a synthetic set with other parameters (see {recorded}); choose another folder."
            )
        return (out / "manifest.csv").is_file()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no synthetic set; choose another folder.")
    write_text(recorded, json.dumps(asdict(set_), indent=1) + "\n")
    return False


def _written(out: Path, set_: Parameters, workers: int | None, progress: bool) -> Iterator[Numbered]:
    """Write every video, in child processes if that is worth it; (number, row of the manifest) in any order."""
    total = set_.train + set_.test
    workers = max(1, min(workers or len(os.sched_getaffinity(0)), total // 8))
    shares = [range(w, total, workers) for w in range(workers)]
    rows = _alone(out, set_, shares[0]) if workers == 1 else _together(out, set_, shares)
    hidden = not (progress and sys.stderr.isatty())
    yield from tqdm(rows, total=total, unit="video", desc="synthesize", disable=hidden)


def _alone(out: Path, set_: Parameters, numbers: Iterable[int]) -> Iterator[Numbered]:
    for number in numbers:
        yield number, write_one(out, set_, number)


def _together(out: Path, set_: Parameters, shares: Sequence[range]) -> Iterator[Numbered]:
    """One child process a share. A plain subprocess serves any caller, whatever threads and libraries it runs."""
    command = (sys.executable, "-m", "ssl_video.datasets.synthetic", str(out), json.dumps(asdict(set_)))
    children = [
        subprocess.Popen((*command, str(s.start), str(s.stop), str(s.step)), stdout=subprocess.PIPE, text=True)
        for s in shares
    ]
    answers: queue.Queue[Any] = queue.Queue()
    readers = [threading.Thread(target=_read, args=(child, answers), daemon=True) for child in children]
    try:
        for reader in readers:
            reader.start()
        for _ in range(sum(len(s) for s in shares)):
            answer = answers.get()
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        for child, reader in zip(children, readers, strict=True):
            child.kill()
            child.wait()
            reader.join()


def _read(child: subprocess.Popen[str], answers: queue.Queue[Any]) -> None:
    """Pass on a child's rows, or what went wrong in it."""
    assert child.stdout is not None
    with child.stdout as lines:
        for line in lines:
            answer = json.loads(line)
            answers.put(OSError(answer) if isinstance(answer, str) else answer)
    if child.wait() != 0:
        answers.put(RuntimeError(f"a drawing process ended with exit code {child.returncode}"))


def write_one(out: Path, set_: Parameters, number: int) -> dict[str, Any]:
    """Write video ``number`` of the set and its annotations unless they are there; its row of the manifest.

    Numbers count the training videos first. Raises OSError if the files cannot be written.
    """
    split, index = ("train", number) if number < set_.train else ("test", number - set_.train)
    name, label = f"{split}-{index:05d}", CLASSES[set_.kind][index % len(CLASSES[set_.kind])]
    video = out.resolve() / "videos" / label / f"{name}.mp4"
    annotation = out / "annotations" / f"{name}.npz"
    if not (video.is_file() and annotation.is_file()):
        scene = draw(
            set_.kind, index, split=split, seed=set_.seed, size=set_.size, frames=set_.frames, sprites=set_.sprites
        )
        write_video(video, scene.frames_THWC, FPS, "mpeg4", QUANTISER, gop=1)
        with written_aside(annotation) as aside:  # last: where it exists, the video is whole
            np.savez_compressed(aside, masks_THW=scene.masks_THW, phase_T=scene.phase_T)
    shown = "" if set_.kind == "tracks" else label
    return {"path": str(video), "label": shown, "group": name, "split": split} | asdict(scan_one(str(video)))


def main(argv: Sequence[str]) -> None:
    """The child process: write a share of the videos; a row a line as JSON, or text that says why there is none."""
    out, set_ = Path(argv[0]), Parameters(**json.loads(argv[1]))
    try:
        for number, row in _alone(out, set_, range(*map(int, argv[2:]))):
            print(json.dumps((number, row)), flush=True)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # the parent is gone or says so itself
    except OSError as error:
        print(json.dumps(error.strerror or str(error)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
