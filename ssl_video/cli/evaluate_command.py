"""``ssl-video evaluate``: measure what a backbone has learned."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from ssl_video.cli.parsing import parse
from ssl_video.datasets.cached import read_from
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import draw_confusion
from ssl_video.eval.base import EVALUATIONS, Result, Task, evaluate, write_results
from ssl_video.files import new_folder
from ssl_video.model import Model, load_model_or_encoder
from ssl_video.train.distributed import choose_device
from ssl_video.train.loop import Interrupted

DESCRIPTION = "Measure a backbone or an encoder by a protocol: linear, finetune, svm, knn, retrieval, pretext, ..."


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of an evaluation."""

    protocol: tyro.conf.Positional[str]
    """linear, finetune, svm, knn, retrieval, pretext, features, ... ('ssl-video list protocols')."""
    data: str
    """ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, sports1m:ROOT, youtube8m:ROOT, a manifest, a csv or a folder."""
    model: str | None = None
    """A run's folder, a .safetensors file, random:NAME?option=value, random:RUN for a run's network untrained, or an
    encoder such as improved-trajectories."""
    split: int = 1
    """Split of a data set with official lists."""
    preset: str = "default"
    """Named set of a protocol's options."""
    option: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """name=value: change one option of the preset; may be given several times."""
    seeds: int = 1
    """Seeds 0 .. N-1 of the protocol (and of a random network's weights)."""
    out: Path | None = None
    """Write the results, with all that is needed to say what they are, as JSON, and the confusion matrix beside it."""
    run: Path | None = None
    """Folder for what takes a protocol long, fine-tuned weights or extracted features, to go on with; finetune makes
    one by default."""
    cache: Literal["none", "raw", "h264"] = "none"
    """Read from copies of the videos, made once: raw frames, or small h264 files."""
    cache_short_side: int = 128
    """Shorter side of the copies, in pixels; 0 keeps the size of the video."""
    workers: int = 2
    """Reading processes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(EvaluateConfig, argv, "evaluate", DESCRIPTION)
    protocol = EVALUATIONS[config.protocol]  # a wrong name is said before hours are spent on reading
    of_features = protocol.takes == "feature sequences"
    if config.model is None and not of_features and protocol.needs_model:
        raise UserError(f"{config.protocol} needs --model: a run's folder, a .safetensors file or random:NAME.")
    options = dict(_pair(o) for o in config.option)
    device = choose_device(config.device)
    splits = load_splits(config.data, config.split)
    for warning in splits.warnings:
        print(f"warning: {warning}")
    train, test = splits.train, splits.test
    if not of_features:
        copies = (config.cache, config.cache_short_side)
        train = read_from(train, *copies, progress=True)
        test = read_from(test, *copies, progress=True) if test is not None else None
    whole_run = config.run
    if protocol.trains and whole_run is None:
        whole_run = new_folder(config.protocol)
        print(f"The training is kept in {whole_run}.")
    results = []
    for seed in range(config.seeds):
        torch.manual_seed(seed)  # of a random network's weights
        model = load_model_or_encoder(config.model, device) if config.model is not None else None
        if isinstance(model, Model) and model.backbone.provenance.weights_report and seed == 0:
            print(model.backbone.provenance.weights_report)
        folder = whole_run if whole_run is None or config.seeds == 1 else whole_run / f"seed{seed}"
        task = Task(config.data, config.split, train, test, config.workers, folder=folder)
        try:
            results.append(evaluate(config.protocol, model, task, preset=config.preset, options=options, seed=seed))
        except Interrupted as stop:
            print(f"ssl-video: {stop}: use --run {whole_run} to go on.", file=sys.stderr)
            return 130
        show(results[-1])
    if config.out is not None:
        write_results(config.out, results)
        print(f"{config.out} is written.")
        if results[-1].confusion:
            picture = config.out.with_suffix(".confusion.png")
            draw_confusion(np.sum([r.confusion for r in results], axis=0), train.classes, picture)
            print(f"{picture} is written.")
    return 0


def show(result: Result) -> None:
    """Print one result with its counts and what was left out."""
    counts = ", ".join(f"{v} {k}" for k, v in result.counts.items())
    of = f" of {result.model}" if result.model else ""
    print(f"{result.protocol} ({result.preset}){of}, seed {result.seed}")
    print(f"on {result.data}, split {result.split}: {counts}")
    print(result.table())
    if result.skipped:
        first = result.skipped[0]
        print(f"  {len(result.skipped)} videos were left out; the first: {first['path']}: {first['reason']}")
    if result.transductive:
        print("  warning: test videos were among the pretraining videos; the result is marked transductive")


def side_by_side(models: Sequence[Model], protocols: Sequence[str], task: Task, out: Path) -> None:
    """Print a row a metric and a column a model; all results go to the file ``out``."""
    results = {(p, m.name): evaluate(p, m, task) for p in protocols for m in models}
    print(f"\n{'on the test list of ' + task.data:<34}" + "".join(f"{_short(m.name):>14}" for m in models))
    for protocol in protocols:
        for metric in results[protocol, models[0].name].metrics:
            row = "".join(f"{results[protocol, m.name].metrics[metric]:>14.3f}" for m in models)
            print(f"{protocol + ' ' + metric:<34}{row}")
    first = results[protocols[0], models[0].name]
    chance = f"chance {1 / first.counts['classes']:.3f}, " if "top1" in first.metrics else ""
    print(f"{chance}{first.counts['test']} test videos")
    write_results(out, list(results.values()))


def _short(model: str) -> str:
    return "random" if model.startswith("random:") else "pretrained"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--option takes name=value, not {text!r}.")
    return name, value
