"""``ssl-video represent``: learn a video by a network, and make films of what was learned."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.apps.options import RepresentOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import ModelName, VideoFile, model_or_default, parse
from ssl_video.errors import UserError

if TYPE_CHECKING:
    from ssl_video.apps.represent_folder import Learned

OF_FILMS = ("size", "frames")
"""Options of a learning that are options of a film, too."""


@dataclass(frozen=True)
class RepresentConfig:
    """Options of learning a video, and of films of a learned one."""

    usual: ClassVar = ("out", "mask", "kind", "edit_foreground", "edit_background")
    examples: ClassVar = (
        "ssl-video represent clip.mp4 --mask first_frame.png --out learned",
        "ssl-video represent learned --edit-foreground painted.png --out edited.mp4",
        "ssl-video represent learned --frames 120 --size 256 --out smooth.mp4",
    )

    video: tyro.conf.Positional[VideoFile]
    """The video: a file, or a folder with a picture for each frame. Or the folder of a learned video, to make a film of
    it."""
    out: Path
    """Folder of the learned video; the same line resumes what was begun there. Of a learned video: the film, .mp4, .mov
    or .mkv."""
    mask: Path | None = None
    """Picture of the foreground in the first frame, as of 'ssl-video track'; without it the foreground is what moves
    otherwise than most of the frame."""
    edit_foreground: Path | None = None
    """foreground.png of the learned video, painted over: the film shows the paint where the object is."""
    edit_background: Path | None = None
    """background.png of the learned video, painted over."""
    model: ModelName | None = None
    """Network that carries the mask to the other frames; by default net:dense, which comes with ssl-video."""
    options: Annotated[RepresentOptions, tyro.conf.arg(name="")] = RepresentOptions()


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(RepresentConfig, argv, "represent", "Learn one video by one network; paint on it, render it anew.")
    from ssl_video.apps.represent_folder import Folder

    if Folder(config.video).network.is_file():
        return _make_film(config)
    if config.edit_foreground or config.edit_background:
        raise UserError(
            f"{config.video} is no folder of a learned video, of which alone there is an atlas to paint on; "
            f"'ssl-video represent VIDEO --out DIR' makes one."
        )
    from ssl_video.apps.represent import represent

    model = None
    if config.mask is not None and config.options.kind == "atlas":
        model = model_or_default(config.model, "dense", "cpu")
    _tell(represent(config.video, config.out, config.options, mask=config.mask, model=model))
    return 0


def _make_film(config: RepresentConfig) -> int:
    """A film of the learned video."""
    from ssl_video.apps.represent_folder import Folder, write_film

    given = [f.name for f in fields(RepresentOptions) if getattr(config.options, f.name) != f.default]
    given += [name for name in ("mask", "model") if getattr(config, name) is not None]
    if of_learning := [name for name in given if name not in OF_FILMS]:
        flag = of_learning[0].replace("_", "-")
        raise UserError(f"{config.video} is learned already, and --{flag} is of the learning; name the video itself.")
    edits = {"foreground": config.edit_foreground, "background": config.edit_background}
    paintings = {name: path for name, path in edits.items() if path is not None}
    learned = Folder(config.video).load()
    count = write_film(learned, config.out, paintings, config.options.frames, config.options.size)
    height, width = learned.film_size(config.options.size)
    print(f"{config.out} is written: {count} frames of {width}x{height} pixels.")
    return 0


def _tell(learned: "Learned") -> None:
    """The numbers."""
    found, (frames, height, width) = learned.numbers, learned.size
    print(f"{frames} frames of {width}x{height} pixels, learned in {found['minutes']:.1f} min")
    print(f"PSNR of learned frames: {found['psnr_trained']:.2f} dB")
    if "psnr_kept_out" in found:
        print(
            f"PSNR of frames that were kept out: {found['psnr_kept_out']:.2f} dB; their neighbours blended: "
            f"{found['psnr_blend']:.2f} dB, blended along the optical flow: {found['psnr_along_flow']:.2f} dB"
        )
    if "consistency_edit" in found:
        print(
            f"Colour of an edit at what corresponds to the first frame: {found['consistency_edit']:.3f} off; left at "
            f"its place in the frame, {found['consistency_pasted']:.3f} off (0 to 1)"
        )
    if "iou_coarse_masks" in found:
        given = f", with the given mask {found['iou_given_mask']:.3f}" if "iou_given_mask" in found else ""
        print(f"IoU of the opacity with the coarse masks that it began with: {found['iou_coarse_masks']:.3f}{given}")
    tell(f"{learned.folder} is written: {', '.join(sorted(p.name for p in learned.folder.iterdir()))}.")
