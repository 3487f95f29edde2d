"""Videos drawn by a network that denoises: from nothing, from a text, or around what is given of them.

O. Bar-Tal, H. Chefer, O. Tov, C. Herrmann et al.: "Lumiere: A Space-Time Diffusion Model for Video Generation",
SIGGRAPH Asia 2024, section 4; editing by C. Meng et al.: "SDEdit", ICLR 2022.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_video.apps.generate_folder import NOTE, SHEET, SLICES, Film, FilmFolder
from ssl_video.apps.generate_given import Given, Known, known_of
from ssl_video.apps.generate_measures import lowered, motion, psnr, rms, seam_ratio
from ssl_video.apps.options import GenerateOptions
from ssl_video.backbones.base import Backbone
from ssl_video.capabilities import Denoises, Generates, Upscales
from ssl_video.errors import UserError
from ssl_video.files import check_folder, readable
from ssl_video.model import Model
from ssl_video.processes import held
from ssl_video.progress import bar
from ssl_video.tensors import content_digest, some_of

STYLE_WEIGHT = 0.7
"""How much of a style's weights is taken where nothing is said."""


@dataclass(frozen=True)
class Painters:
    """The network that draws, one of whose spatial weights some are taken, and one that makes videos larger."""

    model: Model
    style: Model | None = None
    upscaler: Model | None = None


@dataclass(frozen=True)
class Generated:
    """What was drawn: ``films`` in ``folder``, of a size (T, H, W), and all files."""

    folder: Path
    films: tuple[Film, ...]
    size: tuple[int, int, int]
    fps: float
    written: tuple[Path, ...]

    def mean(self) -> dict[str, float]:
        """What was measured, on average over the films that have it."""
        names = dict.fromkeys(name for film in self.films for name in film.measured)
        return {n: float(np.mean([f.measured[n] for f in self.films if n in f.measured])) for n in names}


def generate(
    painters: Painters,
    given: Given,
    out: Path | str,
    options: GenerateOptions = GenerateOptions(),
    *,
    progress: bool = False,
) -> Generated:
    """Draw videos, and write them into a folder.

    Writes a film each (``000.mp4``, ...), a sheet of frames, x-t slices, and ``generate.json`` with what was asked for
    and measured. What was killed goes on with the films that are missing when it is called again; the same call gives
    the same bytes on the same machine.

    Args:
        painters: a run of video_diffusion, and what else has a part in it.
        given: texts and files; nothing of it is needed.
        out: a folder that is empty or not there yet, or that the same call has begun.
        options: see ``GenerateOptions``.
        progress: show a bar, on a terminal.

    Raises:
        UserError: if the network has not learned what is asked of it, or anything that is given does not fit.
    """
    out = Path(out)
    check_folder(out)
    given.check(options)
    if painters.style is None and options.style_weight is not None:
        raise UserError("--style-weight is the weight of a style; name a run by --style.")
    given.check_trained(painters.model.need(Generates), painters.model.name)
    drawing = Drawing(painters, styled(painters, options), known_of(given, painters.model, options), options)
    shots = [(prompt, number) for prompt in given.prompts or (None,) for number in range(options.number)]
    with held(out, "A generation"):
        folder = FilmFolder(out, head_of(drawing, given), len(shots), drawing.known.fps, options.lossless)
        folder.open()
        for prompt, number in bar(shots[len(folder.films) :], "generate", "video", progress):
            folder.add(*drawing.one(prompt, number))
        folder.finish()
    names = [name for film in folder.films for name in (film.file, *drawing.exact(film))]
    written = tuple(out / name for name in (*names, SHEET, SLICES, NOTE))
    return Generated(out, tuple(folder.films), drawing.size, float(drawing.known.fps), written)


