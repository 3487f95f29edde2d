"""Pretraining: from videos to a run."""

from collections.abc import Iterable, Mapping, Set
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from ssl_video.backbones.base import Backbone, build_backbone, unloaded_backbone
from ssl_video.backbones.weights import seen_by
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.spec import load_splits
from ssl_video.digests import Digests
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.harness import Say, compare, silent
from ssl_video.eval.online import monitors_for, thinned
from ssl_video.eval.results import Result, write_results
from ssl_video.files import new_folder
from ssl_video.model import Model, digest, header_of_backbone, load_model
from ssl_video.pretexts.base import PRETEXTS, Pretext, build_pretext
from ssl_video.pretrain_config import Choice, PretrainConfig, anywhere, noted_by
from ssl_video.pretrain_plan import plan_of
from ssl_video.run import Lists, Run
from ssl_video.train.data import ClipDataset, read_video
from ssl_video.train.distributed import Ranks, choose_device, joined
from ssl_video.train.extras import check_packages
from ssl_video.train.lists import check_same, lists_from, lists_of, offered, shown
from ssl_video.train.loop import train
from ssl_video.train.pace import measure_pace
from ssl_video.train.parallel import check
from ssl_video.train.parts import named_parts
from ssl_video.train.report import chance_of, held_out_result, write_report
from ssl_video.train.span import fit_span, in_flags
from ssl_video.video.reader import get_reader

HERE = ("workers", "reader", "device", "tensorboard", "wandb", "probe")
MAY_CHANGE = {*HERE, "shard", "compile", "checkpoint_activations"}
"""Options that may differ on resuming: nothing that a result depends on, but for how sums are rounded."""
PROBED = 1000
"""Videos of a list on which a run is measured when it has ended."""

Resume = bool | Literal["auto"]


@dataclass(frozen=True)
class Start:
    """How a training starts, as the first process found its folder: what, from where, and whether it has ended."""

    config: PretrainConfig
    begun: bool
    finished: bool
    seen_before: Set[str] | None


def pretrain(
    config: PretrainConfig,
    out: Path | str | None = None,
    *,
    resume: Resume = False,
    say: Say = silent,
    progress: bool = False,
) -> Run:
    """Train a backbone on videos without labels; every process of torchrun calls it alike.

    Args:
        config: what to train.
        out: folder of the run; by default a new one under runs/.
        resume: the folder's training is resumed (if it has begun, with the configuration that it has noted). "auto"
            starts it, resumes it or finds it finished.
        say: gets lines on what is done, on the first process.
        progress: show bars, where there is a terminal.

    Raises:
        UserError: if the videos, the options or the folder cannot serve, or a process does not see that folder.
        Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
    """
    with joined(choose_device(config.training.device)) as ranks:
        return _pretrain(config, out, resume, say if ranks.first else silent, progress, ranks)


def check_config(run: Run, config: PretrainConfig) -> None:
    """Raise UserError if the run has noted another configuration, in something that results depend on."""
    if not run.started:
        return
    noted = _dotted(
        anywhere(PretrainConfig.from_mapping(noted_by(run), f"configuration {run.config_file}")).to_mapping()
    )
    given = {name: value for name, value in _dotted(anywhere(config).to_mapping()).items() if name not in MAY_CHANGE}
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
    config: PretrainConfig, out: Path | str | None, resume: Resume, say: Say, progress: bool, ranks: Ranks
) -> Run:
    check(config.training, ranks)
    check_packages(config.training)
    get_reader(config.data.reader)
    run = ranks.first_does(lambda: Run(new_folder(config.pretext.name) if out is None else Path(out)))
    with ExitStack() as until_the_end:
        ranks.first_does(lambda: until_the_end.enter_context(run.held(made=out is None)))
        ranks.all_see(run.folder)
        start = ranks.first_does(lambda: _start(run, config, resume, say))
        if start.finished:
            say(f"{run} is finished already.")
            return run
        config = start.config
        pretext = untrained(config, say, weights=not start.begun, seen_before=start.seen_before)
        named_parts(pretext.backbone, config.training.checkpoint_activations)  # refused before anything is written
        lists, fitted = ranks.first_does(lambda: _choose(run, config, pretext, say, progress))
        if fitted:
            config = with_span(config, fitted)
            pretext = untrained(config)
        if config.training.minutes is not None:
            timed, its = config, pretext
            config = ranks.first_does(lambda: with_minutes_as_steps(timed, its, lists.training, ranks))
        noted, own = config, pretext

        def note() -> Lists:
            check_same(run, lists)
            # first of all: with it the folder can be resumed, or started anew
            run.write_config(replace(anywhere(noted), fit_span=False).to_mapping())
            before = run.lists()
            if before is None:
                run.write_lists(lists)
            if not start.begun:
                run.note_seen_before(own.backbone.provenance.trained_on)
            return lists if before else run.lists() or lists  # large ones are mapped from there by all processes

        lists = ranks.first_does(note)
        _train(run, config, pretext, lists, Show(say, progress), ranks)
    return run


