"""What is given of videos that are to be drawn: texts, an image, a video with a mask; read, checked and made to fit."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_video.apps.options import GenerateOptions
from ssl_video.capabilities import Conditions, Generates
from ssl_video.datasets.base import Video
from ssl_video.datasets.masks import Masks, masks_in, read_mask
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.model import Model
from ssl_video.pretexts.texts import numbered, words_of
from ssl_video.video.augment import crop, resize
from ssl_video.video.info import VideoError
from ssl_video.video.pictures import FPS, read_picture
from ssl_video.video.reader import read_frames
from ssl_video.video.view import View
from ssl_video.video.writer import rate_of

DOES = {
    "unconditional": "draw videos of which nothing is given",
    "first_frame": "go on from a first frame",
    "inpainting": "fill a part of a video",
    "cinemagraph": "move a part of a picture",
}
"""What a network that was trained for a task has learned to do."""


@dataclass(frozen=True)
class Given:
    """Texts and files of which videos are made; nothing of it is needed.

    Args:
        prompts: texts, each of which gets videos of its own.
        image: the first frame.
        video: to be filled where a ``mask`` says, or drawn anew (``GenerateOptions.edit``).
        mask: what is marked in it is drawn: a picture for all frames, or a folder with a mask for each.
        cinemagraph: a picture in which the part of ``image`` is marked that moves; the rest stands still.

    Raises:
        UserError: for things that cannot be given together.
    """

    prompts: Sequence[str] = ()
    image: Path | None = None
    video: Path | None = None
    mask: Path | None = None
    cinemagraph: Path | None = None

    def __post_init__(self):
        if self.image is not None and self.video is not None:
            raise UserError("A video begins with --image or is made of --video; give one of them.")
        if self.mask is not None and self.video is None:
            raise UserError("--mask marks what is filled of a video; name that by --video.")
        if self.cinemagraph is not None and self.image is None:
            raise UserError("--cinemagraph marks what moves of a picture; name that by --image.")
        if blank := [prompt for prompt in self.prompts if not words_of(prompt)]:
            raise UserError(f"The prompt {blank[0]!r} has no word; write some, or leave it out.")

    @property
    def task(self) -> str:
        """What a network must have been trained for."""
        if self.cinemagraph is not None:
            return "cinemagraph"
        if self.image is not None:
            return "first_frame"
        return "inpainting" if self.mask is not None else "unconditional"

    def check(self, options: GenerateOptions) -> None:
        """Raise UserError unless the options say what is made of it."""
        if self.video is not None and self.mask is None and options.edit is None:
            raise UserError("Say what is made of --video: --mask M fills a part of it, --edit 0.5 draws it anew.")
        if self.video is None and options.edit is not None:
            raise UserError("--edit draws a video anew; name it by --video.")
        if not self.prompts and options.guidance != 1:
            raise UserError("--guidance goes beyond a text; give one by --prompt, or leave it out.")

    def check_trained(self, painter: Generates, name: str) -> None:
        """Raise UserError unless the network ``name`` has learned this task, and knows the words."""
        if self.task not in painter.trained_for:
            known = " and to ".join(DOES[task] for task in DOES if task in painter.trained_for) or "do others"
            raise UserError(
                f"{name} was not trained to {DOES[self.task]}, but to {known}; train a run with "
                f"--pretext.{self.task.replace('_', '-')} 1, say."
            )
        if self.prompts and not painter.takes_text:
            raise UserError(
                f"{name} was trained without captions and knows no words; leave --prompt out, or train a run with "
                f"--pretext.captions."
            )
        if self.prompts and painter.vocabulary:
            numbered(self.prompts, painter.vocabulary, torch.device("cpu"))


@dataclass(frozen=True)
class Known:
    """What is known of a video before it is drawn, in the size in which it is drawn.

    ``frames_THWC`` are uint8, known where ``known_THW`` is True, both None where nothing is; ``start_THWC`` is what is
    drawn anew.
    """

    size_THW: tuple[int, int, int]
    fps: Fraction
    frames_THWC: np.ndarray | None = None
    known_THW: np.ndarray | None = None
    start_THWC: np.ndarray | None = None

    def conditions(self, prompt: str | None, strength: float) -> Conditions:
        """Of one video; what is known is not pasted yet."""
        parts = (self.frames_THWC, self.known_THW, self.start_THWC)
        frames, known, start = (None if part is None else torch.from_numpy(part)[None] for part in parts)
        return Conditions(None if prompt is None else (prompt,), frames, known, start, strength, pasted=False)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        digest = hashlib.sha256(repr((self.size_THW, self.fps)).encode())
        for part in (self.frames_THWC, self.known_THW, self.start_THWC):
            digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def known_of(given: Given, model: Model, options: GenerateOptions) -> Known:
    """Read what is given, and make it fit. Raises UserError."""
    view, side = model.view, options.size or model.view.size
    least = model.backbone.clip.min_size
    if least is not None and side < least:
        raise UserError(f"{model.name} draws videos of {least} pixels or more; use --size {least}.")
    frames = options.frames or view.frames
    fps = rate_of(view.fps or FPS / view.stride)
    try:
        if given.video is not None:
            return _of_video(given, one_video(given.video), view, options)
        if given.image is None:
            return Known((frames, side, side), fps)
        image_HWC = read_picture(given.image)
        frames_THWC = np.repeat(fitted(image_HWC[None], side, options.crop, given.image), frames, 0)
        known_THW = np.zeros(frames_THWC.shape[:3], bool)
        if given.cinemagraph is not None:
            region = given.cinemagraph
            moves_1HW = marked([mask_from(region)], image_HWC.shape[:2], region, given.image)
            known_THW[:] = ~fitted_masks(moves_1HW, side)
        known_THW[0] = True
        return Known((frames, side, side), fps, frames_THWC, known_THW)
    except VideoError as error:
        raise UserError(f"The image {given.image} cannot be used: {error}.") from None


def _of_video(given: Given, video: Video, view: View, options: GenerateOptions) -> Known:
    """As ``known_of``, of a scanned video from its first frame on, at the stride of training."""
    side, numbers_T = options.size or view.size, frames_of(video, view)
    if options.frames is not None and options.frames > len(numbers_T):
        raise UserError(
            f"--frames {options.frames} is more than {video.source} has for this run, {len(numbers_T)} of "
            f"{video.frames}; ask for fewer, or leave --frames out."
        )
    numbers_T = numbers_T[: options.frames or view.frames]

    def small(frame_HWC: np.ndarray) -> np.ndarray:  # one frame is held as it was decoded
        return fitted(frame_HWC[None], side, options.crop, video.source)[0]

    try:
        frames_THWC = read_frames(video.path, numbers_T.tolist(), video.info, small)
    except VideoError as error:
        raise UserError(f"{video.source} cannot be used: {error}.") from None
    start_THWC, known_THW = frames_THWC if options.edit is not None else None, None
    if given.mask is not None:
        masks, size = masks_of_frames(given.mask, video, numbers_T), (video.info.height, video.info.width)
        known_THW = ~fitted_masks(marked(masks, size, given.mask, video.source), side)
    fps = rate_of(view.fps or video.info.fps / view.stride)
    return Known((len(numbers_T), side, side), fps, None if known_THW is None else frames_THWC, known_THW, start_THWC)


def frames_of(video: Video, view: View) -> np.ndarray:
    """Numbers of all frames of a scanned video that a clip as long as possible would have."""
    offsets_T = replace(view, frames=video.frames).offsets(video)
    return offsets_T[offsets_T < video.frames]


def fitted(frames_THWC: np.ndarray, side: int, cropped: bool, name: Path | str) -> np.ndarray:
    """Squares of ``side`` pixels: the middle of the frames where they may be ``cropped``. Raises UserError."""
    height, width = frames_THWC.shape[1:3]
    if height != width and not cropped:
        raise UserError(
            f"{name} has {width}x{height} pixels, and what is drawn is a square; add --crop to take the square in its "
            f"middle."
        )
    return np.ascontiguousarray(resize(crop(frames_THWC, min(height, width), None), (side, side)))


def fitted_masks(marked_THW: np.ndarray, side: int) -> np.ndarray:
    """The same of masks: every pixel is that which lies nearest."""
    square_THW = crop(marked_THW, min(marked_THW.shape[1:3]), None)
    places = ((np.arange(side) + 0.5) * square_THW.shape[1] / side).astype(int)
    return square_THW[:, places][:, :, places]


def masks_of_frames(path: Path, video: Video, numbers_T: np.ndarray) -> list[np.ndarray]:
    """A mask_HW for each of these frames: of one picture, or of a folder (or .npz) with one for each. Raises UserError.

    A folder has them in the order of the frames, or by their names where the video is a folder of pictures.
    """
    if not path.is_dir() and path.suffix != ".npz":
        return [mask_from(path)] * len(numbers_T)
    masks = masks_in(path, video) if path.is_dir() else Masks(path, video.frames)
    rows = []
    for number in numbers_T.tolist():
        mask_HW = mask_from(path, masks, number)
        if mask_HW is None:
            raise UserError(f"{path} has no mask of frame {number} of {video.source}; give one for each frame, or one.")
        rows.append(mask_HW)
    return rows


def mask_from(path: Path, masks: Masks | None = None, number: int = 0) -> Any:
    """mask_HW of a picture, or of a frame, None where that has none. Raises UserError if it cannot be read."""
    try:
        return read_mask(path) if masks is None else masks[number]
    except VideoError as error:
        raise UserError(f"The mask {path} cannot be used: {error}.") from None


def marked(masks: Sequence[np.ndarray], size: tuple[int, int], path: Path, of: Path | str) -> np.ndarray:
    """(T, H, W) bool, True where something is marked. Raises UserError for another size, or if nothing is."""
    if other := [mask_HW.shape for mask_HW in masks if mask_HW.shape != size]:
        has, needs = (f"{width}x{height}" for height, width in (other[0], size))
        raise UserError(f"The mask {path} has {has} pixels, but {of} has {needs}; draw it on a frame of that itself.")
    marked_THW = np.stack(masks) > 0
    if not marked_THW.any():
        raise UserError(f"The mask {path} marks nothing; what is to be drawn is white, or has a number from 1 on.")
    return marked_THW
