"""Which videos a run trains on: chosen once, noted, and found again as they were when it is resumed."""

import dataclasses
import math
from collections.abc import Callable

from ssl_video.datasets.base import ListedVideo, Video, VideoList, VideoRows, VideoSet
from ssl_video.datasets.cached import read_from
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.held_out import held_out
from ssl_video.datasets.kept import hold_copies
from ssl_video.datasets.many import compact
from ssl_video.datasets.spec import contents_of, describe, load_splits
from ssl_video.datasets.statistics import measure
from ssl_video.errors import UserError
from ssl_video.files import there
from ssl_video.members import member_of
from ssl_video.progress import are, left_out
from ssl_video.run import Lists, Run
from ssl_video.train.config import DataConfig
from ssl_video.train.data import usable, with_company
from ssl_video.train.objective import Objective
from ssl_video.train.span import remedy

Say = Callable[[str], None]


def lists_of(
    run: Run, data: DataConfig, objective: Objective, say: Say, progress: bool = False, draws: float = math.inf
) -> Lists:
    """The videos of a run as they were chosen, with what they hold now (``check_same`` compares).

    They are chosen now, if the run has noted none yet (or is of version 0.1). Copies that are gone are made again; of
    those that are there, ``say`` is told if the videos that they were made of are not. Of a large list without copies
    each file is looked at when it is read. Raises UserError if there are no such videos any more.

    ``draws`` is how many samples will be drawn of them: copies are made if these are enough.
    """
    lists = run.lists()
    if lists is None:
        if run.checkpoints():
            say(f"{run} is of version 0.1, which noted no list of videos: that they are the same cannot be checked.")
        return choose_lists(data, objective, say, progress, draws)
    say(f"{are(len(lists.training.videos), 'video')} trained on, {len(lists.held_out.videos)} held out, as noted.")
    found = []
    for videos in (lists.training, lists.held_out):
        rows = videos.videos
        if isinstance(rows, VideoRows) and not (rows.has("copy_of") or rows.has("reversed_path")):
            found.append(videos)  # its files are looked at when they are read
            continue
        all_there = all(there(path) for v in videos.videos for path in (v.path, v.reversed_path) if path)
        if all_there:
            again = _as_it_is_now(videos, say, progress)
        else:
            again = _shown_again(videos, data, objective, progress, draws)
        found.append(videos if again == videos else dataclasses.replace(again, videos=compact(again.videos)))
    return Lists(*found)


def _as_it_is_now(videos: VideoSet, say: Say, progress: bool) -> VideoSet:
    """The videos with the contents of their files; of a copy only itself is read, so that it stays as it is."""
    hold_copies(v.path for v in videos.videos if v.copy_of)
    gone = [v.source for v in videos.videos if not there(v.source) and member_of(v.path) is None]
    now = contents_of([v for v in videos.videos if v.info.content and v.at_hand == v.source], progress=progress)
    changed = {v.source: now[v.source] for v in videos.videos if now.get(v.source, "") not in ("", v.info.content)}
    of_copies = [v.source for v in videos.videos if v.copy_of and v.source in changed]
    for which, what in ((gone, "gone"), (of_copies, "other videos now")):
        if which:
            some = f"{len(which)} of the {len(videos.videos)} videos of a list are {what} (the first: {which[0]})"
            say(f"warning: {some}; their copies, as they were made before, are used.")
    own = (v.with_content(changed[v.path]) if v.path in changed and not v.copy_of else v for v in videos.videos)
    return dataclasses.replace(videos, videos=tuple(own))


def _shown_again(videos: VideoSet, data: DataConfig, objective: Objective, progress: bool, draws: float) -> VideoSet:
    """The videos as the SPEC lists them, and from these their copies or flow, as they were made at first.

    What the SPEC does not list any more is looked for where it lay, but a copy that is none of ours is not made again.
    """
    try:
        named = load_splits(data.spec, data.split).train.videos
    except UserError:
        named = ()
    listed = {(v.source, v.labels, v.caption): v for v in named}

    def source(video: Video) -> ListedVideo:
        ours = data.cache != "none" or not video.copy_of
        return listed.get((video.source, video.labels, video.caption)) or (
            video.listed if ours else ListedVideo(video.path, video.labels, caption=video.caption)
        )

    sources = tuple(map(source, videos.videos))
    found = shown(VideoList(videos.name, sources, videos.classes), data, objective, progress, draws)
    return dataclasses.replace(found, problems=videos.problems + found.problems)


