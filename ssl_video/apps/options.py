"""What the applications can be told, apart from their inputs. Light to import: a command's flags are made of these."""

from dataclasses import dataclass
from typing import Literal

from ssl_video.errors import UserError

Method = Literal["dtw", "nearest"]
Form = Literal["duration", "mean"]
Format = Literal["safetensors", "onnx", "torch-export"]
RERANK = 200
"""Candidates of a search that are compared exactly, by default."""


@dataclass(frozen=True)
class IndexOptions:
    """How an index is made; None: as the index that is there, or for a new one 8 clips, "rich" and "exact"."""

    clips: int | None = None
    """Clips of a video, evenly spaced, 8 by default; 0: windows that overlap by half. For a new index."""
    readout: str | None = None
    """How a feature map becomes a vector: rich (default), avg, max, conv5 or cls; for a new index."""
    index_type: str | None = None
    """exact (default), ivfpq, or a factory string of faiss such as IVF1024,PQ32; for a new index."""

    def __post_init__(self):
        if self.clips is not None and self.clips < 0:
            raise UserError("--clips must be 0 or more.")


@dataclass(frozen=True)
class SearchOptions:
    """How an index is searched."""

    top_k: int = 5
    """Neighbours to find."""
    moments: bool = False
    """Find the nearest moments, which may be of one video, instead of each video once."""
    rerank: int = RERANK
    """Candidates of a faiss index that are compared exactly; 0 goes by its codes alone."""
    nprobe: int = 0
    """Lists of a faiss index that are searched; 0: as many as were found to be enough when it was made."""

    def __post_init__(self):
        if self.top_k < 1:
            raise UserError("--top-k must be 1 or more.")
        if self.rerank < 0 or self.nprobe < 0:
            raise UserError("--rerank and --nprobe must be 0 or more.")


@dataclass(frozen=True)
class TrackOptions:
    """How objects or points are carried from frame to frame."""

    start: int = 0
    """Number of the frame that counts as the first one."""
    preset: str = "crw-davis-240"
    """Settings of 'ssl-video evaluate propagation', over which the five options below go: default, crw-davis,
    crw-davis-240, crw-jhmdb, crw-vip or timecycle-davis."""
    side: int | None = None
    """Shorter side of the frames that the network sees, in pixels; 0: they keep their size."""
    context: int | None = None
    """Previous frames from which labels are carried, besides the first one."""
    radius: float | None = None
    """Cells of previous frames at this distance or farther are left out."""
    top_k: int | None = None
    """Nearest cells that share the weight."""
    temperature: float | None = None
    """Affinities are divided by it before the softmax."""
    stage: str | None = None
    """Stage of the network; by default layer3 where there is one, else the last."""
    adapt_steps: int = 0
    """Steps of the run's own pretext on this very video before it is tracked, on a copy of the model."""
    adapt_lr: float = 1e-4
    """Learning rate of these steps."""
    seed: int = 0
    """Seed of these steps."""

    def __post_init__(self):
        if min(self.start, self.adapt_steps, self.seed) < 0 or not self.adapt_lr > 0:
            raise UserError("--start, --adapt-steps and --seed must be 0 or more, and --adapt-lr greater than 0.")
        if self.side is not None and self.side < 0:
            raise UserError("--side must be 0 or more.")


@dataclass(frozen=True)
class AlignOptions:
    """How two videos are brought in step."""

    method: Method = "dtw"
    """dtw: dynamic time warping, which keeps the order of both; nearest: each frame's nearest neighbour by itself."""
    height: int = 360
    """Height of the result in pixels, at most."""

    def __post_init__(self):
        if self.height < 16:
            raise UserError("--height must be 16 pixels or more.")


@dataclass(frozen=True)
class SpeedinessOptions:
    """How the speediness of a video is measured."""

    step: int = 1
    """Frames from one clip to the next; between them the curve is interpolated."""
    batch_size: int = 16
    """Clips in one forward pass."""

    def __post_init__(self):
        if min(self.step, self.batch_size) < 1:
            raise UserError("--step and --batch-size must be 1 or more.")


