"""Do windows of long videos show their seams? Frame differences there over those elsewhere, without and with overlap.

    OMP_NUM_THREADS=2 python benchmarks/seams.py WORK --run RUN --upscaler RUN --data SPEC

RUN draws ``--number`` videos of ``--frames`` frames from nothing, a multiple of what it was trained on (the last window
ends with the video, and overlaps the one before where it has to). The upscaler, a run of video_upscaling, enlarges as
many clips of the videos of SPEC, made small. Both do so in windows with each of ``--overlap`` frames in common, from
the same noise. Either run may be left out.

Of each a line is printed: the mean over the videos of ``seam_ratio``, 1 where a seam is as any other place, its
standard deviation, and the ratio of real clips at the same places (the clips of SPEC; a video that is too short for
the run's stride is not used).
WORK keeps the videos (``NAME.npy``) and ``table.md``; the same line goes on with what is missing.

A video of 32 frames of 32x32 in 25 steps costs some 2 CPU seconds, and as much to enlarge to 64x64: 16 of each, with
two overlaps, are over in a few minutes on two cores. ``--quick`` draws two videos in two steps.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch

from benchmarks.kept import check_same, kept_array, table
from ssl_video.apps.generate_measures import lowered, seam_ratio
from ssl_video.capabilities import Conditions, Generates, Sampling, Upscales
from ssl_video.datasets.spec import all_videos, scanned
from ssl_video.errors import UserError
from ssl_video.eval.generated import clips_of
from ssl_video.files import write_text
from ssl_video.model import Model, load_model
from ssl_video.progress import bar, showing

HEAD = ("videos", "overlap", "seam ratio", "standard deviation", "real clips there", "videos measured")


def longer(model: Model, number: int, frames: int, sampling: Sampling) -> np.ndarray:
    """(N, T, S, S, 3) videos that ``model`` draws from nothing, the n-th always from the same noise."""
    by, size = model.need(Generates), model.view.size
    videos = []
    for n in bar(range(number), "generate", "video"):
        generator = torch.Generator().manual_seed(n)
        drawn = by.generate((1, frames, size, size), Conditions(), sampling, generator, model.backbone)
        videos.append(drawn[0].cpu().numpy())
    return np.stack(videos)


def larger(model: Model, real_NTHWC: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Real clips made small and, by ``model``, large again."""
    by, videos = model.need(Upscales), []
    for n, clip_THWC in enumerate(bar(real_NTHWC, "upscale", "video")):
        low_BTHWC = torch.from_numpy(lowered(clip_THWC, by.factor))[None]
        generator = torch.Generator().manual_seed(n)
        videos.append(by.upscale(low_BTHWC, sampling, generator, model.backbone)[0].cpu().numpy())
    return np.stack(videos)


def ratios(videos_NTHWC: np.ndarray | None, window: int, overlap: int) -> np.ndarray:
    """Of each video that has one."""
    found = [] if videos_NTHWC is None else [seam_ratio(v_THWC, window, overlap) for v_THWC in videos_NTHWC]
    return np.array([ratio for ratio in found if ratio is not None])


def line(name: str, videos_NTHWC: np.ndarray, real_NTHWC: np.ndarray | None, window: int, overlap: int) -> list[object]:
    """A row of the table."""
    found_N, real_N = ratios(videos_NTHWC, window, overlap), ratios(real_NTHWC, window, overlap)
    numbers = [float(found_N.mean()), float(found_N.std())] if len(found_N) else ["", ""]
    return [name, overlap, *numbers, float(real_N.mean()) if len(real_N) else "", len(found_N)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    for name in ("run", "upscaler", "data"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--overlap", default="0,2")
    for name, default in {"number": 16, "frames": 32, "steps": 25}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.number, given.steps = 2, 2
    if given.upscaler and not given.data:
        parser.error("--upscaler enlarges real clips; name videos by --data.")
    if not (given.run or given.upscaler):
        parser.error("name a run of video_diffusion by --run, of video_upscaling by --upscaler, or both.")
    names = ("run", "upscaler", "data", "number", "frames", "steps")
    check_same(given.work, {name: getattr(given, name) for name in names})
    with showing():
        found = table(HEAD, measured(given))
    write_text(given.work / "table.md", f"{found}\n")
    print(found)


def measured(given: argparse.Namespace) -> list[list[object]]:
    """All rows."""
    rows: list[list[object]] = []
    if given.run:
        model = load_model(given.run)
        real = real_clips(model, given) if given.data else None
        rows += compared("longer", lambda now: longer(model, given.number, given.frames, now), model, real, given)
    if given.upscaler:
        upscaler = load_model(given.upscaler)
        clips = real_clips(upscaler, given)
        rows += compared("upscaled", lambda now: larger(upscaler, clips, now), upscaler, clips, given)
    return rows


def compared(
    kind: str,
    make: Callable[[Sampling], np.ndarray],
    model: Model,
    real_NTHWC: np.ndarray | None,
    given: argparse.Namespace,
) -> list[list[object]]:
    """A row for each overlap."""
    rows = []
    for overlap in map(int, given.overlap.split(",")):
        now = Sampling(given.steps, overlap=overlap)
        videos_NTHWC = kept_array(given.work / f"{kind}-{overlap}.npy", partial(make, now))
        rows.append(line(kind, videos_NTHWC, real_NTHWC, model.view.frames, overlap))
    return rows


def real_clips(model: Model, given: argparse.Namespace) -> np.ndarray:
    """Clips of that many frames of the videos of SPEC, of the size of the model's own."""
    view, videos = replace(model.view, frames=given.frames), scanned(all_videos(given.data))
    long = [video for video in videos.videos if video.frames >= view.span(video)]
    if not long:
        raise UserError(f"{given.data} has no video of {given.frames} frames at the stride of {model.name}.")
    return clips_of(replace(videos, videos=tuple(long)), view, given.number, 0).clips_NTHWC


if __name__ == "__main__":
    main()
