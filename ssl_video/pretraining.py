"""Pretraining: from videos to a run."""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ssl_video.backbones.base import Backbone, build_backbone, unloaded_backbone
from ssl_video.backbones.weights import videos_seen
from ssl_video.datasets.base import Video, VideoList, VideoSet
from ssl_video.datasets.cached import read_from
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import describe, held_out, load_splits
from ssl_video.datasets.statistics import measure
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.harness import Say, compare, silent
from ssl_video.eval.online import monitors_for
from ssl_video.eval.results import Result, write_results
from ssl_video.files import new_folder
from ssl_video.model import digest, header_of_backbone, load_model
from ssl_video.pretexts.base import PRETEXTS, Pretext, build_pretext
from ssl_video.pretrain_config import PretrainConfig, noted_by
from ssl_video.run import Lists, Run
from ssl_video.train.config import DataConfig
from ssl_video.train.data import ClipDataset, read_video, usable, with_company
from ssl_video.train.distributed import Ranks, choose_device, joined
from ssl_video.train.loop import train
from ssl_video.train.objective import Objective
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
    pretext = untrained(config, say, weights=not begun)
    lists = ranks.share(lists_of(run, config, pretext, say, progress) if ranks.first else None)
    assert lists is not None
    training, held = lists.training, lists.held_out
    if ranks.first:
        _check_same(run, lists)
        run.write_config(config.to_mapping())
        if run.lists() is None:
            run.write_lists(lists)
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


def untrained(config: PretrainConfig, say: Say = silent, *, weights: bool = True) -> Pretext:
    """The pretext and its network as a training starts with them. Raises UserError.

    Without ``weights`` its backbone keeps the weights that it was drawn with.
    """
    torch.manual_seed(config.training.seed)
    name, options = config.backbone.name, config.backbone.options
    if weights:
        backbone = build_backbone(name, **options)
    else:  # a checkpoint has them, and their file may be gone
        backbone = unloaded_backbone(name, **options)
        start = options["weights"]
        if start and Path(start).expanduser().exists():
            backbone.provenance = dataclasses.replace(backbone.provenance, trained_on=videos_seen(start))
    if backbone.provenance.weights_report:
        say(backbone.provenance.weights_report)
    return build_pretext(config.pretext.name, backbone, config.pretext.options)


def lists_of(
    run: Run, config: PretrainConfig, objective: Objective, say: Say = silent, progress: bool = False
) -> Lists:
    """The videos of a run as they were chosen; chosen now, if it has noted none yet (or is of version 0.1).

    Copies that are gone are made again. Raises UserError if there are no such videos any more.
    """
    lists = run.lists()
    if lists is None:
        return choose_lists(config, objective, say, progress)
    say(f"{len(lists.training.videos)} videos are trained on, {len(lists.held_out.videos)} are held out, as noted.")
    parts = (_there(videos, config.data, objective, progress) for videos in (lists.training, lists.held_out))
    return Lists(*parts)


def _there(videos: VideoSet, data: DataConfig, objective: Objective, progress: bool) -> VideoSet:
    if all(Path(v.path).exists() for v in videos.videos):
        return videos
    sources = tuple(v.listed for v in videos.videos)
    found = shown(VideoList(videos.name, sources, videos.classes), data, objective, progress)
    return dataclasses.replace(found, problems=videos.problems + found.problems)


def _check_same(run: Run, lists: Lists) -> None:
    """Raise UserError if the videos are not those that the run has noted: it would not be the same training."""
    noted = run.lists()
    if noted is None:
        return
    for before, now in ((noted.training, lists.training), (noted.held_out, lists.held_out)):
        if before.hash != now.hash:
            gone = len(before.videos) - len(now.videos)
            what = (
                f"{gone} of the {len(before.videos)} videos of a list are gone" if gone else "its videos have changed"
            )
            raise UserError(f"{run} cannot be resumed: {what}; bring them back, or start a new run with another --out.")


def choose_lists(config: PretrainConfig, objective: Objective, say: Say = silent, progress: bool = False) -> Lists:
    """Which videos of the configured data are trained on, which are held out, and which are left out, and why."""
    splits = load_splits(config.data.spec, config.data.split)
    for warning in splits.warnings:
        say(f"warning: {warning}")
    whole = shown(splits.train, config.data, objective, progress)
    measure(whole, objective.needs.statistics, progress=progress)
    say(describe(dataclasses.replace(splits, train=whole)))
    serving = usable(whole, objective)
    say_left_out(serving, say)
    if not config.data.held_out or len(serving.videos) < 2:
        return Lists(serving, VideoSet(f"{serving.name} (held out)", (), serving.classes))
    training, kept = held_out(serving, config.data.held_out, seed=0)
    return Lists(with_company(training, objective), kept)


def shown(videos: VideoList, data: DataConfig, objective: Objective, progress: bool = False) -> VideoSet:
    """What the network takes: the usable videos, their copies if the configuration says so, or their flow."""
    modality = objective.backbone.clip.modality
    cache = "none" if modality == "flow" else data.cache  # flow is a copy already
    readable = read_from(videos, cache, data.cache_short_side, progress=progress)
    return for_modality(readable, modality, reversed=objective.needs.reversed, progress=progress)


def say_left_out(videos: VideoSet, say: Say) -> None:
    """The videos that cannot be used, counted, the first few named."""
    for problem in videos.problems[:5]:
        say(f"  left out: {problem.path}: {problem.reason}")
    if videos.problems:
        more = len(videos.problems) - 5
        rest = f" (and {more} more)" if more > 0 else ""
        say(f"{len(videos.problems)} of {len(videos.videos) + len(videos.problems)} videos are left out{rest}.")


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

    ``data`` says in the header what it was trained on, and ``videos`` are known again by their digests.
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
