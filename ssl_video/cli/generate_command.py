"""``ssl-video generate``: draw videos by a network that was trained to take noise out of clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.apps.options import GenerateOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, Folder, ModelName, parse
from ssl_video.progress import count

if TYPE_CHECKING:
    from ssl_video.apps.generate import Generated

Prompts = Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT ...")]
Picture = Annotated[Path, tyro.conf.arg(metavar="PICTURE")]
Video = Annotated[Path, tyro.conf.arg(metavar="VIDEO")]
Mask = Annotated[Path, tyro.conf.arg(metavar="MASK")]
MEASURED = {
    "motion_px": "motion, in pixels a frame (of a clip that stands still: {motion_px_frozen:.3f})",
    "psnr_before_paste_db": "dB: what is given, as the network drew it before it was pasted (PSNR)",
    "distance": "gray levels from the video that was edited (root mean square)",
    "seam_ratio": "times as much change at the seams of windows as elsewhere",
    "psnr_made_small_again_db": "dB: the larger video made small again, against the small one (PSNR)",
    "seam_ratio_upscaled": "times as much change at the seams of the larger video's windows as elsewhere",
}
"""What is said of what was measured."""


@dataclass(frozen=True)
class GenerateConfig:
    """Options of drawing videos."""

    usual: ClassVar = ("model", "out", "prompt", "image", "video")
    examples: ClassVar = (
        'ssl-video generate --model RUN --prompt "a red circle drifts left" --number 8 --out drawn',
        "ssl-video generate --model RUN --image first.png --seed 3 --out moving",
        "ssl-video generate --model RUN --video clip.mp4 --mask mask.png --out filled",
    )

    model: ModelName
    """A run of video_diffusion."""
    out: Folder
    """Folder of what is written: empty, not there yet; what the same line has begun goes on."""
    prompt: Prompts = ()
    """What is to be seen, in words that the run has learned; of several, each gets videos of its own."""
    image: Picture | None = None
    """The first frame."""
    video: Video | None = None
    """A video of which --mask marks what is filled, or that --edit draws anew."""
    mask: Mask | None = None
    """Picture of what is filled of --video (white, or numbers from 1 on), or a folder with one for each frame."""
    cinemagraph: Mask | None = None
    """Picture of the part of --image that moves; the rest stands still."""
    style: ModelName | None = None
    """A run of the same network, part of whose spatial weights are taken."""
    upscale: ModelName | None = None
    """A run of video_upscaling, which makes the videos larger."""
    options: Annotated[GenerateOptions, tyro.conf.arg(name="")] = GenerateOptions()
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(GenerateConfig, argv, "generate", "Draw videos by a network that takes noise out of clips.")
    from ssl_video.apps.generate import Painters, generate
    from ssl_video.apps.generate_given import Given
    from ssl_video.model import load_model
    from ssl_video.train.distributed import choose_device

    prompts = tuple(text for texts in config.prompt for text in texts)
    given = Given(prompts, config.image, config.video, config.mask, config.cinemagraph)
    given.check(config.options)
    device = choose_device(config.device)
    others = [None if name is None else load_model(name, device) for name in (config.style, config.upscale)]
    painters = Painters(load_model(config.model, device), *others)
    _tell(generate(painters, given, config.out, config.options, progress=True))
    return 0


def _tell(done: "Generated") -> None:
    frames, height, width = done.size
    print(
        f"{count(len(done.films), 'video')} of {count(frames, 'frame')}, {width}x{height}, {done.fps:g} frames a second"
    )
    mean = done.mean()
    for name, words in MEASURED.items():
        if name in mean:
            print(f"{mean[name]:.3f} {words.format(**mean)}")
    first, last = done.written[0], done.written[-1]
    tell(f"{first} to {last.name} are written: {count(len(done.written), 'file')} in {done.folder}.")
