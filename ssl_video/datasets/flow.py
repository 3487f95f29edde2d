"""The optical flow of a set of videos, as a set that everything reads like videos of two channels."""

import dataclasses
import re
from pathlib import Path

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.cached import copied
from ssl_video.datasets.kept import hold
from ssl_video.datasets.many import with_codec
from ssl_video.errors import UserError
from ssl_video.files import copies_dir
from ssl_video.video.cache import FLOW_CODEC


def flow_of(
    videos: VideoSet,
    method: str = "farneback",
    short_side: int | None = 128,
    *,
    reversed: bool = False,
    out: Path | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> VideoSet:
    """The flow of each video in its place: field n is the motion from frame n to frame n + 1, so there is one fewer.

    Fields are uint8 (T - 1, h, w, 2), see ``ssl_video.video.flow.encode``. Flow that was computed already is used; a
    video without flow joins ``problems``.

    Args:
        videos: a scanned set.
        method: ``farneback``, ``dis`` or ``raft``, with options as in ``farneback?window=21``.
        short_side: of the frames for which flow is computed, in pixels; None keeps the size.
        reversed: flow of the videos played backwards, computed anew: it is not the forward flow negated.
        out: folder of the flow; by default in ``files.copies_dir``.
        workers: processes; by default one a core.
        progress: show a bar, on a terminal.

    Raises:
        UserError: if there is no such method, what it needs is not installed, or no video has flow.
    """
    if out is None:
        direction = "reversed" if reversed else "forward"
        out = copies_dir("flow") / f"{re.sub(r'[^a-z0-9]+.*', '', method)}-{direction}-{short_side or 'full'}"
        hold(out)
    return copied(videos, method, short_side, out, reversed=reversed, workers=workers, progress=progress)


def for_modality(
    videos: VideoSet,
    modality: str,
    *,
    reversed: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> VideoSet:
    """What a network of that modality (``ClipSpec.modality``) takes: the videos themselves, or their flow.

    The flow is Farneback's at a short side of 128, unless the set holds flow already ('ssl-video data flow' makes such
    sets by other methods and at other sizes). With ``reversed`` a network of flow gets that of the videos played
    backwards too (``Video.reversed_path``); a network of RGB can reverse frames itself.

    Raises:
        UserError: if the network takes RGB and the set holds flow, no video has flow, or ``reversed`` flow is asked of
            a set that holds flow of one direction.
    """
    flows_N = with_codec(videos.videos, FLOW_CODEC)
    if modality == "flow":
        return _flow_in_place(videos, bool(flows_N.all()), reversed, workers, progress)
    if flows_N.any():
        raise UserError(f"{videos.name} holds optical flow, but the network takes {modality}; name the videos instead.")
    return videos


def _flow_in_place(videos: VideoSet, is_flow: bool, reversed: bool, workers: int | None, progress: bool) -> VideoSet:
    if is_flow and not (reversed and any(not v.reversed_path for v in videos.videos)):
        return videos
    if is_flow:
        raise UserError(
            f"{videos.name} holds optical flow of one direction, but flow of both is needed; name the videos instead."
        )
    originals = tuple(dataclasses.replace(v, path=v.at_hand) for v in videos.videos)  # not small copies
    videos = dataclasses.replace(videos, videos=originals)
    forward = flow_of(videos, workers=workers, progress=progress)
    if not reversed:
        return forward
    backward = flow_of(videos, reversed=True, workers=workers, progress=progress)
    paths = {v.source: v.path for v in backward.videos}
    both = tuple(dataclasses.replace(v, reversed_path=paths[v.source]) for v in forward.videos if v.source in paths)
    problems = dict.fromkeys((*forward.problems, *backward.problems))  # most are found in both directions
    return dataclasses.replace(forward, videos=both, problems=tuple(problems))
