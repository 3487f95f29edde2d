"""``ssl-video evaluate``: measure what a backbone has learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ssl_video.cli.parsing import parse
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Result, Task, evaluate, write_results
from ssl_video.model import Model, load_model_or_encoder
from ssl_video.train.distributed import choose_device

DESCRIPTION = "Measure a backbone by a protocol: linear, svm, knn, retrieval or pretext."


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of an evaluation."""

    protocol: tyro.conf.Positional[str]
    """linear, svm, knn, retrieval or pretext ('ssl-video list protocols')."""
    model: str
    """A run's folder, a .safetensors file, random:NAME?option=value, random:RUN for a run's network untrained, or an
    encoder such as improved-trajectories."""
    data: str
    """Videos: ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, a manifest, a csv or a folder."""
    split: int = 1
    """Split of a data set with official lists."""
    preset: str = "default"
    """Named set of a protocol's options."""
    option: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """name=value: change one option of the preset; may be given several times."""
    seeds: int = 1
    """Seeds 0 .. N-1 of the protocol (and of a random network's weights)."""
    out: Path | None = None
    """Write the results, with all that is needed to say what they are, as JSON."""
    workers: int = 2
    """Reading processes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(EvaluateConfig, argv, "evaluate", DESCRIPTION)
    EVALUATIONS[config.protocol]  # a wrong name is said before hours are spent on reading
    options = dict(_pair(o) for o in config.option)
    device = choose_device(config.device)
    splits = load_splits(config.data, config.split)
    for warning in splits.warnings:
        print(f"warning: {warning}")
    train = scanned(splits.train, progress=True)
    test = scanned(splits.test, progress=True) if splits.test is not None else None
    results = []
    for seed in range(config.seeds):
        torch.manual_seed(seed)  # of a random network's weights
        model = load_model_or_encoder(config.model, device)
        modality = model.backbone.clip.modality if isinstance(model, Model) else "rgb"
        train = for_modality(train, modality, progress=True)
        test = for_modality(test, modality, progress=True) if test is not None else None
        task = Task(config.data, config.split, train, test, config.workers)
        result = evaluate(config.protocol, model, task, preset=config.preset, options=options, seed=seed)
        results.append(result)
        show(result)
    if config.out is not None:
        write_results(config.out, results)
        print(f"{config.out} is written.")
    return 0


def show(result: Result) -> None:
    """Print one result with its counts and what was left out."""
    counts = ", ".join(f"{v} {k}" for k, v in result.counts.items())
    print(f"{result.protocol} ({result.preset}) of {result.model}, seed {result.seed}")
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
    print(f"chance {1 / first.counts['classes']:.3f}, {first.counts['test']} test videos")
    write_results(out, list(results.values()))


def _short(model: str) -> str:
    return "random" if model.startswith("random:") else "pretrained"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--option takes name=value, not {text!r}.")
    return name, value
