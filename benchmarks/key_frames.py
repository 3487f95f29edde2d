"""Key frames and what lies between them, against all frames at once, on motions of known period: Lumiere's argument.

    OMP_NUM_THREADS=2 python benchmarks/key_frames.py WORK

The world is as simple as can be, so that small networks learn how it moves: a red circle before dark gray, which goes
round, one way or the other, at a period of 6 to 24 frames (``drawing.periodic``). A network of images is trained on its
frames, and on top of it, as it is, three networks of equal size: one on whole clips; one on key frames, every
``--every``-th frame of these; and one on what lies between given key frames (``between=1, unconditional=0``). The last
two together are shown as many frames in training as the first. ``--gaps`` says how many gaps between key frames the
last one fills at a time: 2, the whole clip, by default; ``--gaps 1,2`` trains another one that sees two key frames and
no more, as cascades do which fill windows of a long video.

The exact readers of the drawn world then read period and path. Two tables are printed:

* Videos drawn from nothing have no true period. Of each kind: the share that is one cycle (a sinusoid and its second
  harmonic explain ``ONE_CYCLE`` of the motion; all real clips reach it, and hardly one with its frames exchanged
  does); the shares with a period below and above twice the distance of key frames; how far the distribution of periods
  is from that of real clips (Kolmogorov-Smirnov, 0 to 1); and the share of the motion that its own cycle does not
  explain (median).
* Real key frames have one. Of what is filled in between those of test clips: the share whose period is right, to
  ``RIGHT``, below and above that bound, and the distance from the true path; beside them the whole test clips, which
  is what the readers can reach, what another test clip's period would be, and the most that key frames can say: a third
  of a turn one way between two of them, and two thirds the other way, look the same.

WORK keeps runs, clips and ``table.md``; the same line goes on with what is missing. ``python docs/pictures.py
key_frames --left WORK`` draws the picture. Planned for an hour of a core, half of it for each side; each further
number of ``--gaps`` takes a quarter more. ``--quick`` is over in a minute or two and shows that everything runs, with
numbers that say nothing.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import ssl_video as sv
from benchmarks.kept import check_same, kept_array, table
from ssl_video.capabilities import Conditions, Generates, Sampling
from ssl_video.datasets.base import Video
from ssl_video.datasets.drawing.config import FRAMES
from ssl_video.datasets.drawing.periodic import PERIODS, choose, periodic_scene
from ssl_video.datasets.drawing.readers import Cycle, read_cycle
from ssl_video.datasets.manifest import write_manifest
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import EVERY_FRAME_BY_ITSELF, FPS
from ssl_video.eval.generated import AT_ONCE, drawn
from ssl_video.files import write_text
from ssl_video.model import Model, load_model
from ssl_video.progress import Bar, bar, showing
from ssl_video.run import Run
from ssl_video.video.reader import read_frames
from ssl_video.video.scan import scan_one
from ssl_video.video.writer import write_video

ONE_CYCLE, RIGHT = 0.9, 0.1
SIZE, MOTION = 32, "orbit"
TEST = "whole test clips"
FROM_NOTHING = ("drawn by", "one cycle", "period < {}", "period >= {}", "distance of periods", "unexplained motion")
FROM_KEYS = ("made of", "period right, < {}", "period right, >= {}", "off the true path (px)", "clips")


@dataclass(frozen=True)
class Plan:
    """Sizes: a clip is every ``stride``-th frame of a video, its key frames are every ``every``-th of it."""

    frames: int = 17
    stride: int = 1
    every: int = 8
    images: int = 600
    steps: int = 2700
    batch: int = 8
    train: int = 1000
    clips: int = 128
    sampling: int = 25
    channels: tuple[int, ...] = (48, 96, 128)

    @property
    def keys(self) -> int:
        """Key frames of a clip; the last frame is one."""
        return (self.frames - 1) // self.every + 1

    @property
    def bound(self) -> int:
        """Twice the distance of key frames, in frames of the video."""
        return 2 * self.every * self.stride

    @property
    def periods(self) -> tuple[float, float]:
        """Between which a period is looked for, in frames of a clip: those of the drawn world, and some more."""
        return 0.8 * PERIODS[0] / self.stride, 1.25 * PERIODS[1] / self.stride

    def half_steps(self, frames: int) -> int:
        """Steps on clips of so many frames that show half as many frames as all steps on whole clips."""
        return max(1, round(self.steps * self.frames / (2 * frames)))


QUICK = Plan(images=2, steps=2, batch=2, train=16, clips=4, sampling=2, channels=(8, 16))


@dataclass(frozen=True)
class Real:
    """Clips of the test list, their periods in frames of the video, and the path of the shape's middle."""

    clips_NTHWC: np.ndarray
    period_N: np.ndarray
    centre_NT2: np.ndarray


