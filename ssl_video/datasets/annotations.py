"""What people have drawn on the frames of videos, or noted of them, in whatever form a data set has it.

A kind of annotation is an abstract class with a method that gives it: ``masks.MaskReader``, ``points.PointReader``,
``phases.PhaseReader``. A form is a subclass, registered by a name, that reads it from where ``Video.annotation`` says;
a data set names the form of its videos (``Video.annotated``). So another form, or another kind, is another file.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from ssl_video.datasets.base import Video
from ssl_video.registry import Registry

T = TypeVar("T")

# name -> class of one kind, made without arguments
ANNOTATIONS: Registry[Callable[[], Any]] = Registry("form of annotation", "ssl_video.datasets")


def reader_of(video: Video, kind: type[T]) -> T | None:
    """What reads the annotation of a video, if it has one of that kind. Raises UserError for an unknown form."""
    form = ANNOTATIONS[video.annotated]() if video.annotated else None
    return form if isinstance(form, kind) else None
