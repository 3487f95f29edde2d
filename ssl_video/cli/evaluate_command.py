"""``ssl-video evaluate``: measure what a backbone has learned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ssl_video.cli.parsing import parse
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Result, Task, evaluate, write_results
from ssl_video.model import load_model
from ssl_video.train.distributed import choose_device

DESCRIPTION = "Measure a backbone by a protocol: linear, knn, retrieval or pretext."


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of an evaluation."""

    protocol: tyro.conf.Positional[str]
    """linear, knn, retrieval or pretext ('ssl-video list protocols')."""
    model: str
    """A run's folder, a .safetensors file, random:NAME?option=value, or random:RUN for a run's network untrained."""
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
    results = run_protocol(config)
    if config.out is not None:
        write_results(config.out, results)
        print(f"{config.out} is written.")
    return 0


def run_protocol(config: EvaluateConfig, say: Callable[[str], None] = print) -> list[Result]:
    """One result a seed. Raises UserError."""
    import torch

    EVALUATIONS[config.protocol]  # a wrong name is said before hours are spent on reading
    options = dict(_pair(o) for o in config.option)
    device = choose_device(config.device)
    splits = load_splits(config.data, config.split)
    for warning in splits.warnings:
        say(f"warning: {warning}")
    train = scanned(splits.train, progress=True)
    test = scanned(splits.test, progress=True) if splits.test is not None else None
    task = Task(config.data, config.split, train, test, config.workers)
    results = []
    for seed in range(config.seeds):
        torch.manual_seed(seed)
        model = load_model(config.model, device)
        result = evaluate(config.protocol, model, task, preset=config.preset, options=options, seed=seed)
        results.append(result)
        counts = ", ".join(f"{v} {k}" for k, v in result.counts.items())
        say(
            f"{config.protocol} ({config.preset}) of {config.model} on {config.data} split {config.split}, seed {seed}: {counts}"
        )
        say(result.table())
        if result.skipped:
            say(
                f"  {len(result.skipped)} videos were left out; the first: {result.skipped[0]['path']}: {result.skipped[0]['reason']}"
            )
        if result.transductive:
            say("  warning: test videos were among the pretraining videos; the result is marked transductive")
    return results


def side_by_side(
    models: Sequence[str], protocols: Sequence[str], data: str, split: int, out: Path, say: Callable[[str], None]
) -> None:
    """A table with a row a metric and a column a model; all results go to ``out``."""
    results = {}
    for protocol in protocols:
        for model in models:
            config = EvaluateConfig(protocol, model, data, split)
            results[protocol, model] = run_protocol(config, say=lambda _line: None)[0]
    say(f"\n{'on the test list of ' + data:<34}" + "".join(f"{_short(m):>14}" for m in models))
    for protocol in protocols:
        for metric in results[protocol, models[0]].metrics:
            row = "".join(f"{results[protocol, m].metrics[metric]:>14.3f}" for m in models)
            say(f"{protocol + ' ' + metric:<34}{row}")
    first = results[protocols[0], models[0]]
    say(f"chance {1 / first.counts['classes']:.3f}, {first.counts['test']} test videos")
    write_results(out, list(results.values()))


def _short(model: str) -> str:
    return "random" if model.startswith("random:") else "pretrained"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--option takes name=value, not {text!r}.")
    return name, value