def draw_set(out: Path, plan: Plan) -> None:
    """A list of circles that go round, as a set of ``data synthesize`` is laid out, unless it is there."""
    manifest, rows = out / "manifest.csv", []
    counts = {"train": plan.train, "test": plan.clips}
    for place, (split, count) in enumerate(counts.items() if not manifest.exists() else ()):
        for number in bar(range(count), f"draw {split}", "video", True):
            rng, name = np.random.default_rng((place, number)), f"{split}-{number:05d}"
            made = replace(choose(rng), colour="red", shape="circle", background="dark")
            scene, way = periodic_scene(rng, MOTION, SIZE, FRAMES, made), 1 - 2 * (number % 2)  # half go the other way
            video, notes = out / "videos" / MOTION / f"{name}.mp4", out / "annotations" / f"{name}.npz"
            write_video(video, scene.frames_THWC[::way], FPS, EVERY_FRAME_BY_ITSELF)
            notes.parent.mkdir(exist_ok=True)
            kept: dict[str, Any] = dict(scene.notes, centre_T2=scene.notes["centre_T2"][::way])
            np.savez_compressed(notes, **kept)
            rows.append({"path": str(video), "label": MOTION, "split": split} | asdict(scan_one(str(video))))
    if rows:
        write_manifest(manifest, rows)


def real_clips(videos: Sequence[Video], plan: Plan) -> Real:
    """One clip of each video, from a frame on that depends on its number."""
    found = []
    for number, video in enumerate(videos):
        place, span = Path(video.path), (plan.frames - 1) * plan.stride + 1
        first = int(np.random.default_rng(number).integers(video.frames - span + 1))
        at = range(first, first + span, plan.stride)
        with np.load(place.parents[2] / "annotations" / f"{place.stem}.npz") as notes:
            found.append((read_frames(video.path, at), float(notes["period"]), notes["centre_T2"][list(at)]))
    clips, periods, centres = zip(*found, strict=True)
    return Real(np.stack(clips), np.array(periods), np.stack(centres))


def train(work: Path, plan: Plan, name: str, steps: int, frames: int, options: Mapping[str, Any]) -> Run:
    """The run ``name``, trained now or before."""
    print(f"{name}: {steps} steps of clips of {frames} frames", flush=True)
    return sv.pretrain(
        str(work / "data"),
        recipe="video_diffusion:small",
        out=work / name,
        resume="auto",
        steps=steps,
        monitor_every=steps,
        backbone__channels=plan.channels,
        backbone__frames=plan.frames,
        pretext__frames=frames,
        optim__lr=0.002,
        **options,
    )


def images(work: Path, plan: Plan) -> Run:
    """The network of images."""
    options = {"backbone__temporal": False, "batch_size": 8 * plan.batch, "pretext__shift": 3}
    return train(work, plan, "images", plan.images, 1, options)


def video(work: Path, plan: Plan, name: str, frames: int, **options: Any) -> Model:
    """The network ``name`` of clips, on top of the one of images."""
    onto = {"backbone__weights": str(work / "images" / "backbone.safetensors"), "pretext__freeze_spatial": True}
    steps = plan.steps if name == "all" else plan.half_steps(frames)
    same = {"batch_size": plan.batch, "pretext__shift": 12}
    return load_model(train(work, plan, name, steps, frames, onto | same | options))


