"""A synthetic set: drawn videos of known motion, as real files with exact masks and phases beside them.

Five kinds:

* ``clips``: eight classes (gravity, pendulum, orbit, Brownian motion, ...) that show in motion only. Textures, shapes,
  sizes, places, directions and the slow drift of the camera are random, so that neither one frame nor the amount of
  motion gives a class away. Each class has a natural speed.
* ``sequences``: each video is one pass of one of six actions, phase 0 to 1, under a random monotone time warp, with one
  object. No state comes twice, so that every frame has one right match in another video of the action. A single frame
  does show the phase, and often the action: that is the point of them.
* ``tracks``: larger objects that wander about and hide each other, with a mask for each; without classes.
* ``prompts``: one plain shape on a plain background, and a caption that says what it is and does (``drawing.prompts``).
  Of its test videos half, ten and ten in turn, show combinations of words that no training video shows.
* ``periodic``: one plain shape in a motion whose period, phase and path are known (``drawing.periodic``).

A set's folder holds ``videos/CLASS/NAME.mp4``, ``annotations/NAME.npz`` (``masks_THW``: uint8, 0 for the background,
n for the visible part of instance n; ``phase_T``: float32, the phase of instance 1, NaN where the motion has none; of
``periodic`` also ``period``, ``centre_T2`` and ``scale_T``), ``synthetic.json`` with the parameters, of ``prompts``
also ``prompts.csv`` (every video's words, and whether they are held out together) and, written last, ``manifest.csv``:
where it exists, the set is complete. Every frame is coded by itself with one quantiser, so that the files' structure
says nothing of speed.

``python -m ssl_video.datasets.synthetic FOLDER CONFIG START STOP STEP`` is a child process of ``synthesize``.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssl_video import processes
from ssl_video.datasets.drawing import periodic
from ssl_video.datasets.drawing.config import FRAMES, SIZES, Kind, SyntheticConfig
from ssl_video.datasets.drawing.motions import CLIPS, SEQUENCES
from ssl_video.datasets.drawing.prompts import MOTIONS, Prompt, choose, prompt_of, prompt_scene
from ssl_video.datasets.drawing.scene import Scene, clip, sequence, track
from ssl_video.datasets.manifest import write_manifest
from ssl_video.errors import UserError
from ssl_video.files import clear_dead, is_empty, write_text, written_aside
from ssl_video.processes import end_with_parent, held
from ssl_video.progress import bar
from ssl_video.readback import DAMAGE
from ssl_video.video.info import VideoError, VideoInfo
from ssl_video.video.scan import scan_one
from ssl_video.video.writer import Encoding, write_video

Numbered = tuple[int, dict[str, Any]]

CLASSES: dict[Kind, tuple[str, ...]] = {
    "clips": tuple(CLIPS),
    "sequences": tuple(SEQUENCES),
    "tracks": ("tracks",),
    "prompts": tuple(MOTIONS),
    "periodic": tuple(periodic.CYCLES),
}
FPS = 25
EVERY_FRAME_BY_ITSELF = Encoding({"qmin": "2", "qmax": "2"}, "mpeg4", gop=1)
VERSION = 1
"""Raised when the same parameters give other videos."""


def synthesize(
    out: Path | str,
    config: SyntheticConfig = SyntheticConfig(),
    *,
    workers: int | None = None,
    progress: bool = False,
    wait: bool = False,
) -> Path:
    """Write a set, resume one that was interrupted, or find it complete.

    What is written depends on ``config`` only, not on the number of ``workers``, by default one a core. With
    ``progress`` a bar is shown, on a terminal; with ``wait``, another process that writes the same set is waited for.

    Returns:
        The path of the manifest.

    Raises:
        UserError: if the folder holds something else, cannot be written, or is being written by another process.
    """
    out = Path(out)
    try:
        if _complete(out, config):  # also on a disk that cannot be written
            return out / "manifest.csv"
        with held(out, "The drawing of a synthetic set", wait=wait):
            if _complete(out, config):  # by another process meanwhile
                return out / "manifest.csv"
            _claim(out, config)
            rows = dict(_written(out, config, workers, progress))
            in_order = [rows[number] for number in range(config.train + config.test)]
            if config.kind == "prompts":
                _write_prompts(out / "prompts.csv", in_order)
            write_manifest(out / "manifest.csv", in_order)
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
    """Video ``number`` of a split: the same numbers always give the same video. See ``SyntheticConfig``.

    Everything random comes from one generator, keyed by seed, kind, split and number, so that splits share no texture.
    """
    size = SIZES[kind] if size is None else size
    rng = _generator(kind, number, split, seed)
    label = CLASSES[kind][number % len(CLASSES[kind])]
    if kind == "prompts":
        return prompt_scene(rng, _prompt(rng, number, split), size, frames)
    if kind == "periodic":
        return periodic.periodic_scene(rng, label, size, frames)
    if kind == "clips":
        return clip(rng, label, size, frames, sprites)
    if kind == "sequences":
        return sequence(rng, label, size, frames)
    return track(rng, label, size, frames, sprites)


def drawn_prompt(number: int, *, split: Literal["train", "test"] = "train", seed: int = 0) -> Prompt:
    """What video ``number`` of the kind ``prompts`` shows, without drawing it."""
    return _prompt(_generator("prompts", number, split, seed), number, split)


def _caption(kind: Kind, number: int, split: Literal["train", "test"], seed: int) -> str | None:
    """What a video shows, in words, without drawing it; only of plain shapes."""
    if kind == "prompts":
        return drawn_prompt(number, split=split, seed=seed).caption
    label = CLASSES[kind][number % len(CLASSES[kind])]
    return periodic.choose(_generator(kind, number, split, seed)).caption(label) if kind == "periodic" else None


def _prompt(rng: np.random.Generator, number: int, split: str) -> Prompt:
    turn, motion = divmod(number, len(MOTIONS))
    return choose(rng, list(MOTIONS)[motion], split == "test" and turn % 2 == 1)


def _generator(kind: Kind, number: int, split: str, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, list(CLASSES).index(kind), ("train", "test").index(split), number))


def _write_prompts(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A csv of every video's words, and whether colour, shape and motion are held out together."""
    lines = ["path,split,colour,shape,motion,background,held_out"]
    for row in rows:
        prompt = prompt_of(row["caption"])
        words = *astuple(prompt), str(prompt.held_out).lower()
        lines.append(
            ",".join((f"videos/{Path(row['path']).parent.name}/{Path(row['path']).name}", row["split"], *words))
        )
    write_text(path, "\n".join(lines) + "\n")


