"""A page on a run: its curves, what its network saw, and nearest neighbours before and after the training."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ssl_video.apps.inputs import in_colours, jpeg, strips
from ssl_video.apps.map_page import draw_maps
from ssl_video.apps.options import ReportOptions
from ssl_video.apps.page import Block, Heading, Picture, Table, Words, write_page
from ssl_video.apps.video_map import LEAST, places_of
from ssl_video.backbones.weights import load_into
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.held_out import held_out
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError
from ssl_video.eval import retrieval
from ssl_video.eval.base import Task
from ssl_video.eval.features import Extraction
from ssl_video.eval.knn import unit
from ssl_video.eval.results import between, wilson
from ssl_video.eval.ridge import standardise
from ssl_video.eval.shards import train_and_test_features
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import Pretext
from ssl_video.pretrain_config import PretrainConfig, noted_by
from ssl_video.pretraining import Say, silent, untrained
from ssl_video.progress import bar
from ssl_video.run import Run
from ssl_video.train.config import DataConfig
from ssl_video.train.data import ClipDataset, read_video
from ssl_video.train.distributed import CPU
from ssl_video.train.lists import choose_lists, lists_of, shown
from ssl_video.train.report import chance_of, draw_curves, last_values, speed
from ssl_video.video.augment import crop, resize_short_side
from ssl_video.video.cache import FLOW_CODEC
from ssl_video.video.reader import VideoError, iterate_frames

HELD_OUT = 0.1
"""Fraction of a list that becomes queries, where the run held none out."""
SIDE = 96
"""Pixels a side of the pictures of neighbours."""
AT_MOST = 300
"""Videos that are looked through for neighbours."""
SAME, OTHER = (0, 114, 178), (200, 200, 200)
"""Frames around neighbours of the query's class, and around others."""


@dataclass(frozen=True)
class Shown:
    """Videos of which to show samples, and among which to look for neighbours, as the network sees them.

    ``queries`` are none of the ``gallery``; ``what`` says in a sentence what they are.
    """

    samples: VideoSet
    gallery: VideoSet
    queries: VideoSet
    what: str


def write_report(
    run: Run,
    out: Path | None = None,
    options: ReportOptions | None = None,
    device: torch.device = CPU,
    say: Say = silent,
) -> tuple[Path, ...]:
    """Write a page on a run, as Markdown and as one HTML file, into ``out``, by default its folder; the files' paths.

    What cannot be shown is said on the page, and to ``say``. Raises UserError if the folder is no run.
    """
    if not run.started and not run.records_file.is_file():
        raise UserError(f"{run} is no run (it holds neither a configuration nor records); name a run's folder.")
    chance, options = _chance(run), options or ReportOptions()
    blocks: list[Block] = list(progress_of(run, chance))
    try:
        config = config_of(run)
        blocks.insert(0, _about(config))
        blocks += _of_videos(run, config, options, device, say)
    except (UserError, VideoError) as error:
        blocks += [Heading("Inputs and neighbours"), Words(f"They cannot be shown. {error}")]
        say(f"The page has no inputs and no neighbours: {error}")
    folder, name = out or run.folder, run.folder.resolve().name
    written = write_page(folder, run.report_file.stem, name, blocks)
    if options.format == "png":
        return written
    curves = folder / f"curves.{options.format}"
    draw_curves(curves, {name: run.records()}, chance)
    return (*written, curves)


def config_of(run: Run) -> PretrainConfig:
    """The configuration with which a run was made. Raises UserError for a folder without one, or a fine-tuning's."""
    noted = noted_by(run)
    if not isinstance(noted.get("pretext"), Mapping):
        raise UserError(f"{run.config_file} names no pretext: it is not that of a pretraining.")
    return PretrainConfig.from_mapping(noted, f"configuration {run.config_file}")


def _chance(run: Run) -> dict[str, float]:
    """What guessing comes to in this run, as far as its configuration and lists tell."""
    try:
        lists = run.lists()
        return chance_of(untrained(config_of(run), weights=False), None if lists is None else lists.training)
    except (UserError, VideoError):
        return {}