def filled(model: Model, clips_NTHWC: np.ndarray, every: int, sampling: Sampling) -> np.ndarray:
    """Clips of which every ``every``-th frame was kept, the others drawn by ``model``.

    Windows of a model of shorter clips have their first and last frame, which are key frames, in common.
    """
    parts, generator = [], torch.Generator().manual_seed(1)
    with Bar("fill in", len(clips_NTHWC), "clip") as done:
        for first in range(0, len(clips_NTHWC), AT_ONCE):
            clips_BTHWC = torch.from_numpy(clips_NTHWC[first : first + AT_ONCE])
            mask_BTHW = torch.zeros(clips_BTHWC.shape[:4], dtype=torch.bool)
            mask_BTHW[:, ::every] = True
            given = Conditions(given_BTHWC=clips_BTHWC * mask_BTHW[..., None], mask_BTHW=mask_BTHW)
            B, T, H, W = mask_BTHW.shape
            by = model.need(Generates)
            parts.append(by.generate((B, T, H, W), given, replace(sampling, overlap=1), generator, model.backbone))
            done.update(B)
    return torch.cat(parts).cpu().numpy()


def spread(keys_NKHWC: np.ndarray, frames: int, every: int) -> np.ndarray:
    """Clips that have key frames at their places, and black between them."""
    clips_NTHWC = np.zeros((len(keys_NKHWC), frames, *keys_NKHWC.shape[2:]), np.uint8)
    clips_NTHWC[:, ::every] = keys_NKHWC
    return clips_NTHWC


def read(clips_NTHWC: np.ndarray, plan: Plan) -> list[Cycle | None]:
    """What is read of each clip; None where there is no shape."""
    return [read_cycle(clip_THWC, plan.periods) for clip_THWC in clips_NTHWC]


def period_of(cycle: Cycle | None, plan: Plan) -> float:
    """In frames of the video; NaN where nothing is seen, or its motion is no cycle."""
    one = cycle is not None and cycle.motion and cycle.explained >= ONE_CYCLE
    return cycle.period * plan.stride if cycle and one else np.nan


def from_nothing(cycles: Sequence[Cycle | None], real_N: np.ndarray, plan: Plan) -> list[float]:
    """The numbers of a row of the first table; ``real_N`` are periods of real clips, as they are read."""
    from scipy.stats import ks_2samp

    period_N = np.array([period_of(cycle, plan) for cycle in cycles])
    some = period_N[~np.isnan(period_N)]
    below, count = int((some < plan.bound).sum()), len(cycles)
    shares = [n / count for n in (len(some), below, len(some) - below)]
    distance = float(ks_2samp(some, real_N).statistic) if len(some) and len(real_N) else np.nan
    return [*shares, distance, float(np.median([1 - c.explained if c else 1 for c in cycles]))]


def from_keys(cycles: Sequence[Cycle | None], real: Real, plan: Plan) -> list[float | int]:
    """The numbers of a row of the second table."""
    period_N = np.array([period_of(cycle, plan) for cycle in cycles])
    right_N = np.abs(period_N / real.period_N - 1) <= RIGHT  # a comparison with NaN is false
    off = [off_path(cycle, path_T2) for cycle, path_T2 in zip(cycles, real.centre_NT2, strict=True)]
    return [*below_and_above(right_N, real, plan), float(np.median(off)), len(cycles)]


def off_path(cycle: Cycle | None, path_T2: np.ndarray) -> float:
    """Root mean square distance of the shape's middle from where it should be, in pixels; infinite without a shape."""
    if cycle is None:
        return np.inf
    return float(np.sqrt(np.square(cycle.centre_T2 - path_T2[cycle.times_T]).sum(1).mean()))


def by_chance(real: Real, plan: Plan) -> list[float | str]:
    """The same row if every clip had the period of another one."""
    near_NN = np.abs(real.period_N / real.period_N[:, None] - 1) <= RIGHT
    share_N = (near_NN.sum(1) - 1) / max(1, len(near_NN) - 1)
    return [*below_and_above(share_N, real, plan), "", ""]


def from_key_frames(real: Real, plan: Plan) -> list[float | str]:
    """The same row if every clip had one of the periods that its key frames leave open, each as often as the world."""
    shares = []
    for period in real.period_N:
        found_K = alike(period, plan.every * plan.stride)
        shares.append(found_K[np.abs(found_K / period - 1) <= RIGHT].sum() / found_K.sum())
    return [*below_and_above(np.array(shares), real, plan), "", ""]


