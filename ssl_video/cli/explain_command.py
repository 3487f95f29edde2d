"""``ssl-video explain``: pictures of what a video or a network holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ssl_video.cli.parsing import parse
from ssl_video.errors import UserError, nearest


@dataclass(frozen=True)
class FlowConfig:
    """Options of the pictures of flow."""

    video: tyro.conf.Positional[Path]
    """The video."""
    method: str = "farneback"
    """farneback, dis or raft, with options as in 'raft?size=large&weights=FILE'."""
    out: Path = Path()
    """Folder of the pictures."""
    short_side: int = 240
    """Shorter side of the frames for which flow is computed, in pixels; smaller videos keep their size."""
    columns: int = 6
    """Frames on the sheet, evenly spaced."""
    at_most: int = 300
    """Frames from the start of the video that are looked at."""


@dataclass(frozen=True)
class AffinityConfig:
    """Options of the picture of an affinity."""

    video: tyro.conf.Positional[Path]
    """The video."""
    model: str
    """A run's folder, a .safetensors file or random:NAME; a network with a fine map, such as dense_resnet_8."""
    point: str
    """x,y: a point of the frame, in pixels of the video, from the top left."""
    frame: int = 0
    """Number of the point's frame, counted from 0."""
    to: tuple[int, ...] = ()
    """Numbers of the frames where the point is looked up; by default five later ones, evenly spaced."""
    out: Path = Path()
    """Folder of the picture."""
    stage: str | None = None
    """Stage of the network whose map is compared; by default the last."""
    temperature: float = 0.05
    """Similarities are divided by it; the lower it is, the narrower the heat."""
    short_side: int = 240
    """Shorter side of the frames that the network sees, in pixels; smaller videos keep their size."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class CamConfig:
    """Options of class activation maps."""

    video: tyro.conf.Positional[Path]
    """The video."""
    model: str
    """A run's folder, of speediness or arrow_of_time, or what 'ssl-video evaluate finetune' wrote."""
    out: Path = Path()
    """Folder of the film and the sheet."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """A fine-tuned model: the class to explain; by default the one that it sees."""
    speed: float = 1.0
    """Speed at which the network looks at the video; at 2, speediness tells normal from slowed."""
    flow: str | None = None
    """Show the magnitude of optical flow beside it: farneback, dis or raft, with options as for 'explain flow'."""
    short_side: int | None = None
    """Shorter side of the frames that the network sees, in pixels; by default as in training."""
    columns: int = 6
    """Frames on the sheet, evenly spaced."""
    step: int = 1
    """Frames from one clip to the next."""
    batch: int = 4
    """Clips in one forward pass."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command: one of its actions."""
    actions = {"flow": flow, "affinity": affinity, "cam": cam}
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: ssl-video explain {'|'.join(actions)} [options]")
        return 0
    if argv[0] not in actions:
        raise UserError(f"'ssl-video explain' has no action {argv[0]!r}; {nearest(argv[0], actions)}")
    return actions[argv[0]](argv[1:])


def flow(argv: Sequence[str]) -> int:
    """Draw a video's optical flow."""
    from ssl_video.apps.explain_flow import explain_flow
    from ssl_video.video.reader import VideoError

    config = parse(FlowConfig, argv, "explain flow", "Draw the optical flow of a video: a sheet, and a video.")
    if min(config.columns, config.at_most, config.short_side) < 1:
        raise UserError("--columns, --at-most and --short-side must be 1 or more.")
    try:
        written = explain_flow(
            config.video,
            config.out,
            config.method,
            short_side=config.short_side,
            columns=config.columns,
            at_most=config.at_most,
        )
    except VideoError as error:
        raise UserError(f"{config.video} cannot be used: {error}.") from None
    for path in written:
        print(f"{path} is written.")
    return 0


