"""The contract of every encoder: a list of videos in, a vector for each out, after fitting to a training list."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import parse_qsl

import numpy as np

from ssl_video.config import make_options
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.registry import Registry
from ssl_video.video.info import Problem


@dataclass
class Encoded:
    """(N, D) features of the N videos that could be read, in the order of the list, and why the others could not."""

    features_ND: np.ndarray
    videos: list[Video]
    problems: list[Problem]


class Encoder(ABC):
    """Whole videos to vectors. Every subclass is final.

    ``presets`` says which preset of a protocol was made for this encoder, and stands in for its ``default``.
    """

    presets: ClassVar[Mapping[str, str]] = {}
    name: str = ""  # set by build_encoder: the SPEC that builds it again

    @abstractmethod
    def fit(self, train: VideoSet, workers: int) -> None:
        """Fit to the videos of a training list, whose labels are not looked at. Raises UserError."""

    @abstractmethod
    def encode(self, videos: VideoSet, workers: int) -> Encoded:
        """Encode videos with what was fitted; a vector does not depend on the other videos of the list."""


# name -> builder: a function of typed keyword options, each with a default, that returns an Encoder
ENCODERS: Registry[Callable[..., Encoder]] = Registry("encoder", "ssl_video.encoders")


def build_encoder(spec: str) -> Encoder:
    """The encoder that ``NAME?option=value&...`` names. Raises UserError for unknown names and options."""
    name, _, query = spec.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    encoder = ENCODERS[name](**make_options(ENCODERS[name], f"encoder {name}", given))
    encoder.name = spec
    return encoder
