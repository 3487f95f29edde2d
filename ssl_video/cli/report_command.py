"""``ssl-video report``: a page on a run."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from ssl_video.apps.page import Block, Heading, Table, Words, write_page
from ssl_video.apps.run_report import Lists, neighbours_of, progress_of, samples_of
from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.weights import load_into
from ssl_video.cli.parsing import parse
from ssl_video.cli.pretrain_command import configure, options_of, shown
from ssl_video.config import load_yaml
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.spec import held_out, load_splits
from ssl_video.datasets.statistics import measure
from ssl_video.errors import UserError
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import Pretext, build_pretext
from ssl_video.train.checkpoint import load_checkpoint
from ssl_video.train.data import usable, with_company
from ssl_video.train.distributed import choose_device
from ssl_video.video.reader import VideoError

HELD_OUT = 0.1
"""Part of a list that asks, where the run kept none from training."""


@dataclass(frozen=True)
class ReportConfig:
    """Options of the page."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    data: str | None = None
    """Videos to show, instead of those of the run: a folder, a csv, a manifest, ucf101:ROOT, ..."""
    split: int = 1
    """Split of these, if the set has official lists."""
    out: Path | None = None
    """Folder of the page, by default the run's."""
    samples: int = 4
    """Samples of the pretext's inputs."""
    queries: int = 4
    """Videos whose neighbours are shown."""
    neighbours: int = 5
    """Neighbours of each."""
    workers: int = 2
    """Reading processes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(ReportConfig, argv, "report", "Write a page on a run: curves, inputs, neighbours.")
    if min(config.samples, config.queries, config.neighbours) < 1 or config.workers < 0:
        raise UserError("--samples, --queries and --neighbours must be 1 or more, and --workers 0 or more.")
    folder = config.run
    if not any((folder / name).is_file() for name in ("metrics.jsonl", "config.yaml")):
        raise UserError(f"{folder} is no run (it holds neither metrics.jsonl nor config.yaml); name a run's folder.")
    device = choose_device(config.device)
    blocks: list[Block] = list(progress_of(folder))
    try:
        made = configuration(folder)
        blocks.insert(0, _about(made))
        blocks += _of_videos(config, made, device)
    except (UserError, VideoError) as error:
        blocks += [Heading("Inputs and neighbours"), Words(f"They cannot be shown. {error}")]
        print(f"The page has no inputs and no neighbours: {error}")
    for path in write_page(config.out or folder, "report", folder.resolve().name, blocks):
        print(f"{path} is written.")
    return 0


def configuration(folder: Path) -> Any:
    """The configuration with which a run was made. Raises UserError for a folder without one, or a fine-tuning's."""
    if not isinstance(load_yaml(folder / "config.yaml").get("pretext"), Mapping):
        raise UserError(f"{folder / 'config.yaml'} names no pretext: it is not that of a pretraining.")
    return configure(["--resume", f"--out={folder}"])


def _about(made: Any) -> Table:
    names = {"pretext": made.pretext.name, "backbone": made.backbone.name, "data": made.data, "split": made.split}
    return Table(("", ""), [(k, str(v)) for k, v in {**names, "batch": made.batch_size, "seed": made.seed}.items()])


def _of_videos(config: ReportConfig, made: Any, device: torch.device) -> list[Block]:
    """What takes videos. Raises UserError if there are none; what else goes wrong is said in its place on the page."""
    pretext, models = _networks(config.run, made, device)
    train, lists = _lists(config, made, pretext)

    def inputs() -> list[Block]:
        words = "Frames as the loader gives them; their colours are changed and they are normalised on the device."
        return [Words(words), *samples_of(pretext, train, config.samples, made.seed)]

    def neighbours() -> list[Block]:
        if not models:
            raise UserError("The run has neither weights nor a checkpoint yet.")
        if not lists.asked.videos:
            raise UserError("One video alone has no neighbours.")
        pretext.eval()
        return neighbours_of(
            models, lists, queries=config.queries, neighbours=config.neighbours, workers=config.workers
        )

    blocks: list[Block] = []
    trained_on = next((m.run["data"]["hash"] for m in models.values() if m.run.get("data")), train.hash)
    if config.data is None and trained_on != train.hash:
        blocks.append(Words(f"The videos of {made.data} or their list have changed since the training."))
    for title, make in (("What the network saw", inputs), ("Nearest neighbours", neighbours)):
        blocks.append(Heading(title))
        try:
            blocks += make()
        except (UserError, VideoError) as error:
            blocks.append(Words(str(error)))
            print(f"{title}: {error}")
    return blocks


def _networks(folder: Path, made: Any, device: torch.device) -> tuple[Pretext, dict[str, Model]]:
    """The pretext, and the networks to compare: with random weights and trained, to the end or to a checkpoint."""
    torch.manual_seed(made.seed)
    if (folder / "backbone.safetensors").is_file():
        before, after = load_model(f"random:{folder}", device), load_model(str(folder), device)
        return after.pretext or _built(made), {"random weights": before, "trained": after}
    before, after = _built(made), _built(made)
    state = load_checkpoint(folder)
    if state is None:
        return after, {}
    weights = state.get("average") or state["pretext"]
    weights = {k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"}
    load_into(after, weights, f"The newest checkpoint of {folder}")
    models = {}
    for name, network in (("random weights", before), (f"after {state['step']} steps", after)):
        network.to(device).eval()
        models[name] = Model(name, network.backbone, network.view, {}, device, network)
    return after, models


def _built(made: Any) -> Pretext:
    backbone = build_backbone(made.backbone.name, **(options_of(made.backbone) | {"weights": None}))
    return build_pretext(made.pretext.name, backbone, options_of(made.pretext))


def _lists(config: ReportConfig, made: Any, pretext: Pretext) -> tuple[VideoSet, Lists]:
    """The videos trained on, and which ask and which answer: those of the run, chosen as it chose them, or others."""
    if config.data is not None:
        made = dataclasses.replace(made, data=config.data, split=config.split, cache="none")
    splits = load_splits(made.data, made.split)
    pretext.train()  # it samples as it did in training
    whole = shown(splits.train, made, pretext, True)
    measure(whole, pretext.needs.statistics, progress=True)
    fit = usable(whole, pretext)
    if config.data is not None and splits.test is not None:
        asked = shown(splits.test, made, pretext, True)
        return fit, Lists(whole, asked, f"the test list of {made.data}")
    if len(fit.videos) < 2:
        return fit, Lists(fit, dataclasses.replace(fit, videos=()), "")
    train, asked = held_out(fit, made.held_out or HELD_OUT, seed=0)
    if config.data is not None:
        return fit, Lists(train, asked, f"a part of {made.data}")
    if not made.held_out:
        return fit, Lists(train, asked, "a part of those trained on, since the run held none out")
    train = with_company(train, pretext)
    return train, Lists(train, asked, "held out from the training list")