def _start(run: Run, config: PretrainConfig, resume: Resume, say: Say) -> Start:
    """Look at the folder, on the first process; what a failed start left is removed. Raises UserError."""
    if run.leftover and resume is not True:
        say(f"{run} holds a training that ended before its first record; it is started anew.")
        run.clear_leftover()
    resuming = not run.empty if resume == "auto" else resume
    run.claim(resuming)
    config = as_begun(run, config)
    check_config(run, config)
    finished = resuming and run.finished and (run.probe_file.is_file() or not config.probe)
    begun = resuming and bool(run.checkpoints())
    if begun and not finished:
        say(f"{run} is resumed after step {run.last_step()}.")
    return Start(config, begun, finished, run.seen_before())


def as_begun(run: Run, config: PretrainConfig) -> PretrainConfig:
    """A configuration whose span is to be fitted, or whose steps are to be timed, as it was when the run began."""
    if not run.started or not (config.fit_span or config.training.minutes):
        return config
    noted = PretrainConfig.from_mapping(noted_by(run), f"configuration {run.config_file}")
    if config.training.minutes:
        config = replace(config, training=replace(config.training, steps=noted.training.steps, minutes=None))
    if not config.fit_span:
        return config
    if noted.pretext.name != config.pretext.name:
        return config
    span = {name: noted.pretext.options[name] for name, _ in PRETEXTS[config.pretext.name].span_limits}
    return replace(with_span(config, span), fit_span=noted.fit_span)


def _choose(
    run: Run, config: PretrainConfig, pretext: Pretext, say: Say, progress: bool
) -> tuple[Lists, Mapping[str, Any]]:
    """The videos of a run, and the options by which its span was fitted to them, where it was."""
    if run.lists() is not None or not config.fit_span or run.checkpoints():
        return lists_of(run, config.data, pretext, say, progress, config.training.draws), {}
    whole = offered(config.data, pretext, say, progress, config.training.draws)
    fitted = fit_span(whole, pretext)
    if fitted.options:
        say(f"The span is fitted to the videos: {in_flags(fitted.options)} ({fitted.serving} can serve then).")
        pretext = untrained(with_span(config, fitted.options))
    return lists_from(whole, config.data, pretext, say), fitted.options


def with_span(config: PretrainConfig, span: Mapping[str, Any]) -> PretrainConfig:
    """With these options of its pretext."""
    return replace(config, pretext=Choice(config.pretext.name, {**config.pretext.options, **span}))


def dataset_of(config: PretrainConfig, pretext: Pretext, videos: VideoSet) -> ClipDataset:
    """Samples of these videos, as the configuration draws them."""
    read, training = partial(read_video, reader=config.data.reader), config.training
    return ClipDataset(videos, pretext, training.seed, read, training.views)


def with_minutes_as_steps(config: PretrainConfig, pretext: Pretext, videos: VideoSet, ranks: Ranks) -> PretrainConfig:
    """With as many steps as take its minutes here: some are timed and thrown away (``measure_pace``)."""
    training = config.training
    assert training.minutes is not None
    dataset = dataset_of(config, pretext, videos)
    step_s = measure_pace(pretext, dataset, training, ranks).step_s
    steps = max(1, round(60 * training.minutes / step_s))
    return replace(config, training=replace(training, steps=steps, minutes=None))


@dataclass(frozen=True)
class Show:
    """Who hears what is done, and whether there are bars."""

    say: Say
    progress: bool