def check_same(run: Run, lists: Lists) -> None:
    """Raise UserError if the videos are not those that the run has noted: it would not be the same training."""
    noted = run.lists()
    if noted is None:
        return
    for before, now in ((noted.training, lists.training), (noted.held_out, lists.held_out)):
        if not (_are_noted(now, before) or now.has_hash(before.hash)):
            what = _difference(before, now)
            raise UserError(f"{run} cannot be resumed: {what}; bring them back, or start a new run with another --out.")


def _are_noted(now: VideoSet, before: VideoSet) -> bool:
    """True if they are the rows that were noted themselves."""
    ours, noted = now.videos, before.videos
    if not (isinstance(ours, VideoRows) and isinstance(noted, VideoRows)):
        return False
    return ours.same_rows(noted) and now.classes == before.classes


def _difference(before: VideoSet, now: VideoSet) -> str:
    keys, sources = {v.key for v in now.videos}, {v.source for v in now.videos}
    gone = [v.source for v in before.videos if v.source not in sources]
    changed = [v.source for v in before.videos if v.source in sources and v.key not in keys]
    for which, what in ((gone, "gone"), (changed, "other videos now")):
        if which:
            return f"{len(which)} of the {len(before.videos)} videos of a list are {what} (the first: {which[0]})"
    return "the labels, the lengths or the order of its videos have changed"


def choose_lists(
    data: DataConfig, objective: Objective, say: Say, progress: bool = False, draws: float = math.inf
) -> Lists:
    """Which of the data's videos are trained on, held out, and left out, and why. Raises UserError if none can be."""
    return lists_from(offered(data, objective, say, progress, draws), data, objective, say)


def offered(
    data: DataConfig, objective: Objective, say: Say, progress: bool = False, draws: float = math.inf
) -> VideoSet:
    """The videos that an objective can choose from, with what it needs to know of them. Raises UserError if none."""
    splits = load_splits(data.spec, data.split)
    for warning in splits.warnings:
        say(f"warning: {warning}")
    whole = shown(splits.train, data, objective, progress, draws)
    measure(whole, objective.needs.statistics, progress=progress)
    say(describe(dataclasses.replace(splits, train=whole)))
    return whole


def lists_from(whole: VideoSet, data: DataConfig, objective: Objective, say: Say) -> Lists:
    """As ``choose_lists``, of the videos that it is ``offered``."""
    serving = usable(whole, objective)
    _say_left_out(serving, say)
    if len(serving.videos) < len(whole.videos) and (way := remedy(whole, objective)):
        say(f"Videos shorter than a sample's span are left out; {way}.")
    if not data.held_out or len(serving.videos) < 2:
        return Lists(serving, VideoSet(f"{serving.name} (held out)", (), serving.classes))
    training, kept = held_out(serving, data.held_out, seed=0)
    return Lists(with_company(training, objective), kept)


def shown(
    videos: VideoList, data: DataConfig, objective: Objective, progress: bool = False, draws: float = math.inf
) -> VideoSet:
    """What the network takes: the usable videos, their copies if the configuration says so, or their flow.

    Copies are made if ``draws`` samples are worth them (``datasets.cached.as_copied``).
    """
    modality = objective.backbone.clip.modality
    cache = "none" if modality == "flow" else data.cache  # flow is a copy already
    readable = read_from(videos, cache, data.cache_short_side, draws, progress=progress)
    return for_modality(readable, modality, reversed=objective.needs.reversed, progress=progress)


def _say_left_out(videos: VideoSet, say: Say) -> None:
    """The videos that cannot be used, counted, the first few named."""
    for line in left_out(videos.problems):
        say(f"  {line}")
    if videos.problems:
        say(f"{len(videos.problems)} of {len(videos.videos) + len(videos.problems)} videos are left out.")
