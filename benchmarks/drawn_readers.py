"""How often the readers of the plain drawn world are right, on files, and what noise and blur do to them.

``python benchmarks/drawn_readers.py PROMPTS PERIODIC``: folders that ``ssl-video data synthesize --kind prompts --train
200 --test 160`` and ``--kind periodic --train 40 --test 40`` have written.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ssl_video.datasets.base import Video
from ssl_video.datasets.drawing.prompts import prompt_of
from ssl_video.datasets.drawing.readers import read_cycle, read_prompt
from ssl_video.datasets.spec import all_videos, scanned
from ssl_video.video.reader import read_frames

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noise(levels: float) -> Change:
    """White noise of that standard deviation."""
    return lambda clip, rng: np.clip(clip + rng.normal(0, levels, clip.shape), 0, 255).astype(np.uint8)


def blur(pixels: float) -> Change:
    """A Gaussian blur of that standard deviation."""
    return lambda clip, rng: gaussian_filter(clip, (0, pixels, pixels, 0))


CHANGES: dict[str, Change] = {"as they are": lambda clip, rng: clip}
CHANGES |= {f"noise of {n} levels": noise(n) for n in (10, 20, 30, 40)}
CHANGES |= {f"blur of {n} pixels": blur(n) for n in (1, 2, 3)}


def part(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """16 frames, every second one, from a random frame on."""
    start = int(rng.integers(34))
    return clip[start : start + 31 : 2]


def prompts(folder: Path) -> None:
    """How many words are read otherwise."""
    videos = scanned(all_videos(folder)).videos
    clips = [read_frames(video.path, range(64)) for video in videos]
    for name, change in {**CHANGES, "16 frames, every second one": part}.items():
        wrong: Counter[str] = Counter()
        for number, (video, clip) in enumerate(zip(videos, clips, strict=True)):
            read, said = read_prompt(change(clip, np.random.default_rng(number))), prompt_of(video.caption or "")
            wrong.update(
                w for w in ("colour", "shape", "motion", "background") if getattr(read, w, "") != getattr(said, w)
            )
        print(f"prompts, {name}: {len(videos)} videos, wrong: {dict(wrong) or 'none'}")


def periodic(folder: Path) -> None:
    """How far periods and paths are from the true ones."""
    videos = all_videos(folder)
    classes, videos = videos.classes, scanned(videos).videos
    clips = [read_frames(video.path, range(64)) for video in videos]
    for name, change in CHANGES.items():
        print(f"periodic, {name}: {_compared(videos, classes, clips, change, 1)}")
    print(f"periodic, 16 frames, every second one: {_compared(videos, classes, clips, part, 2)}")


def _compared(
    videos: tuple[Video, ...], classes: tuple[str, ...], clips: list[np.ndarray], change: Change, step: int
) -> str:
    wrong, periods, places = 0, [], []
    for number, (video, clip) in enumerate(zip(videos, clips, strict=True)):
        place = Path(video.path)
        with np.load(place.parents[2] / "annotations" / f"{place.stem}.npz") as notes:
            period, centre_T2 = float(notes["period"]), notes["centre_T2"]
        read = read_cycle(change(clip, np.random.default_rng(number)))
        wrong += read is None or read.motion != classes[video.label]
        if read is not None:
            periods.append(abs(step * read.period / period - 1))
            if step == 1:
                places.append(np.sqrt(np.square(read.centre_T2 - centre_T2[read.times_T]).sum(1).mean()))
    path = f", path off by {max(places):.2f} pixels at most" if places else ""
    return f"{len(videos)} videos, {wrong} motions wrong, period off by {100 * max(periods):.2f} % at most{path}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Compare what is read of drawn videos with what was drawn.")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("periodic", type=Path)
    given = parser.parse_args()
    prompts(given.prompts)
    periodic(given.periodic)


if __name__ == "__main__":
    main()
