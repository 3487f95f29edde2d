"""Pretraining: from videos to a run."""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ssl_video.backbones.base import Backbone, build_backbone, unloaded_backbone
from ssl_video.backbones.weights import seen_by
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
from ssl_video.pretrain_config import PretrainConfig, noted_by
from ssl_video.pretrain_plan import plan_of
from ssl_video.run import Run
from ssl_video.train.data import ClipDataset, read_video
from ssl_video.train.distributed import Ranks, choose_device, joined
from ssl_video.train.lists import check_same, lists_of, shown
from ssl_video.train.loop import train
from ssl_video.train.parallel import check
from ssl_video.train.report import write_report
from ssl_video.video.reader import get_reader

MAY_CHANGE = {"workers", "reader", "device", "tensorboard", "wandb", "probe"}
"""Options that may differ on resuming: nothing that a result depends on."""


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
    noted = _dotted(PretrainConfig.from_mapping(noted_by(run)).to_mapping())
    given = {name: value for name, value in _dotted(config.to_mapping()).items() if name not in MAY_CHANGE}
    other = [name for name, value in given.items() if value != noted.get(name)]
    if other:  # of two that say one thing in two units, the one that is given is named
        name = min(other, key=lambda name: given[name] is None)
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
    lists = ranks.share(
        lists_of(run, config.data, pretext, say, progress, config.training.draws) if ranks.first else None
    )
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
    if ranks.first:
        for line in plan_of(config, pretext, lists, dataset, run.folder, run.last_step(), ranks).sentences():
            say(line)
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
    train_list, test_list = (
        shown(v, config.data, models[0].pretext, progress, config.training.draws) for v in (splits.train, splits.test)
    )
    task = Task(config.data.spec, config.data.split, train_list, test_list, config.training.workers)
    protocols = ["linear"] if train_list.multi_label else ["linear", "retrieval"]
    return compare(models, protocols, task)
