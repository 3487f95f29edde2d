"""Scanned videos as a run notes them, and back: lines of JSON, one each; columns for large lists."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from ssl_video.datasets.base import COLUMNS_FROM, Video, VideoRows, VideoSet
from ssl_video.datasets.columns import open_columns
from ssl_video.datasets.many import compact
from ssl_video.datasets.rows import write_rows
from ssl_video.files import folder_written_aside, write_text
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


def write_list(file: Path, videos: VideoSet) -> None:
    """Write a list into ``file``, or one of ``COLUMNS_FROM`` videos or more into the folder of that name."""
    rows = compact(videos.videos) if len(videos.videos) >= COLUMNS_FROM else None
    if not isinstance(rows, VideoRows):
        write_text(file, as_lines(videos))
        return
    left_out = [asdict(p) for p in videos.problems]
    shutil.rmtree(file.with_suffix(""), ignore_errors=True)  # of a start that was killed
    with folder_written_aside(file.with_suffix("")) as aside:
        write_rows(aside, rows, {"name": videos.name, "classes": videos.classes, "left_out": left_out})


def is_noted(file: Path) -> bool:
    """True if the list was written."""
    return file.is_file() or _in_columns(file)


def _in_columns(file: Path) -> bool:
    return file.with_suffix("").is_dir()


def read_list(file: Path) -> VideoSet:
    """What ``write_list`` wrote; columns are mapped. Raises one of ``readback.DAMAGE``, or OSError."""
    return _from_columns(file.with_suffix("")) if _in_columns(file) else from_lines(file.read_text(encoding="utf-8"))


def _from_columns(folder: Path) -> VideoSet:
    columns = open_columns(folder)
    problems = tuple(problem_from(problem) for problem in of_type(columns.about["left_out"], list))
    classes, rows = tuple(texts(columns.about["classes"])), VideoRows(columns)
    labels = columns.arrays["labels"].values if "labels" in columns.arrays else np.empty(0, int)
    if not rows.numbers("scanned").all() or (
        classes and len(labels) and not 0 <= labels.min() <= labels.max() < len(classes)
    ):
        raise ValueError("a video was not scanned, or a label is not one of its classes")
    return VideoSet(of_type(columns.about["name"], str), cast(Sequence[Video], rows), classes, problems)


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
