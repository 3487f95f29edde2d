"""``ssl-video evaluate``: measure what a backbone has learned."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.cli import tell
from ssl_video.cli.help_page import names_in
from ssl_video.cli.parsing import Device, Folder, Json, ModelName, Spec, document, messages_aside, pair, parse
from ssl_video.figures import PictureFormat
from ssl_video.video.kinds import CacheKind

if TYPE_CHECKING:
    from ssl_video.eval.results import Result

DESCRIPTION = "Measure a backbone or an encoder by a protocol: linear, finetune, svm, knn, retrieval, pretext, ..."

Protocol = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="PROTOCOL", help=f"{', '.join(names_in('ssl_video.eval', 'EVALUATIONS'))}."),
]


@dataclass(frozen=True)
class EvaluateConfig(Bounded, flags="--"):
    """Options of an evaluation."""

    usual: ClassVar = ("data", "model", "out", "option", "seeds", "json")
    examples: ClassVar = (
        "ssl-video evaluate linear --model runs/my_run --data ucf101:ROOT",
        "ssl-video evaluate retrieval --model random:runs/my_run --data manifest.csv --json",
        "ssl-video evaluate finetune --model runs/my_run --data manifest.csv --option epochs=10 --out results.json",
    )

    protocol: Protocol
    data: Spec
    """ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, sports1m:ROOT, youtube8m:ROOT, a manifest, a csv or a folder."""
    model: ModelName | None = None
    """A run's folder, a .safetensors file, net:NAME?weights=FILE, random:NAME?option=value, random:RUN for a run's
    network untrained, RUN?option=value with another option, or an encoder such as improved-trajectories."""
    split: int = 1
    """Split of a data set with official lists."""
    preset: str = "default"
    """Named set of a protocol's options."""
    option: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Change one option of the preset; may be given several times."""
    seeds: Count = 1
    """Seeds 0 .. N-1 of the protocol (and of a random network's weights)."""
    out: Path | None = None
    """Write the results, with all that is needed to say what they are, as JSON, and the confusion matrix beside it."""
    predictions: bool = False
    """Write what is said of every test video into that JSON too."""
    format: PictureFormat = "png"
    """Of the confusion matrix: png with 200 dots an inch, pdf or svg."""
    run: Folder | None = None
    """Folder for what takes a protocol long, fine-tuned weights or extracted features, to resume from; finetune makes
    one by default."""
    json: Json = False
    cache: CacheKind = "none"
    """Read from copies of the videos, made once: raw frames, or small h264 files."""
    cache_short_side: Natural = 128
    """Shorter side of the copies, in pixels; 0 keeps the size of the video."""
    workers: Natural = 2
    """Reading processes."""
    batch_size: Count = 32
    """Clips that a frozen network is shown at a time; fewer take less memory, and no number depends on it."""
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(EvaluateConfig, argv, "evaluate", DESCRIPTION)
    from ssl_video.eval.harness import EvaluationConfig, Reading, evaluate_on, save_results
    from ssl_video.files import check_file
    from ssl_video.train.loop import Interrupted

    what = EvaluationConfig(
        config.protocol,
        config.data,
        config.preset,
        dict(pair(text, "--option", "name=value") for text in config.option),
        range(config.seeds),
        config.run,
        config.device,
        Reading(config.split, config.cache, config.cache_short_side, config.workers, config.batch_size, progress=True),
    )
    if config.out is not None:
        check_file(config.out)
    kept: list[Result] = []

    def found(result: "Result") -> None:
        show(result)
        kept.append(result)
        if config.out is not None:  # also of the seeds before one that fails
            save_results(config.out, kept, config.predictions, config.format)

    with messages_aside(config.json):
        try:
            results = evaluate_on(config.model, what, tell, found)
        except Interrupted as stop:
            print(f"ssl-video: {stop}: name that folder with --run to resume.", file=sys.stderr)
            return 130
        if config.out is not None:
            for path in save_results(config.out, results, config.predictions, config.format):
                tell(f"{path} is written.")
    if config.json:
        document([result.to_dict(config.predictions) for result in results])
    return 0


def show(result: "Result") -> None:
    """Print one result with its counts and what was left out."""
    counts = ", ".join(f"{v} {k}" for k, v in result.counts.items())
    of = f" of {result.model}" if result.model else ""
    print(f"{result.protocol} ({result.preset}){of}, seed {result.seed}")
    print(f"on {result.data}, split {result.split}: {counts}")
    print(result.table())
    if result.skipped:
        first = result.skipped[0]
        print(f"  {len(result.skipped)} videos were left out; the first: {first['path']}: {first['reason']}")
    if result.supervision:
        print(f"  the model was pretrained with {result.supervision}, which are supervision")
    if result.transductive:
        print(f"  warning: {result.seen_in_words}; the result is marked transductive")
