"""What the applications can be told, apart from their inputs. Light to import: a command's flags are made of these."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ssl_video.bounds import Bounded, Bounds, Count, Fraction, Natural, Positive, Seed
from ssl_video.figures import PictureFormat
from ssl_video.sampling import Sampling

Method = Literal["dtw", "nearest"]
Form = Literal["duration", "mean"]
RepresentKind = Literal["atlas", "coordinates"]
MapMethod = Literal["tsne", "pca", "umap"]
Format = Literal["safetensors", "onnx", "torch-export"]
VectorFormat = Literal["projector", "fiftyone"]
RERANK = 200
"""Candidates of a search that are compared exactly, by default."""


@dataclass(frozen=True)
class IndexOptions(Bounded, flags="--"):
    """How an index is made; None: as the index that is there, or for a new one 8 clips, "rich" and "exact"."""

    clips: Natural | None = None
    """Clips of a video, evenly spaced, 8 by default; 0: windows that overlap by half. For a new index."""
    readout: str | None = None
    """How a feature map becomes a vector: rich (default), avg, max, conv5 or cls; for a new index."""
    index_type: str | None = None
    """exact (default), ivfpq, or a factory string of faiss such as IVF1024,PQ32; for a new index."""
    rebuild: bool = False
    """Make the index again, of all its videos and those of --data, by another --model or with other options; the old
    one stays whole until the new one is complete."""
    compact: bool = False
    """Merge small segments of the index, and drop removed videos from its files."""
    like: Path | None = None
    """An index whose model, options and standardisation a new one takes, so that both can be searched as one."""


@dataclass(frozen=True)
class SearchOptions(Bounded, flags="--"):
    """How an index is searched."""

    top_k: Count = 5
    """Neighbours to find."""
    moments: bool = False
    """Find the nearest moments, which may be of one video, instead of each video once."""
    rerank: Natural = RERANK
    """Videos (with --moments, clips) of a faiss index that are compared exactly; 0 goes by its codes alone."""
    nprobe: Natural = 0
    """Lists of a faiss index that are searched; 0: as many as were found to be enough when it was made."""


@dataclass(frozen=True)
class MapOptions(Bounded, flags="--"):
    """How a map of an index is made."""

    method: MapMethod = "tsne"
    """tsne: videos that look alike lie together; pca: the two directions in which videos differ most; umap, if it is
    installed."""
    at_most: Annotated[int, Bounds(least=3)] = 10_000
    """Videos that are shown; of more, as many that are evenly spaced."""
    thumbnails: Natural = 400
    """Videos with a picture, spread over the map."""
    seed: Seed = 0
    """Seed of the method."""


@dataclass(frozen=True)
class TrackOptions(Bounded, flags="--"):
    """How objects or points are carried from frame to frame."""

    start: Natural = 0
    """Number of the frame that counts as the first one."""
    preset: str = "crw-davis-240"
    """Settings of 'ssl-video evaluate propagation', over which the five options below go: default, crw-davis,
    crw-davis-240, crw-jhmdb, crw-vip, siam-davis or timecycle-davis."""
    side: Natural | None = None
    """Shorter side of the frames that the network sees, in pixels; 0: they keep their size."""
    context: Natural | None = None
    """Previous frames from which labels are carried, besides the first one."""
    radius: Annotated[float, Bounds(above=0, most=math.inf)] | None = None
    """Cells of previous frames at this distance or farther are left out."""
    top_k: Count | None = None
    """Nearest cells that share the weight."""
    temperature: Positive | None = None
    """Affinities are divided by it before the softmax."""
    stage: str | None = None
    """Stage of the network; by default layer3 where there is one, else the last."""
    adapt_steps: Natural = 0
    """Steps of the run's own pretext on this very video before it is tracked, on a copy of the model."""
    adapt_lr: Positive = 1e-4
    """Learning rate of these steps."""
    seed: Seed = 0
    """Seed of these steps."""


@dataclass(frozen=True)
class RepresentOptions(Bounded, flags="--"):
    """How a video is learned by a network of its own."""

    kind: RepresentKind = "atlas"
    """atlas: two pictures to paint on, a foreground and a background, and where each point of the video lies on them;
    coordinates: a network from place and time to colour, nearer to the frames, with nothing to paint on."""
    size: Annotated[int, Bounds(least=16)] | None = None
    """Longer side in pixels at which the video is learned, 128 by default; larger takes longer. Of a film that is made
    of a learned video: its longer side, by default as learned."""
    frames: Count | None = None
    """Frames that are learned, at most, 60 by default. Of a film that is made of a learned video: how many it has, over
    the whole time of it, by default as many as were learned."""
    start: Natural = 0
    """Number of the first frame that is learned."""
    kept_out: Annotated[int, Bounds(least=2)] | Literal[0] = 4
    """Every so-manyth frame is kept out of the training, to measure with; 0: none is."""
    steps: Count | None = None
    """Steps of the training; by default 3000 of an atlas, 1500 of coordinates."""
    points: Count = 2048
    """Points of the video in a step."""
    encoding: Literal["hash", "fourier"] = "hash"
    """Of coordinates: hash, a grid of learned features, or fourier, waves."""
    seed: Seed = 0
    """Seed of the first weights and of what is drawn in each step."""


@dataclass(frozen=True)
class AlignOptions(Bounded, flags="--"):
    """How two videos are brought in step."""

    method: Method = "dtw"
    """dtw: dynamic time warping, which keeps the order of both; nearest: each frame's nearest neighbour by itself."""
    height: Annotated[int, Bounds(least=16)] = 360
    """Height of the result in pixels, at most."""
    format: PictureFormat = "png"
    """Of the figure: png with 200 dots an inch, pdf or svg."""


