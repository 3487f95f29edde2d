"""Embeddings of all frames of whole videos from a frozen network."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.datasets.base import Video
from ssl_video.datasets.many import in_fixed_order
from ssl_video.errors import UserError
from ssl_video.eval.calibration import BYTES, batch_norms, settle
from ssl_video.model import Model, check_features
from ssl_video.progress import bar
from ssl_video.video.info import Problem, problem_of
from ssl_video.video.reader import VideoError, iterate_frames

BATCH = 16
"""Frames that are embedded together."""
AT_ONCE = 16 * BATCH
"""Frames of a long video that are held, beside those around them."""


def small_frames(model: Model, video: Video) -> np.ndarray:
    """frames_THWC of a video, each made as small as the model takes it when it is read. Raises VideoError."""
    return np.stack(list(iterate_frames(video.path, each=model.view.small)))


def embed_frames(
    model: Model, videos: Sequence[Video], stage: str | None = None
) -> tuple[list[np.ndarray | None], list[Problem]]:
    """(T, D) embeddings of the frames of each video, None for one that cannot be read; and the problems of those.

    At a ``stage`` they are those of the clips around the frames, see ``Model.frame_embeddings``.

    Raises:
        UserError: for a network that does not take RGB, or whose embeddings are not finite, or if no video can be read.
    """
    if model.backbone.clip.modality != "rgb":
        raise UserError(
            f"Embeddings of frames are of RGB, but {model.name} takes {model.backbone.clip.modality}; "
            "name a network of RGB by --model."
        )
    model.check_weights()
    embedded: list[np.ndarray | None] = []
    problems: list[Problem] = []
    for video in bar(videos, "frames", "video"):
        try:
            embeddings_TD = _embeddings(model, video, stage)
            check_features(model.name, [embeddings_TD], before=len(embedded))
            embedded.append(embeddings_TD)
        except VideoError as error:
            embedded.append(None)
            problems.append(problem_of(video.source, error))
    if len(problems) == len(videos):
        raise UserError(f"None of {len(videos)} videos could be read; the first: {problems[0].reason}.")
    return embedded, problems


def _embeddings(model: Model, video: Video, stage: str | None) -> np.ndarray:
    """(T, D) as ``Model.frame_embeddings``, of a video of which no more frames are held than ``AT_ONCE`` and the frames
    around them that an embedding is made of. Raises VideoError.
    """
    view = model.view
    around = -(-view.frames * view.stride // BATCH) * BATCH  # whole batches, so that each frame shares its batch
    frames = iterate_frames(video.path, each=lambda frame_HWC: view.prepare(frame_HWC[None])[0])
    held: list[np.ndarray] = []
    first = done = 0  # the number of the first frame that is held, and of the first one without an embedding
    parts: list[np.ndarray] = []
    while True:
        wanted = done + AT_ONCE + around - first - len(held)
        more = list(islice(frames, wanted))
        held += more
        end = first + len(held) if len(more) < wanted else done + AT_ONCE
        found_TD = model.frame_embeddings(np.stack(held), BATCH, stage)
        parts.append(found_TD[done - first : end - first])
        if len(more) < wanted:
            return np.concatenate(parts)
        done = end
        held, first = held[max(0, done - around - first) :], max(0, done - around)


def calibrate_on_frames(model: Model, videos: Sequence[Video], at_most: int = 32, stage: str | None = None) -> Model:
    """A copy of the model, heads of a pretext included, whose batch-norm statistics are those of frames of ``videos``.

    As ``calibration.calibrate_batch_norm``, for embeddings of frames.
    """
    own = (
        {"backbone": model.backbone}
        if model.pretext is None
        else {"backbone": model.backbone, "pretext": model.pretext}
    )
    copies = copy.deepcopy(own)  # at once: what they share they go on sharing, and a teacher stays one
    module = nn.ModuleList(copies.values()).eval()
    if not batch_norms(module):
        return model
    calibrated = replace(model, **copies)

    def embed(frames_THWC: Tensor) -> Tensor:
        return torch.from_numpy(calibrated.frame_embeddings(frames_THWC.numpy(), stage=stage))

    frames = list(_some_frames(calibrated, in_fixed_order(videos)[:at_most]))
    if frames:
        settle(module, [embed], frames, cut=False)
    return calibrated


def _some_frames(model: Model, videos: Sequence[Video]) -> Iterator[Tensor]:
    """frames_THWC of one video after the other, as many whole videos as 256 MB hold, and at least one."""
    held = 0
    for video in videos:
        try:
            frames_THWC = small_frames(model, video)
        except VideoError:
            continue  # whoever embeds it says so
        held += frames_THWC.nbytes
        yield torch.from_numpy(frames_THWC)
        if held > BYTES:
            return