@dataclass(frozen=True)
class SpeedupOptions:
    """How a video is sped up."""

    factor: float = 2.0
    """How much shorter the result is."""
    max_speed: float | None = None
    """The largest speed; by default twice the factor."""
    smooth: float = 0.5
    """Seconds over which the speed changes."""
    threshold: float = 0.5
    """Speediness from which on a moment counts as normal."""
    form: Form = "duration"
    """duration: the factor is that of the lengths; mean: the paper's form, the mean speed is drawn to the factor."""
    beta: float = 10.0
    """How much the mean speed counts in the form mean."""
    compare: bool = False
    """Write a video of the even and the adaptive speed-up side by side, too."""
    mute: bool = False
    """Leave the sound out."""
    step: int | None = None
    """Frames from one clip to the next; by default an eighth of a clip's span."""
    batch_size: int = 16
    """Clips in one forward pass."""

    def __post_init__(self):
        if min(self.batch_size, 1 if self.step is None else self.step) < 1:
            raise UserError("--step and --batch-size must be 1 or more.")
        if not 0 <= self.smooth <= 60 or not 0 <= self.beta <= 1e6 or not 0 < self.threshold < 1:
            raise UserError("--smooth is from 0 to 60 seconds, --beta from 0 to 1e6, and --threshold between 0 and 1.")


@dataclass(frozen=True)
class FlowOptions:
    """What pictures of optical flow show."""

    method: str = "farneback"
    """farneback, dis or raft, with options as in 'raft?size=large&weights=FILE'."""
    short_side: int = 240
    """Shorter side of the frames for which flow is computed, in pixels; smaller videos keep their size."""
    columns: int = 6
    """Frames on the sheet, evenly spaced."""
    at_most: int = 300
    """Frames from the start of the video that are shown."""

    def __post_init__(self):
        if min(self.columns, self.at_most, self.short_side) < 1:
            raise UserError("--columns, --at-most and --short-side must be 1 or more.")


@dataclass(frozen=True)
class AffinityOptions:
    """How what a network sees at a point is looked up in other frames."""

    stage: str | None = None
    """Stage of the network whose map is compared; by default the last."""
    temperature: float = 0.05
    """Similarities are divided by it; the lower it is, the narrower the heat."""
    short_side: int = 240
    """Shorter side of the frames that the network sees, in pixels; smaller videos keep their size."""

    def __post_init__(self):
        if self.short_side < 1 or self.temperature <= 0:
            raise UserError("--short-side must be 1 or more, and --temperature greater than 0.")


@dataclass(frozen=True)
class CamOptions:
    """How class activation maps of a video are made."""

    speed: float = 1.0
    """Speed at which the video is played to the network; at 2, speediness tells normal from slowed."""
    short_side: int | None = None
    """Shorter side of the frames that the network sees, in pixels; by default as in training."""
    step: int = 1
    """Frames from one clip to the next."""
    batch_size: int = 4
    """Clips in one forward pass."""
    flow: str | None = None
    """Show the magnitude of optical flow beside it: farneback, dis or raft, with options as for 'explain flow'."""
    columns: int = 6
    """Frames on the sheet, evenly spaced."""

    def __post_init__(self):
        sizes = (self.columns, self.step, self.batch_size, 1 if self.short_side is None else self.short_side)
        if min(sizes) < 1:
            raise UserError("--columns, --step, --batch-size and --short-side must be 1 or more.")
        if not 1 <= self.speed <= 16:
            raise UserError("--speed is from 1 to 16.")


@dataclass(frozen=True)
class Limits:
    """The largest and the longest video that the page takes."""

    max_megabytes: float = 200.0
    """The largest video that is taken."""
    max_minutes: float = 5.0
    """The longest video that is taken."""

    def __post_init__(self):
        if not 0 < self.max_megabytes <= 1e6 or not 0 < self.max_minutes <= 1e4:
            raise UserError("--max-megabytes and --max-minutes must be greater than 0, at most 1e6 and 1e4.")


@dataclass(frozen=True)
class ReportOptions:
    """What a page shows."""

    data: str | None = None
    """Videos to show, instead of those of the run: a folder, a csv, a manifest, ucf101:ROOT, ..."""
    split: int = 1
    """Split of these, if the set has official lists."""
    samples: int = 4
    """Samples of the pretext's inputs."""
    queries: int = 4
    """Videos whose neighbours are shown."""
    neighbours: int = 5
    """Neighbours of each."""
    workers: int = 2
    """Reading processes."""

    def __post_init__(self):
        if min(self.samples, self.queries, self.neighbours) < 1 or self.workers < 0:
            raise UserError("--samples, --queries and --neighbours must be 1 or more, and --workers 0 or more.")