def affinity(argv: Sequence[str]) -> int:
    """Draw where in other frames a network sees what it sees at a point."""
    from ssl_video.apps.explain_affinity import affinity_of, draw_affinity
    from ssl_video.model import load_model
    from ssl_video.train.distributed import choose_device
    from ssl_video.video.probe import probe
    from ssl_video.video.reader import VideoError

    about = "Draw where in other frames a network sees what it sees at one point, as heat maps."
    config = parse(AffinityConfig, argv, "explain affinity", about)
    if config.short_side < 1 or config.temperature <= 0:
        raise UserError("--short-side must be 1 or more, and --temperature greater than 0.")
    if len(config.to) > 20:
        raise UserError(f"--to takes at most 20 frames, which are drawn side by side, not {len(config.to)}.")
    point = _point(config.point)
    model = load_model(config.model, choose_device(config.device))
    try:
        info = probe(str(config.video))
        found = affinity_of(
            config.video,
            info,
            model,
            point,
            config.frame,
            config.to or _later(config.frame, info.frames, config.video),
            short_side=config.short_side,
            stage=config.stage,
            temperature=config.temperature,
        )
    except VideoError as error:
        raise UserError(f"{config.video} cannot be used: {error}.") from None
    for place, number in enumerate(found.numbers[1:]):
        x, y = found.peak(place)
        print(f"frame {number}: likeliest at {x},{y}, with a chance of {found.chances_Shw[place].max():.3f}")
    path = config.out / f"{config.video.stem}_affinity_{point[0]}_{point[1]}_frame{config.frame}.png"
    draw_affinity(found, path)
    print(f"{path} is written.")
    return 0


def _point(text: str) -> tuple[int, int]:
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--point takes two whole numbers x,y, such as 120,80, not {text!r}.") from None
    return x, y


def _later(frame: int, frames: int, video: Path) -> tuple[int, ...]:
    """Up to five later frames, evenly spaced up to the last."""
    if frames == 1:
        raise UserError(f"{video} has one frame only, and there is no other to look the point up in.")
    if frame == frames - 1:
        raise UserError(f"Frame {frame} is the last of {video}; name other frames with --to.")
    if not 0 <= frame < frames:
        return ()  # refused where the frames are read
    steps = min(5, frames - 1 - frame)
    return tuple(frame + (frames - 1 - frame) * n // steps for n in range(1, steps + 1))


def cam(argv: Sequence[str]) -> int:
    """Draw where and when in a video a linear head finds what it says."""
    from ssl_video.apps.explain_cam import (
        Painter,
        activation_maps,
        correlation,
        draw_sheet,
        flow_magnitudes,
        head_of,
        write_film,
    )
    from ssl_video.datasets.spec import one_video
    from ssl_video.model import load_model
    from ssl_video.train.distributed import choose_device

    config = parse(CamConfig, argv, "explain cam", "Draw where and when in a video a linear head finds what it says.")
    sizes = (config.columns, config.step, config.batch, 1 if config.short_side is None else config.short_side)
    if min(sizes) < 1 or not 1 <= config.speed <= 16:
        raise UserError("--columns, --step, --batch and --short-side must be 1 or more, and --speed from 1 to 16.")
    video = one_video(config.video)
    model = load_model(config.model, choose_device(config.device))
    head = head_of(model, video, config.class_, config.speed)
    evidence = activation_maps(
        model, video, head, speed=config.speed, short_side=config.short_side, step=config.step, batch=config.batch
    )
    motion = None if config.flow is None else flow_magnitudes(video, config.flow)
    paint = Painter(evidence, motion)
    film, sheet = (config.out / f"{config.video.stem}_cam{suffix}" for suffix in (".mp4", ".png"))
    write_film(film, video, paint)
    draw_sheet(sheet, video, paint, head, config.columns, config.video.name)
    n, h, w = evidence.values_Nhw.shape
    print(f"{config.video}: {n} maps of {h}x{w} cells, from {head.cool!r} (blue) to {head.warm!r} (orange).")
    if motion is not None:
        print(f"Their correlation with the magnitude of flow is {correlation(evidence, motion):.3f}.")
    for path in (film, sheet):
        print(f"{path} is written.")
    return 0