@dataclass(frozen=True)
class Drawing:
    """All that a video is made of but its text and its noise; ``backbone`` is the network whose weights count."""

    painters: Painters
    backbone: Backbone
    known: Known
    options: GenerateOptions

    @property
    def factor(self) -> int:
        """How many times as large the videos are made."""
        return 1 if self.painters.upscaler is None else self.painters.upscaler.need(Upscales).factor

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height and width of a film."""
        T, H, W = self.known.size_THW
        return T, H * self.factor, W * self.factor

    def exact(self, film: Film) -> list[str]:
        """The file that has the frames of a film as they were drawn, where they are kept."""
        return [str(Path(film.file).with_suffix(".npy"))] if self.options.lossless else []

    def one(self, prompt: str | None, number: int) -> tuple[np.ndarray, str | None, int, dict[str, float]]:
        """frames_THWC of one video, its text, its number, and what was measured. Raises UserError."""
        known, options = self.known, self.options
        generator = torch.Generator().manual_seed(noise_key(options.seed, number))
        strength = 1.0 if options.edit is None else options.edit
        conditions = known.conditions(prompt, strength)
        painter = self.painters.model.need(Generates)
        drawn = painter.generate((1, *known.size_THW), conditions, options, generator, self.backbone)
        frames_THWC = drawn[0].cpu().numpy()
        measured: dict[str, float | None] = {}
        if known.frames_THWC is not None and known.known_THW is not None:
            at_THW = known.known_THW
            if at_THW.any():
                measured["psnr_before_paste_db"] = psnr(frames_THWC[at_THW], known.frames_THWC[at_THW])
            frames_THWC = np.where(at_THW[..., None], known.frames_THWC, frames_THWC)
        if known.start_THWC is not None:
            measured["distance"] = rms(frames_THWC, known.start_THWC)
        measured["seam_ratio"] = seam_ratio(frames_THWC, self.painters.model.view.frames, options.overlap)
        if self.painters.upscaler is not None:
            frames_THWC, more = self.enlarged(self.painters.upscaler, frames_THWC, generator)
            measured |= more
        if len(frames_THWC) > 1:
            measured |= motion(frames_THWC)
        return frames_THWC, prompt, number, {n: round(v, 4) for n, v in measured.items() if v is not None}

    def enlarged(
        self, upscaler: Model, frames_THWC: np.ndarray, generator: torch.Generator
    ) -> tuple[np.ndarray, dict[str, float | None]]:
        """A video made larger, and how well it is what it was when it is made small again."""
        low = torch.from_numpy(frames_THWC)[None]
        high = upscaler.need(Upscales).upscale(low, self.options, generator, upscaler.backbone)[0].cpu().numpy()
        fit = psnr(lowered(high, self.factor), frames_THWC)
        seams = seam_ratio(high, upscaler.view.frames, self.options.overlap)
        return high, {"psnr_made_small_again_db": fit, "seam_ratio_upscaled": seams}


def noise_key(seed: int, number: int) -> int:
    """The seed of the noise of one video: it does not depend on how many are drawn, or on their texts."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)


def styled(painters: Painters, options: GenerateOptions) -> Backbone:
    """The network that draws, with spatial weights between its own (weight 0) and those of the style (1).

    Raises:
        UserError: if the style is a network of another shape.
    """
    model, style = painters.model, painters.style
    if style is None:
        return model.backbone
    part_of = model.need(Denoises).part_of
    own, theirs = model.backbone.network.state_dict(), style.backbone.network.state_dict()
    spatial = [name for name, part in part_of.items() if part == "spatial"]
    misfits = [name for name in spatial if name not in theirs or theirs[name].shape != own[name].shape]
    misfits += [n for n, part in style.need(Denoises).part_of.items() if part == "spatial" and n not in own]
    if misfits:
        raise UserError(
            f"{style.name} has spatial weights of another shape than {model.name} ({some_of(misfits, len(spatial))}); "
            f"a style is a run of the same network."
        )
    weight = STYLE_WEIGHT if options.style_weight is None else options.style_weight
    mixed = {n: torch.lerp(own[n], theirs[n].to(own[n]), weight) for n in spatial if own[n].is_floating_point()}
    backbone = copy.deepcopy(model.backbone)
    backbone.network.load_state_dict(own | mixed)
    return backbone


def head_of(drawing: Drawing, given: Given) -> dict[str, Any]:
    """What ``generate.json`` says before its videos: names as they were given, and what makes the videos, exactly."""
    painters, options = drawing.painters, drawing.options
    asked: dict[str, Any] = {"prompts": list(given.prompts), **asdict(options)}
    asked |= {"given": drawing.known.digest, "network": _digest(painters.model, drawing.backbone)}
    if painters.upscaler is not None:
        asked["upscaler"] = _digest(painters.upscaler, painters.upscaler.backbone)
    models = {"model": painters.model, "style": painters.style, "upscale": painters.upscaler}
    names: dict[str, Any] = {name: None if one is None else one.name for name, one in models.items()}
    names |= {name: getattr(given, name) for name in ("image", "video", "mask", "cinemagraph")}
    T, H, W = drawing.size
    return {
        "from": {name: readable(str(value)) for name, value in names.items() if value is not None},
        "asked": asked,
        "task": given.task,
        "frames": T,
        "height": H,
        "width": W,
        "fps": float(drawing.known.fps),
    }


def _digest(model: Model, backbone: Backbone) -> str:
    """SHA-256 of the weights that count, and of the options by which the pretext draws."""
    header: Mapping[str, Any] = {"pretext": model.run.get("pretext")}
    return content_digest({name: tensor.cpu() for name, tensor in backbone.state_dict().items()}, header)
