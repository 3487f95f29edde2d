"""One video, learned by one network: trained, measured, and written with what can be made of it."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ssl_video.apps.marks import mask_from_file
from ssl_video.apps.options import RepresentOptions, TrackOptions
from ssl_video.apps.represent_folder import Folder, Learned, network_of, written
from ssl_video.apps.track import settings_of
from ssl_video.datasets.masks import objects_in
from ssl_video.errors import UserError
from ssl_video.eval.carry import carry_masks
from ssl_video.eval.dense import network_features
from ssl_video.eval.shards import fingerprint
from ssl_video.files import check_folder, sha256
from ssl_video.implicit.atlas import LayeredAtlas
from ssl_video.implicit.footage import Footage, flow_between, footage_of, learned_of
from ssl_video.implicit.motion import moving_masks, start_of
from ssl_video.implicit.numbers import consistency, fidelity, overlap
from ssl_video.implicit.rendering import opacities_of
from ssl_video.implicit.training import train
from ssl_video.model import Model, default_model
from ssl_video.processes import held
from ssl_video.progress import announce, bar
from ssl_video.video.augment import resize, resize_frame
from ssl_video.video.content import content_of
from ssl_video.video.flow import opencv
from ssl_video.video.info import VideoError
from ssl_video.video.rate import rate_of_file
from ssl_video.video.reader import iterate_frames
from ssl_video.video.writer import rate_of

SIZE, FRAMES = 128, 60
STEPS = {"atlas": 3000, "coordinates": 1500}
SHORT_SIDE = 480
"""Pixels of the shorter side at which flow is found and masks are carried; larger frames are made smaller."""


@dataclass(frozen=True)
class Source:
    """What is learned: a video, its mask or None, the options, with what they leave open filled in, and the carrier.

    ``model`` carries the mask to the other frames; None where there is none to carry.
    """

    video: Path
    mask: Path | None
    options: RepresentOptions
    model: Model | None = None

    def noted(self) -> dict[str, Any]:
        """What a training depends on, by content: the same line goes on with it, and another is refused."""
        mask = None if self.mask is None else sha256(self.mask)
        carrier = None if self.model is None else fingerprint(self.model)
        return {**asdict(self.options), "content": content_of(self.video), "mask": mask, "model": carrier}


def represent(
    video: Path | str,
    out: Path | str,
    options: RepresentOptions = RepresentOptions(),
    *,
    mask: Path | str | None = None,
    model: Model | None = None,
) -> Learned:
    """Learn a video, or resume that, or find it done in ``out``; see ``represent_folder`` for what is written there.

    Args:
        video: a file, or a folder with a picture for each frame.
        out: a folder that is new or empty, or in which the same was begun.
        options: see ``RepresentOptions``.
        mask: a picture of the foreground in the first frame, for an atlas; without it the foreground is what moves
            otherwise than most of the frame.
        model: carries that mask to the other frames; by default net:dense, which comes with the package.

    Raises:
        UserError: if the video, the mask, the options or the folder cannot serve, or the loss is not finite.
    """
    source = Source(Path(video), None if mask is None else Path(mask), _filled(options))
    folder = Folder(Path(out))
    check_folder(folder.path)
    _check(source)
    if mask is not None:
        source = replace(source, model=model or default_model("dense"))
    try:
        noted = source.noted()
        if folder.finished(noted):
            return folder.load()
        with held(folder.path, "The learning of a video"):
            folder.check(noted)
            return _learned(source, folder, noted)
    except VideoError as error:
        raise UserError(f"{video} cannot be used: {error}.") from None


def _filled(options: RepresentOptions) -> RepresentOptions:
    steps = options.steps or STEPS[options.kind]
    return replace(options, size=options.size or SIZE, frames=options.frames or FRAMES, steps=steps)


def _check(source: Source) -> None:
    """Raise UserError for what cannot be read, or does not go together."""
    for path, what in ((source.video, "video"), (source.mask, "mask")):
        if path is not None and not path.exists():
            raise UserError(f"There is no {what} {path}.")
    if source.mask is not None and source.mask.is_dir():
        raise UserError(f"{source.mask} is a folder; --mask is a picture of the foreground in the first frame.")
    if source.mask is not None and source.options.kind != "atlas":
        raise UserError("--mask is of the foreground of an atlas; leave it out, or use --kind atlas.")


def _learned(source: Source, folder: Folder, noted: dict[str, Any]) -> Learned:
    since, options = time.perf_counter(), source.options
    footage = footage_from(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = network_of(options.kind, footage.size, options.encoding, _start(footage))
    state = folder.state()
    if state is not None:
        announce(f"{folder.path} is resumed after step {state['step']}.")
    before = 0.0 if state is None else float(state["seconds"])

    def save(now: dict[str, Any]) -> None:
        folder.save(now | {"noted": noted, "seconds": before + time.perf_counter() - since})

    assert options.steps is not None
    train(network, footage, options.steps, options.points, options.seed, state=state, save=save)
    network.eval()
    numbers = _numbers(network, footage) | {"minutes": (before + time.perf_counter() - since) / 60}
    return written(folder, network, footage, numbers, noted, _rate(source.video))


def _rate(video: Path) -> Fraction:
    return rate_of(rate_of_file(video))


def _start(footage: Footage) -> Any:
    """Where an atlas begins; of coordinates None."""
    return None if footage.masks_SHW is None else start_of(footage, footage.masks_SHW.numpy())


def _numbers(network: nn.Module, footage: Footage) -> dict[str, float]:
    found = fidelity(network, footage)
    if not isinstance(network, LayeredAtlas):
        return found
    found |= consistency(network, footage)
    times, size = footage.trained_S.tolist(), footage.size[1:]
    assert footage.masks_SHW is not None
    opacities = list(opacities_of(network, size, times, size))
    found["iou_coarse_masks"] = overlap(opacities, footage.masks_SHW)
    if footage.given_HW is not None:
        found["iou_given_mask"] = overlap(opacities[:1], footage.given_HW[None])
    return found


def footage_from(source: Source) -> Footage:
    """The frames at the size at which they are learned, flow between them, and of an atlas its coarse masks.

    Frames are held with a shorter side of ``SHORT_SIDE`` at most until flow and masks are found at that size. Those
    that are kept out are looked at by neither.

    Raises:
        UserError: if the mask does not fit the first frame.
        VideoError: if there is no frame.
    """
    options = source.options
    assert options.frames is not None and options.size is not None
    frames, given_HW = _read(source, options.frames)
    h, w = frames[0].shape[:2]
    scale = options.size / max(h, w)
    size = max(2, round(h * scale)), max(2, round(w * scale))
    small_THWC = resize(np.stack(frames), size) if size != (h, w) else np.stack(frames)
    learned = learned_of(len(frames), options.kept_out)
    pairs = [flow_between(frames[a], frames[b], size) for a, b in bar(list(pairwise(learned)), "flow", "pair")]
    footage = footage_of(small_THWC, learned, pairs)
    if options.kind != "atlas":
        return footage
    if given_HW is None:
        return replace(footage, masks_SHW=torch.from_numpy(moving_masks(footage)))
    assert source.model is not None
    masks_SHW = carried([frames[t] for t in learned], given_HW, size, source.model)
    return replace(footage, masks_SHW=masks_SHW, given_HW=_resized(given_HW, size))


def _read(source: Source, most: int) -> tuple[list[np.ndarray], np.ndarray | None]:
    """The frames, not larger than need be, and the mask of the first, of its size, 0 or 1. Raises VideoError."""
    start, given_HW = source.options.start, None
    stream = _frames(source.video, start)
    frames = []
    for frame_HWC in islice(stream, most):
        if not frames and source.mask is not None:
            mask_HW = mask_from_file(source.mask, frame_HWC)
            given_HW = np.isin(mask_HW, objects_in(mask_HW)).astype(np.float32)
        small = min(frame_HWC.shape[:2]) > SHORT_SIDE
        frames.append(resize_frame(frame_HWC, SHORT_SIDE) if small else frame_HWC)
    if not frames:
        raise VideoError(f"there is no frame {start}: it ends before it" if start else "it has no frame")
    return frames, given_HW


def _frames(video: Path, start: int) -> Iterator[np.ndarray]:
    """Up to where the video breaks off. Raises VideoError if that is before the first frame."""
    read = 0
    try:
        for frame_HWC in iterate_frames(str(video), start):
            read += 1
            yield frame_HWC
    except VideoError as error:
        if not read:
            raise
        announce(f"{video} breaks off after {read} frames ({error}); these are learned.")


def carried(frames: list[np.ndarray], given_HW: np.ndarray, size: tuple[int, int], model: Model) -> torch.Tensor:
    """(S, h, w) the mask of the first frame carried to all, 0 to 1, of ``size`` (h, w)."""
    settings = settings_of(TrackOptions(side=SHORT_SIDE))
    features = network_features(model, None, settings.side, settings.square)
    first_HW = (_resized(given_HW, (frames[0].shape[0], frames[0].shape[1])) > 0.5).numpy().astype(np.uint8)
    if not first_HW.any():  # smaller than a pixel
        raise UserError("The mask has nothing left of it at the size at which masks are carried; draw it larger.")
    masks = carry_masks(bar(frames, "mask", "frame"), first_HW, [1], features, settings.affinity)
    return torch.stack([_resized(mask_HW.astype(np.float32), size) for mask_HW in masks])


def _resized(mask_HW: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    cv2 = opencv()
    return torch.from_numpy(cv2.resize(mask_HW, size[::-1], interpolation=cv2.INTER_AREA))
