"""What a pretraining would do, without doing it: nothing is written but what a scan remembers of files."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.cached import why_not_copied
from ssl_video.datasets.held_out import kept_of
from ssl_video.datasets.many import resized, some
from ssl_video.datasets.spec import describe, load_splits, scanned
from ssl_video.files import cache_dir, copies_dir, free_folder
from ssl_video.pretexts.base import Pretext
from ssl_video.pretrain_config import PretrainConfig
from ssl_video.pretrain_plan import STEPS_TO_TIME
from ssl_video.pretraining import Resume, as_begun, check_config, dataset_of, silent, untrained, with_span
from ssl_video.progress import are, count, duration
from ssl_video.run import Run
from ssl_video.train.distributed import Ranks, choose_device
from ssl_video.train.extras import check_packages
from ssl_video.train.lists import lists_from
from ssl_video.train.pace import Pace, measure_pace
from ssl_video.train.span import fit_span, in_flags, long_enough, remedy
from ssl_video.video.reader import get_reader

SHOWN = 5
"""Videos that are left out, of which the names are given."""


@dataclass(frozen=True)
class Preview:
    """The configuration as it would be noted, the optimiser steps (None: not known yet), and sentences on the rest."""

    config: PretrainConfig
    steps: int | None
    said: tuple[str, ...]


def preview(config: PretrainConfig, out: Path | None = None, resume: Resume = False, progress: bool = False) -> Preview:
    """What ``pretrain`` would do with these arguments. Raises UserError where it would before it starts to work."""
    choose_device(config.training.device)
    check_packages(config.training)
    get_reader(config.data.reader)
    run = Run(free_folder(config.pretext.name) if out is None else out)
    said = [_of_folder(run, resume)]
    config = as_begun(run, config) if not run.leftover else config
    if not run.leftover:
        check_config(run, config)
    pretext = untrained(config, weights=False)
    if config.data.spec == "synthetic" and not (cache_dir() / "synthetic-clips" / "manifest.csv").is_file():
        said.append("The embedded videos are drawn when they are first used; all of them serve the embedded default.")
        return Preview(replace(config, fit_span=False), config.training.steps, tuple(said))
    splits = load_splits(config.data.spec, config.data.split)
    whole = scanned(splits.train, progress=progress)
    said += [f"warning: {warning}" for warning in splits.warnings]
    said.append(describe(replace(splits, train=whole)))
    fitted = fit_span(whole, pretext).options if config.fit_span else {}
    if fitted:
        said.append(f"The span is fitted to the videos: {in_flags(fitted)}.")
        config = with_span(config, fitted)
        pretext = untrained(config, weights=False)
    serving, lines = _by_length(whole, pretext)
    share = config.data.held_out
    kept = kept_of(serving, share) if share and serving > 1 else 0
    steps = config.training.steps_over(serving - kept) if serving and config.training.minutes is None else None
    in_all = "" if steps is None else f"; {count(steps, 'step')}"
    said += [*lines, f"{count(serving - kept, 'video')} would be trained on, about {kept} held out{in_all}."]
    if not serving:
        return Preview(replace(config, fit_span=False), steps, (*said, "Without videos the training would be refused."))
    kind, side = config.data.cache, config.data.cache_short_side or None
    copies = kind != "none" and pretext.backbone.clip.modality != "flow"
    if copies and kind != "none" and (why := why_not_copied(whole, kind, side, config.training.draws)):
        said.append(why)
        copies = False
    left = steps - run.last_step() if steps else 0
    timed = left >= STEPS_TO_TIME or config.training.minutes is not None
    if timed and (pace := pace_of(config, pretext, whole, copies)) is not None:
        more = ", once copies are made" if copies else ""
        if config.training.minutes is not None:
            steps = round(60 * config.training.minutes / pace.step_s)
            said.append(f"{config.training.minutes:g} minutes are about {count(steps, 'step')} on this machine{more}.")
        else:
            said.append(f"Estimated time on this machine: about {duration(left * pace.step_s)}{more}.")
    if copies:
        where = copies_dir("clips")
        said.append(f"Copies of the videos ({config.data.cache}) would be made in {where}, where there are none.")
    return Preview(replace(config, fit_span=False), steps, tuple(said))


def pace_of(config: PretrainConfig, pretext: Pretext, whole: VideoSet, copies: bool) -> Pace | None:
    """How long a step would take here, by steps that are thrown away; with ``copies``, without decoding videos.

    None where its network needs what must be computed and kept first: flow, or statistics of frames.
    """
    if pretext.needs.statistics or pretext.backbone.clip.modality == "flow":
        return None
    side = 0 if config.data.cache == "none" else config.data.cache_short_side
    videos = replace(whole, videos=resized(whole.videos, side))
    lists = lists_from(videos, config.data, pretext, silent)
    dataset = dataset_of(config, pretext, lists.training)
    ranks = Ranks(device=choose_device(config.training.device))
    return measure_pace(pretext, dataset, config.training, ranks, decoding=not copies)


def _of_folder(run: Run, resume: Resume) -> str:
    """Raises UserError if the folder cannot serve."""
    if run.leftover and resume is not True:
        return f"{run} holds a training that ended before its first record; it would be started anew."
    run.claim(not run.empty if resume == "auto" else resume)
    if resume and run.finished:
        return f"{run} is finished already."
    return f"{run} would be resumed after step {run.last_step()}." if run.started else f"{run} would be made."


def _by_length(videos: VideoSet, pretext: Pretext) -> tuple[int, list[str]]:
    """How many videos have the frames that a sample needs, and lines on the others."""
    enough_N = long_enough(videos, pretext)
    if enough_N is None:
        return len(videos.videos), ["Which videos can serve is known when each has been looked into."]
    short = some(videos.videos, np.flatnonzero(~enough_N))
    lines = [f"  left out: {p.path}: {p.reason}" for p in videos.problems[:SHOWN]]
    lines += [f"  left out: {v.source}: {are(v.frames, 'frame')} too few for a sample" for v in short[:SHOWN]]
    left_out = len(short) + len(videos.problems)
    if left_out:
        way = remedy(videos, pretext) if short else ""
        lines.append(f"{count(left_out, 'video')} would be left out{f'; {way}' if way else ''}.")
    return int(enough_N.sum()), lines
