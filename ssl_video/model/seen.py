"""Which videos a network was trained on, and by what that is known."""

import hashlib
import re
from collections.abc import Collection, Iterable

from ssl_video.datasets.base import Video
from ssl_video.digests import Digests

CONTENT, NAME = "content", "name"
"""How a video was recognised: by the digest of its content; by the 8 digits of folder and name that version 0.1 noted,
which are too few for many videos. Otherwise ``list SET:LIST``: a published list that names it was trained on."""


def digest(video: Video) -> str:
    """What is written with weights of a video that they were trained on: the 16 digits of its content.

    Where that was not read, 8 digits of its folder and name, as version 0.1 wrote them.
    """
    return video.info.content or digest_of_name(video)


def digest_of_name(video: Video) -> str:
    """8 hexadecimal digits of a video's folder and name."""
    return hashlib.sha256(video.name.encode(errors="surrogateescape")).hexdigest()[:8]


def seen_among(videos: Iterable[Video], trained_on: Collection[str]) -> dict[str, str]:
    """The videos that a network was trained on, by the paths of the user's files -> how each was recognised.

    ``trained_on`` are digests of videos and names of published lists (``Model.trained_on``).
    """
    lists = [name for name in Digests.of(trained_on).others if ":" in name]
    listed: dict[str, bool] = {"": False}
    found = {}
    for video in videos:
        name = video.published
        if name not in listed:
            listed[name] = any(same_list(name, other) for other in lists)
        if video.info.content in trained_on:
            found[video.source] = CONTENT
        elif listed[name]:
            found[video.source] = f"list {name}"
        elif digest_of_name(video) in trained_on:
            found[video.source] = NAME
    return found


def same_list(one: str, other: str) -> bool:
    """True if two names SET:LIST may mean one list: ``kinetics:train`` is that of an edition of Kinetics not known."""
    (set_a, _, list_a), (set_b, _, list_b) = one.partition(":"), other.partition(":")
    any_a, any_b = (re.sub(r"\d+$", "", name) for name in (set_a, set_b))
    return list_a == list_b and (set_a in (set_b, any_b) or set_b == any_a)
