"""``ssl-video pretrain``: train a backbone on videos without labels."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from ssl_video.backbones.base import backbone_options, build_backbone
from ssl_video.backbones.weights import videos_seen
from ssl_video.cli.evaluate_command import side_by_side
from ssl_video.cli.parsing import name_given, parse
from ssl_video.config import from_mapping, load_yaml, option_type, plain, save_yaml
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.cached import read_from
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import describe, held_out, load_splits
from ssl_video.datasets.statistics import measure
from ssl_video.errors import UserError, nearest
from ssl_video.eval.base import Task
from ssl_video.eval.online import monitors_for
from ssl_video.files import new_folder
from ssl_video.model import header_of, load_model, save_run
from ssl_video.pretexts.base import PRETEXTS, Pretext, build_pretext
from ssl_video.train.checkpoint import checkpoints
from ssl_video.train.config import RunConfig
from ssl_video.train.data import ClipDataset, read_video, usable, with_company
from ssl_video.train.distributed import Ranks, choose_device, join, leave
from ssl_video.train.loop import Interrupted, train
from ssl_video.train.report import write_report
from ssl_video.video.reader import get_reader

DESCRIPTION = (
    "Train a backbone on videos without labels; without any option, the embedded default in about two minutes."
)
MAY_CHANGE = {
    "workers",
    "reader",
    "device",
    "out",
    "tensorboard",
    "wandb",
}  # on resuming: nothing that a result depends on


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = configure(argv)
    device = choose_device(config.device)
    ranks = join(device)
    try:
        pretrain(config, device, ranks)
    except Interrupted as stop:
        print(f"ssl-video: {stop}: use --resume.", file=sys.stderr)
        return 130
    finally:
        leave()
    return 0


def configure(argv: Sequence[str]) -> Any:
    """The whole configuration: defaults, under a recipe, under the flags. Raises UserError."""
    argv = list(argv)
    resume = "--resume" in argv
    argv = [a for a in argv if a != "--resume"]
    recipe_name = name_given(argv, "--config")
    out = name_given(argv, "--out")
    if resume and out is None:
        raise UserError("--resume needs --out FOLDER, the run to go on with.")
    before = Path(out) / "config.yaml" if out is not None else None
    if resume and before is not None and before.exists():
        recipe = load_yaml(before)
    elif recipe_name is not None:
        recipe = load_recipe(recipe_name)
    else:
        asks_help = any(a in ("-h", "--help") for a in argv)
        recipe = {} if name_given(argv, "--data") or asks_help else load_recipe("default")

    argv = [re.sub(r"^--(pretext|backbone)(?=$|=)", r"--\1.name", a) for a in argv]
    names = {
        kind: name_given(argv, f"--{kind}.name") or _name_in(recipe, kind) or default
        for kind, default in (("pretext", "speediness"), ("backbone", "r2plus1d_4"))
    }
    for kind, name in names.items():  # options of another choice do not carry over
        if _name_in(recipe, kind) not in (None, name):
            recipe[kind] = {"name": name}
    cls = config_type(names["pretext"], names["backbone"])
    default = from_mapping(cls, {k: v for k, v in recipe.items() if k != "config"}, "recipe")
    config: Any = parse(cls, argv, "pretrain", DESCRIPTION, default)
    if resume and before is not None and before.exists():
        for f in dataclasses.fields(cls):
            if f.name not in MAY_CHANGE and getattr(config, f.name) != getattr(default, f.name):
                raise UserError(
                    f"A resumed run keeps its configuration, but --{f.name.replace('_', '-')} differs from {before}; "
                    f"leave the option out, or start a new run with another --out."
                )
    return dataclasses.replace(config, resume=resume)


def config_type(pretext: str, backbone: str) -> type:
    """RunConfig together with the options of the chosen pretext and backbone."""

    def named(name: str, options: type) -> type:
        return dataclasses.make_dataclass(
            options.__name__, [("name", str, dataclasses.field(default=name))], bases=(options,), frozen=True
        )

    chosen = {"pretext": named(pretext, option_type(PRETEXTS[pretext]))}
    chosen["backbone"] = named(backbone, backbone_options(backbone))
    fields = [(kind, cls, dataclasses.field(default_factory=cls)) for kind, cls in chosen.items()]
    own = [
        ("config", str | None, dataclasses.field(default=None)),
        ("resume", bool, dataclasses.field(default=False)),
    ]
    return dataclasses.make_dataclass("Pretrain", [*fields, *own], bases=(RunConfig,), frozen=True)


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe by its packaged name or by path. Raises UserError."""
    there = files("ssl_video.recipes").iterdir()
    packaged = {f.name.removesuffix(".yaml"): f for f in there if f.name.endswith(".yaml")}
    if name in packaged:
        return load_yaml(Path(str(packaged[name])))
    if not Path(name).exists():
        raise UserError(f"There is no recipe or file {name!r}; {nearest(name, packaged)}")
    return load_yaml(name)


def _name_in(recipe: Mapping[str, Any], kind: str) -> str | None:
    chosen = recipe.get(kind)
    return chosen.get("name") if isinstance(chosen, Mapping) else chosen