def _complete(out: Path, config: SyntheticConfig) -> bool:
    """True if the set is complete in ``out``. Raises UserError if another set is there."""
    recorded = out / "synthetic.json"
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder.")
    if recorded.is_file():
        try:
            before = json.loads(recorded.read_text(encoding="utf-8"))
        except DAMAGE:
            before = None
        if before != _parameters(config):
            raise UserError(
                f"{out} holds a synthetic set with other parameters (see {recorded}); choose another folder."
            )
        return (out / "manifest.csv").is_file()
    return False


def _parameters(config: SyntheticConfig) -> dict[str, Any]:
    return asdict(config) | {"size": config.side, "version": VERSION}


def _claim(out: Path, config: SyntheticConfig) -> None:
    """The folder, which is held, is this set's from now on; what a dead process began to write there is removed.

    Raises UserError if something else is there.
    """
    if not (out / "synthetic.json").is_file():
        if not is_empty(out):
            raise UserError(f"{out} is not empty and holds no synthetic set; choose another folder.")
        write_text(out / "synthetic.json", json.dumps(_parameters(config), indent=1) + "\n")
    for folder in (out, out / "annotations", *(out / "videos").glob("*")):
        clear_dead(folder)


def _written(out: Path, config: SyntheticConfig, workers: int | None, progress: bool) -> Iterator[Numbered]:
    """Write every video, in child processes if that is worth it; (number, row of the manifest) in any order."""
    total = config.train + config.test
    workers = max(1, min(processes.cores() if workers is None else workers, total // 8))
    shares = [range(w, total, workers) for w in range(workers)]
    rows = _alone(out, config, shares[0]) if workers == 1 else _together(out, config, shares)
    yield from bar(rows, "synthesize", "video", progress, total)


def _alone(out: Path, config: SyntheticConfig, numbers: Iterable[int]) -> Iterator[Numbered]:
    for number in numbers:
        yield number, write_one(out, config, number)


def _together(out: Path, config: SyntheticConfig, shares: Sequence[range]) -> Iterator[Numbered]:
    """One child process a share. A plain subprocess serves any caller, whatever threads and libraries it runs."""
    command = (sys.executable, "-m", "ssl_video.datasets.synthetic", str(out), json.dumps(asdict(config)))
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


def write_one(out: Path, config: SyntheticConfig, number: int) -> dict[str, Any]:
    """Write video ``number`` of the set and its annotations unless they are there; its row of the manifest.

    Numbers count the training videos first. Raises OSError if the files cannot be written.
    """
    split, index = ("train", number) if number < config.train else ("test", number - config.train)
    name, label = f"{split}-{index:05d}", CLASSES[config.kind][index % len(CLASSES[config.kind])]
    video = out.resolve() / "videos" / label / f"{name}.mp4"
    annotation = out / "annotations" / f"{name}.npz"
    info = _drawn(video, config.frames) if annotation.is_file() else None
    if info is None:
        scene = draw(
            config.kind,
            index,
            split=split,
            seed=config.seed,
            size=config.side,
            frames=config.frames,
            sprites=config.sprites,
        )
        write_video(video, scene.frames_THWC, FPS, EVERY_FRAME_BY_ITSELF)
        with written_aside(annotation) as aside:  # last: where it exists, the video is whole
            notes: dict[str, Any] = {"masks_THW": scene.masks_THW, "phase_T": scene.phase_T, **scene.notes}
            np.savez_compressed(aside, **notes)
    shown = "" if config.kind == "tracks" else label
    said = _caption(config.kind, index, split, config.seed)
    facts = asdict(info or scan_one(str(video)))
    facts["state"] = f"{video.stat().st_size}|"  # without the time: the same set is the same manifest
    return {"path": str(video), "label": shown, "group": name, "split": split, "caption": said} | facts


def _drawn(video: Path, frames: int) -> VideoInfo | None:
    """What the video holds, if it was written before and is whole."""
    try:
        info = scan_one(str(video))
    except (OSError, VideoError):
        return None
    return info if info.frames == frames else None


def main(argv: Sequence[str]) -> None:
    """The child process: write a share of the videos; a row a line as JSON, or text that says why there is none."""
    end_with_parent()
    out, config = Path(argv[0]), SyntheticConfig(**json.loads(argv[1]))
    try:
        for number, row in _alone(out, config, range(*map(int, argv[2:]))):
            print(json.dumps((number, row)), flush=True)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)  # the parent is gone or says so itself
    except OSError as error:
        print(json.dumps(error.strerror or str(error)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