def _train(run: Run, config: PretrainConfig, pretext: Pretext, lists: Lists, show: Show, ranks: Ranks) -> None:
    training, held = lists.training, lists.held_out
    dataset = dataset_of(config, pretext, training)
    monitors = monitors_for(training, held, ranks, config.training) if held.videos else []
    if ranks.first:
        for line in plan_of(config, pretext, lists, dataset, run.folder, run.last_step(), ranks).sentences():
            show.say(line)
    try:
        trained = train(pretext, dataset, config.training, run, ranks, monitors, show.progress)
    except UserError as error:
        error.alone = True  # a video that only this process reads, say
        raise
    if ranks.first:
        _finish(run, config, pretext, trained.exported(), training)
        show.say(f"\n{run.backbone_file} and {run.report_file} are written.")
        if sentence := held_out_result(run.records(), chance_of(pretext, training), len(held.videos)):
            show.say(sentence)
        if config.probe:
            write_results(run.probe_file, probe(config, run, lists, ranks.device, show.say, show.progress))
    ranks.barrier()


def untrained(
    config: PretrainConfig, say: Say = silent, *, weights: bool = True, seen_before: Set[str] | None = None
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
        backbone, source = unloaded_backbone(name, **options), options["weights"]
        began = "" if source in (None, "None") else f"The training began with the weights of {source}."
        seen = seen_by(str(source), name, backbone.published) if began and seen_before is None else seen_before
        start = {"trained_on": seen or frozenset(), "weights_report": began}
        backbone.provenance = replace(backbone.provenance, **start)
    if backbone.provenance.weights_report:
        say(backbone.provenance.weights_report)
    pretext = build_pretext(config.pretext.name, backbone, config.pretext.options)
    if pretext.needs.apart and config.training.views > 1:
        raise UserError(f"{config.pretext.name} compares the samples of a batch with each other; leave --views out.")
    return pretext


def _finish(run: Run, config: PretrainConfig, pretext: Pretext, exported: Backbone, videos: VideoSet) -> None:
    data: dict[str, Any] = {
        "spec": anywhere(config).data.spec,
        "split": config.data.split,
        "hash": videos.hash,
        "videos": len(videos.videos),
    }
    data["left_out"] = len(videos.problems)
    write_weights(run, pretext, data, videos.videos, exported)
    again = f"`ssl-video pretrain --config {run.config_file} --out ANOTHER_FOLDER` repeats the run."
    write_report(run, data, again, chance_of(pretext, videos))


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
    seen = Digests.of(digest(video) for video in videos) | backbone.provenance.trained_on
    header = header_of_backbone(backbone, pretext.view, seen)
    header["pretext"] = {"name": PRETEXTS.name_of(type(pretext)), "options": asdict(pretext.config)}
    if pretext.supervision:
        header["supervision"] = pretext.supervision
    run.save_weights(pretext.state_dict(), backbone.state_dict(), header | {"data": dict(data or {})})


def probe(
    config: PretrainConfig, run: Run, lists: Lists, device: torch.device, say: Say = silent, progress: bool = False
) -> list[Result]:
    """The run beside its untrained network: in its own task and, with labels, by linear probe and retrieval.

    They are measured on the test list, or without one on the videos that were held out, of at most ``PROBED`` videos
    a list; none where there are neither. What cannot be measured on these videos, ``say`` is told.
    """
    torch.manual_seed(config.training.seed)
    models = [load_model(str(run), device), load_model(f"random:{run}", device)]
    task = _task(config, lists, models[0], progress)
    if task is None:
        say("The run is not measured: there is no test list, and no video was held out (--held-out).")
        return []
    results = []
    for protocol in protocols_on(task):
        try:
            results += compare(models, [protocol], task)
        except UserError as error:
            say(f"{protocol} is not measured: {error}")
    return results


def _task(config: PretrainConfig, lists: Lists, model: Model, progress: bool) -> Task | None:
    data, splits = config.data, load_splits(config.data.spec, config.data.split)
    if splits.test is not None:
        assert model.pretext is not None
        draws = config.training.draws
        train, test = (shown(v, data, model.pretext, progress, draws) for v in (splits.train, splits.test))
        name = data.spec
    elif lists.held_out.videos:
        train, test = lists.training, lists.held_out
        name = f"{data.spec} (held out)"
    else:
        return None
    return Task(name, data.split, thinned(train, PROBED), thinned(test, PROBED), config.training.workers)


def protocols_on(task: Task) -> list[str]:
    """By what a run is measured, as its videos have one label, several or none."""
    assert task.test is not None
    if not (task.train.labelled and task.test.labelled and len(task.train.classes) > 1):
        return ["pretext"]
    return ["pretext", "linear"] if task.train.multi_label else ["pretext", "linear", "retrieval"]
