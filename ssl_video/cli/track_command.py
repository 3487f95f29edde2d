"""``ssl-video track``: carry objects or points of a video's first frame to its other frames."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ssl_video.apps.adapt import adapt
from ssl_video.apps.track import (
    Tracked,
    checked_points,
    first_frame,
    mask_from_file,
    mask_of_boxes,
    track_masks,
    track_points,
)
from ssl_video.cli.parsing import parse
from ssl_video.errors import UserError, nearest
from ssl_video.eval.dense import network_features
from ssl_video.eval.propagation import Propagation, PropagationConfig
from ssl_video.model import Model, load_model
from ssl_video.train.distributed import choose_device
from ssl_video.video.info import VideoError

CHANGEABLE = ("side", "context", "radius", "topk", "temperature")
"""Settings of a preset that have a flag."""

Several = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class TrackConfig:
    """Options of a tracking."""

    video: tyro.conf.Positional[Path]
    """The video: a file, or a folder with a picture for each frame."""
    model: str
    """A run's folder, a .safetensors file or random:NAME; a network with a fine map, such as dense_resnet_8."""
    out: Path
    """Folder of what is written; it must be empty or not there yet."""
    mask: Path | None = None
    """Picture of the objects in the first frame: their numbers (gray or with a palette), or 0 and 255 for one."""
    box: Several = ()
    """x,y,width,height of an object in the first frame, in pixels, from the top left; one or several."""
    points: Several = ()
    """x,y of a point in the first frame, in pixels, from the top left; one or several."""
    start: int = 0
    """Number of the frame that counts as the first one."""
    preset: str = "crw-davis-240"
    """Settings of 'ssl-video evaluate propagation', over which the five options below go."""
    side: int | None = None
    """Shorter side of the frames that the network sees, in pixels; 0: they keep their size."""
    context: int | None = None
    """Previous frames that are looked at, beside the first one."""
    radius: float | None = None
    """Cells of previous frames at this distance or farther are not looked at."""
    topk: int | None = None
    """Cells that share the weight."""
    temperature: float | None = None
    """Affinities are divided by it before the softmax."""
    stage: str | None = None
    """Stage of the network; by default layer3 where there is one, else the last."""
    adapt_steps: int = 0
    """Steps of the run's own pretext on this very video before it is tracked, on a copy of the model."""
    adapt_lr: float = 1e-4
    """Learning rate of these steps."""
    seed: int = 0
    """Seed of these steps."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(TrackConfig, argv, "track", "Carry objects or points of a video's first frame to its other frames.")
    _check(config)
    settings = settings_of(config)
    boxes = [_numbers(text, "--box", "x,y,width,height") for texts in config.box for text in texts]
    points = [_numbers(text, "--points", "x,y") for texts in config.points for text in texts]
    try:
        frame_HWC = first_frame(config.video, config.start)
        points_J2 = checked_points(points, frame_HWC)
        mask_HW = mask_of_boxes(boxes, frame_HWC) if config.mask is None else mask_from_file(config.mask, frame_HWC)
        model = load_model(config.model, choose_device(config.device))
        features = network_features(model, config.stage, settings.side, settings.square)
        if config.adapt_steps:
            model = _adapted(model, config)
            features = network_features(model, config.stage, settings.side, settings.square)
        since = time.perf_counter()
        if points:
            done = track_points(config.video, points_J2, features, settings.affinity, config.out, config.start)
        else:
            done = track_masks(config.video, mask_HW, features, settings.affinity, config.out, config.start)
        seconds = time.perf_counter() - since
    except VideoError as error:
        raise UserError(f"{config.video} cannot be used: {error}.") from None
    _say(done, "point" if points else "object", seconds)
    print(f"{config.out / ('points.csv' if points else 'masks')} and {config.out / 'overlay.mp4'} are written.")
    return 0


def settings_of(config: TrackConfig) -> PropagationConfig:
    """The preset under the options that were given. Raises UserError."""
    if config.preset not in Propagation.presets:
        known = nearest(config.preset, Propagation.presets)
        raise UserError(f"There is no preset {config.preset!r} of propagation; {known}")
    given = {name: value for name in CHANGEABLE if (value := getattr(config, name)) is not None}
    if given.get("side", 0) < 0:
        raise UserError("--side must be 0 or more.")
    return replace(Propagation.presets[config.preset], **given)


def _check(config: TrackConfig) -> None:
    """Raises UserError for options that do not go together, and for a folder that is in use."""
    if (config.mask is not None) + any(config.box) + any(config.points) != 1:
        raise UserError("Say what to track by one of --mask FILE, --box x,y,width,height and --points x,y.")
    if min(config.start, config.adapt_steps, config.seed) < 0 or not config.adapt_lr > 0:
        raise UserError("--start, --adapt-steps and --seed must be 0 or more, and --adapt-lr greater than 0.")
    if config.out.exists() and not config.out.is_dir():
        raise UserError(f"{config.out} is a file; --out must name a folder.")
    if config.out.exists() and any(config.out.iterdir()):
        raise UserError(f"{config.out} is not empty; choose another --out.")


def _numbers(text: str, flag: str, form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(form.split(",")):
        raise UserError(f"{flag} takes {form} as numbers with commas, not {text!r}.")
    return numbers


def _adapted(model: Model, config: TrackConfig) -> Model:
    since = time.perf_counter()
    adapted = adapt(model, config.video, config.adapt_steps, config.adapt_lr, config.seed)
    tenth = max(1, len(adapted.losses) // 10)
    before, after = (sum(losses) / tenth for losses in (adapted.losses[:tenth], adapted.losses[-tenth:]))
    print(
        f"adapted in {len(adapted.losses)} steps, {time.perf_counter() - since:.1f} s: loss {before:.4f} in the first "
        f"tenth, {after:.4f} in the last"
    )
    return adapted.model


def _say(done: Tracked, what: str, seconds: float) -> None:
    last = done.start + done.frames - 1
    print(f"{_count(len(done.last_seen), what)}, {done.frames} frames, {seconds / done.frames:.2f} s a frame")
    for number, frame in done.last_seen.items():
        if frame < last:
            print(f"{what} {number} was last seen in frame {frame}; the last frame is {last}.")
    if done.broken is not None:
        print(f"The video breaks off after frame {last}: {done.broken}. What was tracked until then is kept.")


def _count(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
