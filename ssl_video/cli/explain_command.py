"""``ssl-video explain``: pictures of a video's flow, of a network's class activation maps and affinities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from ssl_video.apps.options import AffinityOptions, CamOptions, FlowOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, Folder, ModelName, VideoFile, action_of, parse
from ssl_video.errors import UserError


@dataclass(frozen=True)
class FlowConfig:
    """Options of the pictures of flow."""

    examples: ClassVar = (
        "ssl-video explain flow clip.mp4",
        "ssl-video explain flow clip.mp4 --method dis --out pictures",
        "ssl-video explain flow clip.mp4 --columns 8 --at-most 100",
    )

    video: tyro.conf.Positional[VideoFile]
    """The video."""
    out: Folder = Path()
    """Folder of the pictures."""
    options: Annotated[FlowOptions, tyro.conf.arg(name="")] = FlowOptions()


@dataclass(frozen=True)
class AffinityConfig:
    """Options of the picture of an affinity."""

    usual: ClassVar = ("model", "point", "frame", "to", "out")
    examples: ClassVar = (
        "ssl-video explain affinity clip.mp4 --model random:dense_resnet_8 --point 120,80",
        "ssl-video explain affinity clip.mp4 --model runs/crw --point 120,80 --frame 10 --to 20 30 40",
        "ssl-video explain affinity clip.mp4 --model runs/crw --point 120,80 --out pictures",
    )

    video: tyro.conf.Positional[VideoFile]
    """The video."""
    model: ModelName
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME;
    a network with a fine map, such as dense_resnet_8."""
    point: Annotated[str, tyro.conf.arg(metavar="X,Y")]
    """A point of the frame, in pixels of the video, from the top left."""
    frame: int = 0
    """Number of the point's frame, counted from 0."""
    to: tuple[int, ...] = ()
    """Numbers of the frames where the point is looked up; by default five later ones, evenly spaced."""
    out: Folder = Path()
    """Folder of the picture."""
    options: Annotated[AffinityOptions, tyro.conf.arg(name="")] = AffinityOptions()
    device: Device = "auto"


@dataclass(frozen=True)
class CamConfig:
    """Options of class activation maps."""

    usual: ClassVar = ("model", "out", "class", "speed", "device")
    examples: ClassVar = (
        "ssl-video explain cam clip.mp4 --model runs/my_run",
        "ssl-video explain cam clip.mp4 --model runs/my_run --speed 2 --out pictures",
        "ssl-video explain cam clip.mp4 --model runs/finetune --class waving --flow farneback",
    )

    video: tyro.conf.Positional[VideoFile]
    """The video."""
    model: ModelName
    """A run's folder, of speediness or arrow_of_time, or what 'ssl-video evaluate finetune' wrote."""
    out: Folder = Path()
    """Folder of the video and the sheet."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """A fine-tuned model: the class to explain; by default the one that it sees."""
    options: Annotated[CamOptions, tyro.conf.arg(name="")] = CamOptions()
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command: one of its actions."""
    examples = (FlowConfig.examples[0], AffinityConfig.examples[0], CamConfig.examples[0])
    action = action_of(argv, "explain", {"flow": flow, "affinity": affinity, "cam": cam}, examples)
    return 0 if action is None else action(argv[1:])


def flow(argv: Sequence[str]) -> int:
    """Draw a video's optical flow."""
    config = parse(FlowConfig, argv, "explain flow", "Draw the optical flow of a video: a sheet, and a video.")
    from ssl_video.apps.explain_flow import explain_flow

    _tell(explain_flow(config.video, config.out, config.options))
    return 0


def affinity(argv: Sequence[str]) -> int:
    """Draw where in other frames a network sees what it sees at a point."""
    about = "Draw where in other frames a network sees what it sees at one point, as heat maps."
    config = parse(AffinityConfig, argv, "explain affinity", about)
    from ssl_video.apps.explain_affinity import explain_affinity
    from ssl_video.model import load_model
    from ssl_video.train.distributed import choose_device

    point = _point(config.point)
    model = load_model(config.model, choose_device(config.device))
    done = explain_affinity(config.video, model, point, config.out, config.frame, config.to, config.options)
    found = done.affinity
    for place, number in enumerate(found.numbers[1:]):
        x, y = found.peak(place)
        print(f"frame {number}: likeliest at {x},{y}, with a chance of {found.chances_Shw[place].max():.3f}")
    _tell(done.written)
    return 0


def cam(argv: Sequence[str]) -> int:
    """Draw the class activation maps of a video."""
    config = parse(
        CamConfig,
        argv,
        "explain cam",
        "Draw class activation maps: where and when in a video a linear head finds its class.",
    )
    from ssl_video.apps.explain_cam import explain_cam
    from ssl_video.model import load_model
    from ssl_video.train.distributed import choose_device

    model = load_model(config.model, choose_device(config.device))
    done = explain_cam(config.video, model, config.out, config.options, config.class_, progress=True)
    n, h, w = done.evidence.values_Nhw.shape
    tell(f"{config.video}: {n} maps of {h}x{w} cells, from {done.head.cool!r} (blue) to {done.head.warm!r} (orange).")
    if done.correlation is not None:
        print(f"Their correlation with the magnitude of flow is {done.correlation:.3f}.")
    _tell(done.written)
    return 0


def _point(text: str) -> tuple[int, int]:
    try:
        x, y = (int(number) for number in text.split(","))
    except ValueError:
        raise UserError(f"--point takes two whole numbers x,y, such as 120,80, not {text!r}.") from None
    return x, y


def _tell(written: Sequence[Path]) -> None:
    for path in written:
        tell(f"{path} is written.")
