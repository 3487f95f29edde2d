"""Pretraining: from videos to a run."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ssl_video.backbones.base import Backbone, backbone_options, build_backbone, unloaded_backbone
from ssl_video.backbones.weights import own_entry, seen_by
from ssl_video.config import from_mapping, make_options, plain
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.harness import Say, compare, silent
from ssl_video.eval.online import monitors_for
from ssl_video.eval.results import Result, write_results
from ssl_video.files import new_folder
from ssl_video.model import digest, header_of_backbone, load_model
from ssl_video.pretexts.base import PRETEXTS, Pretext, build_pretext
from ssl_video.run import Run
from ssl_video.train.config import DataConfig, TrainingConfig
from ssl_video.train.data import ClipDataset, read_video
from ssl_video.train.distributed import Ranks, choose_device, joined
from ssl_video.train.lists import check_same, lists_of, shown
from ssl_video.train.loop import train
from ssl_video.train.parallel import check
from ssl_video.train.report import write_report
from ssl_video.video.reader import get_reader

MAY_CHANGE = {"workers", "reader", "device", "tensorboard", "wandb", "probe"}
"""Options that may differ on resuming: nothing that a result depends on."""


@dataclass(frozen=True)
class Choice:
    """A registered thing by its name, with some of its options; the others have their defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that a pretraining depends on.

    Raises UserError for names and options that are not there, and for values that cannot be. In files and flags it is
    flat (``to_mapping``): the same word is a key of a recipe, of a run's config.yaml, and a flag.
    """

    pretext: Choice = Choice("speediness")
    backbone: Choice = Choice("r2plus1d_4")
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    probe: bool = False
    """After training, run the linear probe and retrieval with the trained and with the untrained network."""

    def __post_init__(self):
        cls, name = PRETEXTS[self.pretext.name], self.backbone.name
        pretext = make_options(cls, f"pretext {self.pretext.name}", self.pretext.options)
        entry = own_entry(str(self.backbone.options.get("weights")), name)  # it brings options of its network
        options = {**(entry.options if entry else {}), **self.backbone.options}
        backbone = vars(from_mapping(backbone_options(name), options, f"backbone {name}"))
        object.__setattr__(self, "pretext", Choice(self.pretext.name, pretext))
        object.__setattr__(self, "backbone", Choice(name, backbone))

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> "PretrainConfig":
        """From the flat form: a recipe, or the configuration of a run. Raises UserError."""
        flat = vars(from_mapping(_FLAT, {k: v for k, v in given.items() if k not in NO_OPTIONS}, "recipe"))
        data = {"spec" if k == "data" else k: flat[k] for k in _OF_DATA}
        training = {f.name: flat[f.name] for f in dataclasses.fields(TrainingConfig)}
        choices = {kind: _choice(flat[kind]) for kind in ("pretext", "backbone") if flat[kind] is not None}
        return cls(**choices, data=DataConfig(**data), training=TrainingConfig(**training), probe=flat["probe"])

    def to_mapping(self) -> dict[str, Any]:
        """The flat form, which ``from_mapping`` turns back into an equal configuration."""
        flat = {**plain(self.data), **plain(self.training), "probe": self.probe}
        choices = {"pretext": self.pretext, "backbone": self.backbone}
        flat |= {kind: {"name": chosen.name, **plain(chosen.options)} for kind, chosen in choices.items()}
        return {"data": flat.pop("spec"), **flat}


NO_OPTIONS = ("config", "resume", "out")
"""Flags of the command that say where, not what; version 0.1 noted them too."""
_OF_DATA = {"data" if f.name == "spec" else f.name: (f.type, f.default) for f in dataclasses.fields(DataConfig)}
_REST = {"probe": (bool, False), "pretext": (Any, None), "backbone": (Any, None)}
_FLAT = dataclasses.make_dataclass(
    "Flat",
    [(name, kind, field(default=default)) for name, (kind, default) in (_OF_DATA | _REST).items()],
    bases=(TrainingConfig,),
    frozen=True,
)


def _choice(given: Any) -> Choice:
    """A name, or a mapping of a name and options."""
    if isinstance(given, str):
        return Choice(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise UserError(f"A pretext or a backbone is a name, or a mapping with a 'name' and options, not {given!r}.")
    return Choice(given["name"], {k: v for k, v in given.items() if k != "name"})


def changed(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe under some options by their dotted names, such as ``pretext``, ``pretext.frames`` or ``optim.lr``.

    Options of a pretext or backbone that another one takes the place of do not carry over.
    """
    flat = dict(recipe)
    for name, value in changes.items():
        group, _, option = name.partition(".")
        if group in ("pretext", "backbone"):
            before = _choice(flat.get(group) or getattr(PretrainConfig, group).name)
            if option in ("", "name"):
                flat[group] = {"name": value, **(before.options if value == before.name else {})}
            else:
                flat[group] = {"name": before.name, **before.options, option: value}
        elif option:
            before = flat.get(group, {})
            if not isinstance(before, Mapping):
                raise UserError(f"The option {group!r} has no options of its own, so there is no {name!r}.")
            flat[group] = {**before, option: value}
        else:
            flat[group] = value
    return flat


def pretrain(
    config: PretrainConfig,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    say: Say = silent,
    progress: bool = False,
) -> Run:
    """Train a backbone on videos without labels; every process of torchrun calls it alike.

    Args:
        config: what to train.
        out: folder of the run; by default a new one under runs/.
        resume: the folder's training is resumed (if it has begun, with the configuration that it has noted).
        say: gets lines on what is done, on the first process.
        progress: show bars, where there is a terminal.

    Raises:
        UserError: if the videos, the options or the folder cannot serve.
        Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
    """
    with joined(choose_device(config.training.device)) as ranks:
        return _pretrain(config, out, resume, say if ranks.first else silent, progress, ranks)