def _about(config: PretrainConfig) -> Table:
    data, training = config.data, config.training
    rows = {"pretext": config.pretext.name, "backbone": config.backbone.name, "data": data.spec, "split": data.split}
    rows |= {"batch": training.batch_size, "seed": training.seed}
    return Table(("", ""), [(name, str(value)) for name, value in rows.items()])


def _of_videos(run: Run, config: PretrainConfig, options: ReportOptions, device: torch.device, say: Say) -> list[Block]:
    """What takes videos. Raises UserError if there are none; what else goes wrong is said in its place on the page."""
    pretext, models = _networks(run, config, device)
    videos = _videos(run, config, options, pretext)

    def inputs() -> list[Block]:
        words = "Frames as the loader gives them; their colours are changed and they are normalised on the device."
        return [Words(words), *samples_of(pretext, videos.samples, options.samples, config.training.seed)]

    def neighbours() -> list[Block]:
        if not models:
            raise UserError("The run has neither weights nor a checkpoint yet.")
        if not videos.queries.videos:
            raise UserError("One video alone has no neighbours.")
        pretext.eval()
        return neighbours_of(models, videos, options)

    blocks: list[Block] = []
    trained_on = next((m.run["data"]["hash"] for m in models.values() if m.run.get("data")), videos.samples.hash)
    if options.data is None and not videos.samples.has_hash(trained_on):
        blocks.append(Words(f"The videos of {config.data.spec} or their list have changed since the training."))
    for title, make in (("What the network saw", inputs), ("Nearest neighbours", neighbours)):
        blocks.append(Heading(title))
        try:
            blocks += make()
        except (UserError, VideoError) as error:
            blocks.append(Words(str(error)))
            say(f"{title}: {error}")
    return blocks


