"""``ssl-video extract``: the features of videos, as arrays on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ssl_video.bounds import Bounded, Count, Natural, Seed
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, Folder, ModelName, Spec, parse
from ssl_video.video.kinds import CacheKind, Crops


@dataclass(frozen=True)
class ExtractConfig(Bounded, flags="--"):
    """Options of an extraction."""

    usual: ClassVar = ("model", "data", "out", "clips", "readout")
    examples: ClassVar = (
        "ssl-video extract --model runs/my_run --data videos --out features",
        "ssl-video extract --model random:r2plus1d_4 --data manifest.csv --out features --clips 1",
        "ssl-video extract --model runs/my_run --data videos --out features --readout rich --crops 3",
    )

    model: ModelName
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME."""
    data: Spec
    """Videos: a folder, a csv, a manifest, ucf101:ROOT, ..."""
    out: Folder
    """Folder of the features; what is there already is not extracted again."""
    format: Literal["npy", "parquet"] = "npy"
    """npy: arrays; parquet: tables of one row a clip, with path, times, labels and split (needs pyarrow)."""
    split: int = 1
    """Split of a data set with official lists."""
    clips: Natural = 8
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    crops: Crops = 1
    """Crops of a clip: 1, 3 or 10."""
    readout: str = "avg"
    """How a feature map becomes a vector: avg, max, rich, conv5 or cls."""
    stage: str | None = None
    """The stage of the network that is read; by default the last."""
    batch_size: Count = 32
    """Clips in one forward pass."""
    cache: CacheKind = "none"
    """Read from copies of the videos, made once."""
    cache_short_side: Natural = 128
    """Shorter side of the copies, in pixels; 0 keeps the size of the video."""
    workers: Natural = 2
    """Reading processes."""
    device: Device = "auto"
    seed: Seed = 0
    """Seed of a random network's weights."""


def main(argv: Sequence[str]) -> int:
    """The command; under torchrun the processes share the work."""
    config = parse(ExtractConfig, argv, "extract", "Extract the features of videos into arrays on disk.")
    from ssl_video.eval.features import Extraction
    from ssl_video.eval.harness import ExtractionConfig, Reading, extract_on

    what = Extraction(config.clips, config.readout, config.stage, config.crops)
    reading = Reading(
        config.split, config.cache, config.cache_short_side, config.workers, config.batch_size, progress=True
    )
    where = ExtractionConfig(config.data, config.out, what, config.seed, config.device, reading, config.format)
    extract_on(config.model, where, tell)
    return 0