@dataclass(frozen=True)
class GenerateOptions(Sampling, flags="--"):
    """How many videos are drawn, how large, and how far from what is given."""

    number: Count = 1
    """Videos to draw; of each prompt, where there are several."""
    seed: Seed = 0
    """Seed of the noise that they begin as; the n-th video of every prompt begins as the same noise."""
    frames: Count | None = None
    """Frames of a video; by default as in training, or as many as a shorter --video has. More are drawn in windows."""
    size: Count | None = None
    """Height and width in pixels; by default as in training. What is larger is drawn in windows."""
    crop: bool = False
    """Take the square in the middle of an image or a video that is no square."""
    edit: Fraction | None = None
    """Draw --video anew from so much noise: 0 gives it back, 1 forgets it."""
    style_weight: Fraction | None = None
    """How much the spatial weights are those of --style: 0.7 by default, 0 is none."""
    lossless: bool = False
    """Keep the frames of each film exactly, too, as NUMBER.npy."""


@dataclass(frozen=True)
class SpeedinessOptions(Bounded, flags="--"):
    """How the speediness of a video is measured."""

    step: Count = 1
    """Frames from one clip to the next; between them the curve is interpolated."""
    batch_size: Count = 16
    """Clips in one forward pass."""
    format: PictureFormat = "png"
    """Of the figure: png with 200 dots an inch, pdf or svg."""


@dataclass(frozen=True)
class SpeedupOptions(Bounded, flags="--"):
    """How a video is sped up."""

    factor: Annotated[float, Bounds(least=1)] = 2.0
    """How much shorter the result is."""
    max_speed: Annotated[float, Bounds(least=1)] | None = None
    """The largest speed; by default twice the factor."""
    smooth: Annotated[float, Bounds(least=0, most=60)] = 0.5
    """Seconds over which the speed changes."""
    threshold: Annotated[float, Bounds(above=0, below=1)] = 0.5
    """Speediness from which on a moment counts as normal."""
    form: Form = "duration"
    """duration: the factor is that of the lengths; mean: the paper's form, the mean speed is drawn to the factor."""
    beta: Annotated[float, Bounds(least=0, most=10**6)] = 10.0
    """How much the mean speed counts in the form mean."""
    compare: bool = False
    """Write a video of the even and the adaptive speed-up side by side, too."""
    mute: bool = False
    """Leave the sound out."""
    step: Count | None = None
    """Frames from one clip to the next; by default an eighth of a clip's span."""
    batch_size: Count = 16
    """Clips in one forward pass."""
    format: PictureFormat = "png"
    """Of the figure: png with 200 dots an inch, pdf or svg."""


@dataclass(frozen=True)
class FlowOptions(Bounded, flags="--"):
    """What pictures of optical flow show."""

    method: str = "farneback"
    """farneback, dis or raft, with options as in 'raft?size=large&weights=FILE'."""
    short_side: Count = 240
    """Shorter side of the frames for which flow is computed, in pixels; smaller videos keep their size."""
    columns: Count = 6
    """Frames on the sheet, evenly spaced."""
    at_most: Count = 300
    """Frames from the start of the video that are shown."""
    format: PictureFormat = "png"
    """Of the figure: png with 200 dots an inch, pdf or svg."""


@dataclass(frozen=True)
class AffinityOptions(Bounded, flags="--"):
    """How what a network sees at a point is looked up in other frames."""

    stage: str | None = None
    """Stage of the network whose map is compared; by default the last."""
    temperature: Positive = 0.05
    """Similarities are divided by it; the lower it is, the narrower the heat."""
    short_side: Count = 240
    """Shorter side of the frames that the network sees, in pixels; smaller videos keep their size."""
    format: PictureFormat = "png"
    """Of the figure: png with 200 dots an inch, pdf or svg."""


@dataclass(frozen=True)
class CamOptions(Bounded, flags="--"):
    """How class activation maps of a video are made."""

    speed: Annotated[float, Bounds(least=1, most=16)] = 1.0
    """Speed at which the video is played to the network; at 2, speediness tells normal from slowed."""
    short_side: Count | None = None
    """Shorter side of the frames that the network sees, in pixels; by default as in training."""
    step: Count = 1
    """Frames from one clip to the next."""
    batch_size: Count = 4
    """Clips in one forward pass."""
    flow: str | None = None
    """Show the magnitude of optical flow beside it: farneback, dis or raft, with options as for 'explain flow'."""
    columns: Count = 6
    """Frames on the sheet, evenly spaced."""
    format: PictureFormat = "png"
    """Of the figure: png with 200 dots an inch, pdf or svg."""


@dataclass(frozen=True)
class Limits(Bounded, flags="--"):
    """The largest and the longest video that the page takes."""

    max_megabytes: Annotated[float, Bounds(above=0, most=10**6)] = 200.0
    """The largest video that is taken."""
    max_minutes: Annotated[float, Bounds(above=0, most=10**4)] = 5.0
    """The longest video that is taken."""


@dataclass(frozen=True)
class ReportOptions(Bounded, flags="--"):
    """What a page shows."""

    data: str | None = None
    """Videos to show, instead of those of the run: a folder, a csv, a manifest, ucf101:ROOT, ..."""
    split: int = 1
    """Split of these, if the set has official lists."""
    samples: Count = 4
    """Samples of the pretext's inputs."""
    queries: Count = 4
    """Videos whose neighbours are shown."""
    neighbours: Count = 5
    """Neighbours of each."""
    format: PictureFormat = "png"
    """Of the curves: the page has them as png; pdf or svg writes them into a file beside it, too."""
    workers: Natural = 2
    """Reading processes."""