def _check_config(run: Run, config: PretrainConfig) -> None:
    """Raise UserError if the run has noted another configuration, in something that results depend on."""
    if not run.started:
        return
    noted, given = PretrainConfig.from_mapping(run.config()).to_mapping(), config.to_mapping()
    for name, value in _dotted(given).items():
        if name not in MAY_CHANGE and value != _dotted(noted).get(name):
            raise UserError(
                f"A resumed run keeps its configuration, but --{name.replace('_', '-')} differs from that in {run}; "
                f"leave the option out, or start a new run with another --out."
            )


def _dotted(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by their dotted names, which are those of flags but for ``.name``."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= _dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _pretrain(
    config: PretrainConfig, out: Path | str | None, resume: bool, say: Say, progress: bool, ranks: Ranks
) -> Run:
    run = ranks.share(Run(new_folder(config.pretext.name) if out is None else Path(out)))
    if ranks.first:
        run.claim(resume)
        _check_config(run, config)
    if ranks.share(resume and run.finished and (run.probe_file.is_file() or not config.probe)):
        say(f"{run} is finished already.")
        return run
    check(config.training, ranks)
    get_reader(config.data.reader)  # a missing package is said before the videos are scanned
    begun = ranks.share(resume and bool(run.checkpoints()))
    seen_before = ranks.share(run.seen_before() if ranks.first else None)
    pretext = untrained(config, say, weights=not begun, seen_before=seen_before)
    lists = ranks.share(lists_of(run, config.data, pretext, say, progress) if ranks.first else None)
    assert lists is not None
    training, held = lists.training, lists.held_out
    if ranks.first:
        check_same(run, lists)
        run.write_config(config.to_mapping())
        if run.lists() is None:
            run.write_lists(lists)
        if not begun:
            run.note_seen_before(pretext.backbone.provenance.trained_on)
    ranks.barrier()
    dataset = ClipDataset(training, pretext, config.training.seed, partial(read_video, reader=config.data.reader))
    monitors = monitors_for(training, held, ranks.device) if held.videos else []
    steps = config.training.steps_over(len(training.videos))
    say(f"{sum(p.numel() for p in pretext.parameters()) / 1e6:.2f} M parameters, {steps} steps, into {run}")
    trained = train(pretext, dataset, config.training, run, ranks, monitors, progress)
    if ranks.first:
        _finish(run, config, pretext, trained.exported(), training)
        say(f"\n{run.backbone_file} and {run.report_file} are written.")
        if config.probe:
            write_results(run.probe_file, probe(config, run, ranks.device, progress))
    ranks.barrier()
    return run


def untrained(
    config: PretrainConfig, say: Say = silent, *, weights: bool = True, seen_before: frozenset[str] | None = None
) -> Pretext:
    """The pretext and its network as a training starts with them. Raises UserError.

    Without ``weights`` its backbone keeps the weights that it was drawn with, and ``seen_before`` says what those that
    it started from were trained on (by default what their file says, if it is still there).
    """
    torch.manual_seed(config.training.seed)
    name, options = config.backbone.name, config.backbone.options
    if weights:
        backbone = build_backbone(name, **options)
    else:  # a checkpoint has them, and their file may be gone
        backbone = unloaded_backbone(name, **options)
        if seen_before is None and options["weights"] not in (None, "None"):
            seen_before = seen_by(options["weights"], name, backbone.published)
        backbone.provenance = dataclasses.replace(backbone.provenance, trained_on=seen_before or frozenset())
    if backbone.provenance.weights_report:
        say(backbone.provenance.weights_report)
    return build_pretext(config.pretext.name, backbone, config.pretext.options)


def _finish(run: Run, config: PretrainConfig, pretext: Pretext, exported: Backbone, videos: VideoSet) -> None:
    data = {"spec": config.data.spec, "split": config.data.split, "hash": videos.hash, "videos": len(videos.videos)}
    data["left_out"] = len(videos.problems)
    write_weights(run, pretext, data, videos.videos, exported)
    write_report(run, data, f"`ssl-video pretrain --config {run.config_file} --out ANOTHER_FOLDER` repeats the run.")


def write_weights(
    run: Run,
    pretext: Pretext,
    data: Mapping[str, Any] | None = None,
    videos: Iterable[Video] = (),
    exported: Backbone | None = None,
) -> None:
    """Write a pretext, and the network of it that counts (by default its own), so that the folder is a model.

    ``data`` says in the header what it was trained on, and ``videos`` are known again by their digests (``digest``).
    """
    backbone = exported or pretext.exported()
    header = header_of_backbone(backbone, pretext.view, backbone.provenance.trained_on | {digest(v) for v in videos})
    header["pretext"] = {"name": PRETEXTS.name_of(type(pretext)), "options": dataclasses.asdict(pretext.config)}
    run.save_weights(pretext.state_dict(), backbone.state_dict(), header | {"data": dict(data or {})})


def probe(config: PretrainConfig, run: Run, device: torch.device, progress: bool = False) -> list[Result]:
    """Linear probe and retrieval of the run and of its untrained network; none where the data has no test list."""
    splits = load_splits(config.data.spec, config.data.split)
    if splits.test is None:
        return []
    torch.manual_seed(config.training.seed)
    models = [load_model(str(run), device), load_model(f"random:{run}", device)]
    assert models[0].pretext is not None
    train_list, test_list = (shown(v, config.data, models[0].pretext, progress) for v in (splits.train, splits.test))
    task = Task(config.data.spec, config.data.split, train_list, test_list, config.training.workers)
    protocols = ["linear"] if train_list.multi_label else ["linear", "retrieval"]
    return compare(models, protocols, task)