def alike(period: float, distance: int) -> np.ndarray:
    """The periods of the world, itself among them, of circles that are at the same places every ``distance`` frames.

    The logarithm of a period is uniform, and so that of turns per distance: of periods that look alike each is as
    likely as it is long.
    """
    turns, (least, most) = distance / period, PERIODS
    others = {round(abs(whole + sign * turns), 9) for whole in range(-9, 10) for sign in (-1, 1)}
    return np.array([distance / n for n in others if distance / most - 1e-6 <= n <= distance / least + 1e-6])


def below_and_above(right_N: np.ndarray, real: Real, plan: Plan) -> list[float]:
    """Means over the clips whose true period is below the bound, and over the others."""
    below_N = real.period_N < plan.bound
    return [float(right_N[part].mean()) if part.any() else np.nan for part in (below_N, ~below_N)]


def compare(work: Path, plan: Plan, gaps: Sequence[int]) -> str:
    """Train, draw and read what is missing; both tables."""
    check_same(work, asdict(plan))
    draw_set(work / "data", plan)
    test = load_splits(str(work / "data")).test
    assert test is not None
    real, sampling = real_clips(scanned(test).videos, plan), Sampling(plan.sampling)
    files = work / "clips"
    kept_array(files / "test.npy", lambda: real.clips_NTHWC)
    images(work, plan)
    whole = video(work, plan, "all", plan.frames, pretext__stride=plan.stride)
    keys = video(work, plan, "keys", plan.keys, pretext__stride=plan.stride * plan.every)
    clips = {
        name: kept_array(files / f"{name}.npy", partial(drawn, model, plan.clips, None, sampling, 0))
        for name, model in (("all", whole), ("keys", keys))
    }
    rows, of_keys = {TEST: real.clips_NTHWC, "all frames at once": clips["all"]}, {}
    for count in gaps:
        options = {"pretext__stride": plan.stride, "pretext__unconditional": 0, "pretext__between": 1}
        options["pretext__every"] = plan.every
        between = video(work, plan, f"between-{count}", count * plan.every + 1, **options)
        words = "whole" if count == plan.keys - 1 else f"{count} gap{'s' * (count > 1)} at a time"
        givens = {"pair": spread(clips["keys"], plan.frames, plan.every), "between": real.clips_NTHWC}
        made = {
            name: kept_array(files / f"{name}-{count}.npy", partial(filled, between, given, plan.every, sampling))
            for name, given in givens.items()
        }
        rows[f"key frames and between ({words})"] = made["pair"]
        of_keys[f"real key frames and between ({words})"] = made["between"]
    print("reading ...", flush=True)
    return tables({name: read(found, plan) for name, found in (rows | of_keys).items()}, set(rows), real, plan)


def tables(cycles: Mapping[str, list[Cycle | None]], drawn_ones: set[str], real: Real, plan: Plan) -> str:
    """Both tables, of what was read of the clips of each kind, those of ``drawn_ones`` in the first."""
    real_N = np.array([period_of(cycle, plan) for cycle in cycles[TEST]])
    real_N = real_N[~np.isnan(real_N)]
    heads = [[word.format(plan.bound) for word in head] for head in (FROM_NOTHING, FROM_KEYS)]
    first = [(name, *from_nothing(found, real_N, plan)) for name, found in cycles.items() if name in drawn_ones]
    second = [(n, *from_keys(found, real, plan)) for n, found in cycles.items() if n not in drawn_ones - {TEST}]
    second.append(("a period that the key frames leave open", *from_key_frames(real, plan)))
    second.append(("period of another test clip", *by_chance(real, plan)))
    return "\n\n".join(table(head, rows) for head, rows in zip(heads, (first, second), strict=True))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--quick", action="store_true")
    for name in ("images", "steps", "clips", "every"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--gaps", help="one or several numbers, with commas")
    given = parser.parse_args()
    changed = {n: getattr(given, n) for n in ("images", "steps", "clips", "every") if getattr(given, n) is not None}
    plan = replace(QUICK if given.quick else Plan(), **changed)
    gaps = [plan.keys - 1] if given.gaps is None else [int(n) for n in given.gaps.split(",")]
    if (plan.frames - 1) % plan.every or any((plan.keys - 1) % n for n in gaps):
        parser.error(f"--every must divide {plan.frames - 1}, and --gaps the {plan.keys - 1} gaps that this makes.")
    with showing():
        found = compare(given.work, plan, gaps)
    write_text(given.work / "table.md", f"{found}\n")
    print(found)


if __name__ == "__main__":
    main()