def _networks(run: Run, config: PretrainConfig, device: torch.device) -> tuple[Pretext, dict[str, Model]]:
    """The pretext, and the networks to compare: with random weights and trained, to the end or to a checkpoint."""
    torch.manual_seed(config.training.seed)
    if run.finished:
        before, after = load_model(f"random:{run}", device), load_model(str(run), device)
        return after.pretext or untrained(config, weights=False), {"random weights": before, "trained": after}
    before, after = untrained(config, weights=False), untrained(config, weights=False)
    state = run.load_checkpoint()
    if state is None:
        return after, {}
    weights = state.get("average") or state["pretext"]
    weights = {k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"}
    load_into(after, weights, f"The newest checkpoint of {run}")
    models = {}
    for name, network in (("random weights", before), (f"after {state['step']} steps", after)):
        network.to(device).eval()
        models[name] = Model(name, network.exported(), network.view, {}, device, network)
    return after, models


def _videos(run: Run, config: PretrainConfig, options: ReportOptions, pretext: Pretext) -> Shown:
    """The videos of the run, as it chose them, or others."""
    pretext.train()  # it samples as it did in training
    if options.data is not None:
        return _other_videos(config, options, pretext)
    lists = lists_of(run, config.data, pretext, silent, draws=0)
    if lists.held_out.videos:
        return Shown(lists.training, lists.training, lists.held_out, "held out from the training list")
    return _apart(lists.training, HELD_OUT, "a fraction of those trained on, since the run held none out")


def _other_videos(config: PretrainConfig, options: ReportOptions, pretext: Pretext) -> Shown:
    assert options.data is not None
    data = DataConfig(options.data, options.split)
    whole = chosen = choose_lists(replace(data, held_out=0.0), pretext, silent, draws=0).training
    test = load_splits(data.spec, data.split).test
    if test is not None:
        return Shown(chosen, whole, shown(test, data, pretext, True), f"the test list of {data.spec}")
    return _apart(chosen, config.data.held_out or HELD_OUT, f"a fraction of {data.spec}")


def _apart(videos: VideoSet, fraction: float, what: str) -> Shown:
    """Some of the videos as queries, among the others."""
    if len(videos.videos) < 2:
        return Shown(videos, videos, replace(videos, videos=()), "")
    gallery, queries = held_out(videos, fraction, seed=0)
    return Shown(videos, gallery, queries, what)


def progress_of(run: Run, chance: Mapping[str, float]) -> list[Block]:
    """Curves, last values and throughput, from its records alone."""
    records = run.records()
    if not records:
        return [Words("No step was noted yet.")]
    curves = io.BytesIO()
    draw_curves(curves, {run.folder.resolve().name: records}, chance)
    replaced = max(int(r.get("replaced", 0)) for r in records)
    blocks: list[Block] = [
        Words(f"{records[-1]['step']} steps are noted. {speed(records)} {replaced} videos were replaced by others."),
        Heading("Learning"),
        Picture("curves.png", curves.getvalue()),
        Table(("last value of", ""), last_values(records)),
    ]
    if any("feature_std" in r for r in records):
        blocks.append(
            Words(
                "`feature_std` near 0 or `effective_rank` near 1 means that the features collapse: all videos become "
                "the same point, or points on one line."
            )
        )
    return blocks


def samples_of(pretext: Pretext, videos: VideoSet, count: int, seed: int) -> list[Block]:
    """``count`` training samples of a pretext, each of another video. Raises UserError if the videos give none."""
    pretext.train()
    dataset = ClipDataset(videos, pretext, seed)
    chosen = np.unique(np.linspace(0, len(videos.videos) - 1, count).round().astype(int))
    blocks: list[Block] = []
    for place, number in enumerate(bar(chosen.tolist(), "samples", "video")):
        sample = dataset[0, number, 0]
        replaced = " (or of a video in its place)" if sample.pop("problems") else ""
        rows = [
            (strip.label, Picture(f"sample_{place + 1}_{row}.jpg", jpeg(strip.picture_HWC)))
            for row, strip in enumerate(strips(sample, pretext.label_words()), 1)
        ]
        if not rows:
            raise UserError(f"{type(pretext).__name__} gives no frames that could be shown.")
        blocks.append(Table((_name(videos.videos[number], videos) + replaced, ""), rows))
    return blocks


def neighbours_of(models: Mapping[str, Model], videos: Shown, options: ReportOptions) -> list[Block]:
    """The nearest videos of a few queries, by each of the models, and the retrieval numbers of all queries.

    Features and their standardisation are those of ``ssl-video evaluate retrieval``, of 4 clips a video. Raises
    UserError if no video can be read.
    """
    gallery, queries = _thin(videos.gallery), _thin(videos.queries)
    task = Task("", 1, gallery, queries, options.workers)
    ranked = {name: _rank(model, task) for name, model in models.items()}
    first = next(iter(ranked.values()))
    blocks: list[Block] = [
        Words(
            f"Queries: {len(first.queries)} ({videos.what}). Looked through: {len(first.gallery)}. The number at a "
            "neighbour is the cosine similarity."
            + (" A blue frame: the same class." if gallery.labelled else "")
            + (f" {first.unreadable} could not be read." if first.unreadable else "")
        )
    ]
    for m in np.unique(np.linspace(0, len(first.queries) - 1, options.queries).round().astype(int)).tolist():
        head = ("", *map(str, range(1, min(options.neighbours, len(first.gallery)) + 1)))
        video = first.queries[m]
        query = _thumbnail(video, f"query_{m}.jpg", _name(video, queries), (255, 255, 255))
        rows = [("query", query, *[""] * (len(head) - 2))]
        rows += [
            (name, *_nearest(found, m, options.neighbours, f"query_{m}_{row}", gallery))
            for row, (name, found) in enumerate(ranked.items(), 1)
        ]
        blocks.append(Table(head, rows))
    if first.recalls:
        rows = [
            (name, *(f"{value:.3f} ({between(wilson(value, len(found.queries)))})" for value in found.recalls.values()))
            for name, found in ranked.items()
        ]
        blocks.append(Table(("of all queries (95 % interval)", *first.recalls), rows))
    if len(first.queries) >= LEAST:
        blocks += [
            Words("The queries as each network sees them, placed by t-SNE: near each other lie those that look alike."),
            Picture("map.png", _map_of(ranked, queries)),
        ]
    return blocks


@dataclass(frozen=True)
class _Ranked:
    """Readable videos of both lists, their vectors of length 1, and recall at k where every video has one label."""

    gallery: list[Video]
    queries: list[Video]
    x_queries_MD: np.ndarray
    x_gallery_ND: np.ndarray
    recalls: dict[str, float]
    unreadable: int


def _rank(model: Model, task: Task) -> _Ranked:
    gallery, queries = train_and_test_features(model, task, Extraction(4, "rich"), calibrate=True)
    x_gallery, x_queries = (unit(x) for x in standardise(gallery.mean_ND, queries.mean_ND))
    recalls = {}
    if all(len(v.labels) == 1 for v in (*gallery.videos, *queries.videos)):
        recalls = retrieval.recall_at(x_queries, x_gallery, queries.labels_N, gallery.labels_N, (1, 5))
    unreadable = len(gallery.problems) + len(queries.problems)
    return _Ranked(gallery.videos, queries.videos, x_queries, x_gallery, recalls, unreadable)


def _map_of(ranked: Mapping[str, _Ranked], videos: VideoSet) -> bytes:
    """A PNG: the map of the queries by each of the networks, side by side."""
    picture, queries = io.BytesIO(), next(iter(ranked.values())).queries
    labels = tuple(", ".join(videos.classes[n] for n in v.labels) for v in queries)
    draw_maps(picture, {name: places_of(found.x_queries_MD, "tsne") for name, found in ranked.items()}, labels)
    return picture.getvalue()


def _nearest(found: _Ranked, m: int, neighbours: int, name: str, videos: VideoSet) -> list[Picture]:
    own, pictures = found.queries[m].labels, []
    (one,) = retrieval.neighbours(found.x_queries_MD[m : m + 1], found.x_gallery_ND, neighbours)
    for rank, (n, similarity) in enumerate(zip(one.rows_k.tolist(), one.similarities_k.tolist(), strict=True), 1):
        video = found.gallery[n]
        frame = SAME if own and video.labels == own else OTHER
        pictures.append(_thumbnail(video, f"{name}_{rank}.jpg", f"{similarity:.2f} {_name(video, videos)}", frame))
    return pictures


def _thumbnail(video: Video, name: str, caption: str, frame: tuple[int, int, int]) -> Picture:
    """The middle frame of a video, cut to a square, in a coloured frame; gray if it cannot be read any more."""
    try:
        if video.info.codec == FLOW_CODEC:  # the fields of a video that is shown itself
            picture_HWC = next(islice(iterate_frames(video.source), video.frames // 2, None))
        else:
            picture_HWC = read_video(video, [video.frames // 2])[0]
    except (VideoError, StopIteration):
        picture_HWC = np.full((SIDE, SIDE, 3), 128, np.uint8)
    picture_HWC = in_colours(crop(resize_short_side(np.array(picture_HWC)[None], SIDE), SIDE, None))[0]
    framed_HWC = np.full((SIDE + 8, SIDE + 8, 3), frame, np.uint8)
    framed_HWC[4:-4, 4:-4] = picture_HWC
    return Picture(name, jpeg(framed_HWC), caption)


def _thin(videos: VideoSet) -> VideoSet:
    step = -(-len(videos.videos) // AT_MOST)
    return VideoSet(videos.name, videos.videos[::step], videos.classes)


def _name(video: Video, videos: VideoSet) -> str:
    """The file's name and the names of its classes."""
    classes = ", ".join(videos.classes[i] for i in video.labels)
    return Path(video.source).name + (f" ({classes})" if classes else "")
