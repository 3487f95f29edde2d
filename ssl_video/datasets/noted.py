"""Scanned videos as lines of JSON, one each, as a run notes them, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ssl_video.datasets.base import Video, VideoSet
from ssl_video.readback import of_type, parsed, texts
from ssl_video.video.info import Problem, VideoInfo


def as_lines(videos: VideoSet) -> str:
    """A line about the set, one for each video, and one for each that was left out."""
    head = {"name": videos.name, "classes": videos.classes}
    lines = [head, *map(asdict, videos.videos), *({"left_out": asdict(p)} for p in videos.problems)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def from_lines(text: str) -> VideoSet:
    """What ``as_lines`` wrote. Raises one of ``readback.DAMAGE`` if it is not as it was written."""
    head, *lines = map(parsed, text.splitlines())
    classes = tuple(texts(head["classes"]))
    videos = tuple(_video(line, len(classes)) for line in lines if "left_out" not in line)
    problems = tuple(problem_from(line["left_out"]) for line in lines if "left_out" in line)
    return VideoSet(of_type(head["name"], str), videos, classes, problems)


def problem_from(content: Mapping[str, Any]) -> Problem:
    """A problem of its fields. Raises one of ``readback.DAMAGE``."""
    problem = Problem(**content)
    texts([problem.path, problem.reason])
    of_type(problem.passing, bool)
    return problem


def _video(line: Mapping[str, Any], classes: int) -> Video:
    labels = tuple(of_type(label, int) for label in of_type(line["labels"], list))
    if classes and not all(0 <= label < classes for label in labels):
        raise ValueError("a label is not one of its classes")
    video = Video(**{**line, "labels": labels, "info": VideoInfo(**line["info"])})
    of_type(video.resized_to, int)
    texts([video.path, video.group, video.copy_of, video.reversed_path])
    texts([video.annotation, video.annotated, video.published, *([] if video.caption is None else [video.caption])])
    return video