def pretrain(config: Any, device: torch.device, ranks: Ranks) -> Path:
    """Everything from the videos to the run's folder. Raises UserError and Interrupted."""
    for name in ("batch_size", "clips_per_video", "log_every", "monitor_every", "checkpoint_every"):
        if getattr(config, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(config, name)}.")
    if config.batch_size % ranks.world_size:
        raise UserError(f"--batch-size {config.batch_size} cannot be divided among {ranks.world_size} processes.")
    get_reader(config.reader)  # a missing package is said before the videos are scanned
    say = print if ranks.first else _silent
    run = run_folder(config)
    torch.manual_seed(config.seed)
    options = options_of(config.backbone)
    start = options["weights"]
    if config.resume and checkpoints(run):
        options["weights"] = None  # the checkpoint has them, and their file may be gone
    backbone = build_backbone(config.backbone.name, **options)
    if start and not options["weights"] and Path(start).exists():
        backbone.provenance = dataclasses.replace(backbone.provenance, trained_on=videos_seen(start))
    if backbone.provenance.weights_report:
        say(backbone.provenance.weights_report)
    pretext = build_pretext(config.pretext.name, backbone, options_of(config.pretext))
    with ranks.first_then_others():
        splits = load_splits(config.data, config.split)
        for warning in splits.warnings:
            say(f"warning: {warning}")
        whole = shown(splits.train, config, pretext, ranks.first)
        measure(whole, pretext.needs.statistics, progress=ranks.first)
    say(describe(dataclasses.replace(splits, train=whole)))
    fit = usable(whole, pretext)
    say_left_out(fit, say)
    videos, monitors = fit, []
    if config.held_out and len(fit.videos) > 1:
        videos, kept = held_out(fit, config.held_out, seed=0)
        videos = with_company(videos, pretext)
        monitors = monitors_for(videos, kept, kept, device)
    per_epoch = len(videos.videos) * config.clips_per_video / config.batch_size / config.optim.accumulate
    steps = config.steps or round((config.epochs or 0) * per_epoch) or 10_000
    if ranks.first:
        run.mkdir(parents=True, exist_ok=True)
        if not (run / "config.yaml").exists():
            save_yaml(run / "config.yaml", dataclasses.replace(config, out=run, resume=False))
    ranks.barrier()
    dataset = ClipDataset(videos, pretext, config.seed, partial(read_video, reader=config.reader))
    say(f"{sum(p.numel() for p in pretext.parameters()) / 1e6:.2f} M parameters, {steps} steps, into {run}")
    trained = train(pretext, dataset, config, steps, run, device, ranks, monitors)
    if ranks.first:
        data = {"spec": config.data, "split": config.split, "hash": videos.hash, "videos": len(videos.videos)}
        data["left_out"] = len(fit.problems)
        save_run(run, trained, header_of(trained, config.pretext.name, data, videos.videos))
        again = f"`ssl-video pretrain --config {run / 'config.yaml'} --out ANOTHER_FOLDER` repeats the run."
        write_report(run, data, again)
        say(f"\n{run / 'backbone.safetensors'} and {run / 'report.md'} are written.")
        if config.probe and splits.test is not None:
            tested = shown(splits.test, config, pretext, progress=True)
            probe(run, Task(config.data, config.split, whole, tested, config.workers), device, config.seed)
        say(f"Next: ssl-video index --model {run} --data {config.data} --out {run}/index")
    ranks.barrier()
    return run


def shown(videos: VideoSet, config: Any, pretext: Pretext, progress: bool) -> VideoSet:
    """What the network looks at: the usable videos, their copies if the configuration asks for them, or their flow."""
    modality = pretext.backbone.clip.modality
    cache = "none" if modality == "flow" else config.cache  # flow is a copy already
    usable_videos = read_from(videos, cache, config.cache_short_side, progress=progress)
    return for_modality(usable_videos, modality, reversed=pretext.needs.reversed, progress=progress)


def run_folder(config: Any) -> Path:
    """The folder of the run: a new one, or the one to go on with. Raises UserError for one that is in use."""
    if config.out is None:
        return new_folder(config.pretext.name)
    run = Path(config.out)
    if run.exists() and not run.is_dir():
        raise UserError(f"{run} is a file; --out must name a folder.")
    if run.exists() and any(run.iterdir()) and not config.resume:
        more = "use --resume to go on with it, or " if checkpoints(run) else ""
        raise UserError(f"{run} exists and is not empty; {more}choose another --out.")
    return run


def say_left_out(videos: VideoSet, say: Any) -> None:
    """The videos that cannot be used, counted, the first few named."""
    for problem in videos.problems[:5]:
        say(f"  left out: {problem.path}: {problem.reason}")
    if videos.problems:
        more = len(videos.problems) - 5
        rest = f" (and {more} more)" if more > 0 else ""
        say(f"{len(videos.problems)} of {len(videos.videos) + len(videos.problems)} videos are left out{rest}.")


def probe(run: Path, task: Task, device: torch.device, seed: int) -> None:
    """Linear probe and retrieval of the run and of the same network with random weights, side by side."""
    torch.manual_seed(seed)
    models = [load_model(str(run), device), load_model(f"random:{run}", device)]
    protocols = ["linear"] if task.train.multi_label else ["linear", "retrieval"]
    side_by_side(models, protocols, task, run / "probe.json")


def options_of(chosen: Any) -> dict[str, Any]:
    """The options of a chosen pretext or backbone, without its name."""
    return {k: v for k, v in plain(chosen).items() if k != "name"}


def _silent(*_words: object) -> None:
    pass
