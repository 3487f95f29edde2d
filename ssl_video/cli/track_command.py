"""``ssl-video track``: carry objects or points of a video's first frame to its other frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.apps.options import TrackOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, Folder, ModelName, VideoFile, model_or_default, parse
from ssl_video.errors import UserError
from ssl_video.progress import count

if TYPE_CHECKING:
    from ssl_video.apps.adapt import Adapted
    from ssl_video.apps.track import Tracked

Boxes = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="X,Y,W,H ...")]
Points = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="X,Y ...")]


@dataclass(frozen=True)
class TrackConfig:
    """Options of a tracking."""

    usual: ClassVar = ("model", "out", "mask", "box", "points", "preset")
    examples: ClassVar = (
        "ssl-video track clip.mp4 --box 40,30,60,80 --out tracked",
        "ssl-video track clip.mp4 --model runs/crw --mask first_frame.png --out tracked",
        "ssl-video track clip.mp4 --model runs/crw --points 120,80 64,64 --adapt-steps 50 --out tracked",
    )

    video: tyro.conf.Positional[VideoFile]
    """The video: a file, or a folder with a picture for each frame."""
    out: Folder
    """Folder of what is written; it must be empty or not there yet."""
    model: ModelName | None = None
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME, of a network with a fine map, such as
    dense_resnet_8; by default net:dense, which comes with ssl-video."""
    mask: Path | None = None
    """Picture of the objects in the first frame, a PNG: their numbers (gray or with a palette), or 0 and 255 for one.
    One white object with smooth edges, or a JPEG of it, is cut at half; other values that are no numbers are
    refused."""
    box: Boxes = ()
    """x,y,width,height of an object in the first frame, in pixels, from the top left; one or more."""
    points: Points = ()
    """x,y of a point in the first frame, in pixels, from the top left; one or more."""
    options: Annotated[TrackOptions, tyro.conf.arg(name="")] = TrackOptions()
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(TrackConfig, argv, "track", "Carry objects or points of a video's first frame to its other frames.")
    from ssl_video.apps.marks import Marks
    from ssl_video.apps.track import track
    from ssl_video.files import check_new
    from ssl_video.train.distributed import choose_device

    boxes = [_numbers(text, "--box", "x,y,width,height") for texts in config.box for text in texts]
    points = [_numbers(text, "--points", "x,y") for texts in config.points for text in texts]
    marks = Marks(config.mask, boxes, points)
    check_new(config.out)
    model = model_or_default(config.model, "dense", choose_device(config.device))
    done = track(config.video, model, marks, config.out, config.options, progress=True)
    if done.adapted is not None:
        _tell_of_adaptation(done.adapted)
    _tell(done, "point" if points else "object")
    tell(f"{' and '.join(map(str, done.written))} are written.")
    return 0


def _numbers(text: str, flag: str, form: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(form.split(",")):
        raise UserError(f"{flag} takes {form} as numbers with commas, not {text!r}.")
    return numbers


def _tell_of_adaptation(adapted: "Adapted") -> None:
    tenth = max(1, len(adapted.losses) // 10)
    before, after = (sum(losses) / tenth for losses in (adapted.losses[:tenth], adapted.losses[-tenth:]))
    tell(
        f"adapted in {len(adapted.losses)} steps, {adapted.seconds:.1f} s: loss {before:.4f} in the first tenth, "
        f"{after:.4f} in the last"
    )


def _tell(done: "Tracked", what: str) -> None:
    last = done.start + done.frames - 1
    print(f"{count(len(done.last_seen), what)}, {done.frames} frames, {done.seconds / done.frames:.2f} s a frame")
    for number, frame in done.last_seen.items():
        if frame < last:
            print(f"{what} {number} was last seen in frame {frame}; the last frame is {last}.")
    if done.broken is not None:
        print(f"The video breaks off after frame {last}: {done.broken}. What was tracked until then is kept.")
