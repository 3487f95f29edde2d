"""The public verbs: ``import ssl_video as sv``, then ``sv.pretrain(...)``, ``sv.evaluate(...)`` and so on.

Each is a thin call of the room that does the work. A model may be a Run, a Model, or whatever
``load_model`` takes. Nothing is printed but warnings and, unless ``progress=False``, how far long work has come: bars
on a terminal and in a notebook, lines elsewhere (``logging.getLogger("ssl_video")``).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_video.apps.compare import Comparison, compare_runs
from ssl_video.apps.embedding import embed_frames, embed_videos
from ssl_video.apps.index_update import Work, index_videos
from ssl_video.apps.marks import Marks
from ssl_video.apps.options import IndexOptions, SearchOptions, TrackOptions
from ssl_video.apps.picking import Neighbour
from ssl_video.apps.search import Index
from ssl_video.apps.track import Tracked
from ssl_video.apps.track import track as track_marks
from ssl_video.errors import UserError
from ssl_video.eval.harness import EvaluationConfig, Reading, evaluate_on
from ssl_video.eval.results import Result
from ssl_video.model import Model, default_model, load_model
from ssl_video.model.default import Task
from ssl_video.pretrain_config import PretrainConfig, changed, continued, noted_by, recipe_of
from ssl_video.pretraining import Resume
from ssl_video.pretraining import pretrain as pretrain_by
from ssl_video.progress import showing
from ssl_video.run import Run

Named = Run | Model | str | Path
"""A model, or what names one."""


def pretrain(
    data: str | Path | PretrainConfig | None = None,
    pretext: str | None = None,
    *,
    recipe: str | None = None,
    init: str | Path | Run | None = None,
    out: str | Path | None = None,
    resume: Resume = False,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Train a backbone on videos without labels.

    ::

        run = sv.pretrain("videos", pretext="clip_order", out="run", steps=500, optim__lr=1e-3)

    Args:
        data: a folder, a file or a SPEC such as ``ucf101:ROOT``; or a whole configuration, with which the options that
            follow are not given. By default the recipe's, or the embedded set.
        pretext: a name of ``sv.list_pretexts()``; by default the recipe's, or speediness.
        recipe: where the options start: "small" (the default) or "paper", a name of ``sv.list_recipes()``, a file, or
            the folder of a run.
        init: weights to continue from, with their network: ``"clips"``, which comes with the package, a run, or a file.
        out: folder of the run; by default a new one under runs/.
        resume: resume the training in ``out``, if it has begun, with its own configuration; with "auto" the same call
            starts it, resumes it, or finds it finished.
        progress: show how far it has come.
        options: by the names of the command's flags, with ``__`` for a dot: ``steps=500``, ``pretext__frames=8``.

    Raises:
        UserError: if the videos, the options or the folder cannot serve.
        Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
    """
    if isinstance(data, PretrainConfig):
        if options or recipe is not None or pretext is not None or init is not None:
            raise UserError("A whole configuration has its options already; change them in it, or name data.")
        config = data
    else:
        before = Run(Path(out)) if resume is True and out is not None else None
        content = noted_by(before) if before is not None and before.started else recipe_of(pretext, recipe)
        given: dict[str, Any] = {} if data is None else {"data": str(data)}
        given |= {name.replace("__", "."): value for name, value in options.items()}
        given = given if init is None else continued(str(init), given)
        config = PretrainConfig.from_mapping(changed(content, given))
    with showing(progress):
        return pretrain_by(config, out, resume=resume, say=_warn, progress=progress)


def compare(*runs: Run | str | Path, out: str | Path | None = None) -> Comparison:
    """What differs between runs of pretraining or fine-tuning, in configuration and results; printed, it is a table.

    ::

        print(sv.compare("runs/a", "runs/b", out="curves.png"))

    With ``out`` the curves are drawn there, on one sheet. Raises UserError for what is no run.
    """
    return compare_runs(runs, out)


def evaluate(
    model: Named | None,
    protocol: str = "linear",
    *,
    data: str | Path,
    split: int = 1,
    preset: str = "default",
    seed: int = 0,
    workers: int = 2,
    folder: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    **options: Any,
) -> Result:
    """Measure what a network has learned.

    ::

        result = sv.evaluate(run, "linear", data="ucf101:UCF101")
        result.metrics["top1"], result.to_dict(), result.predictions

    Args:
        model: the network or an encoder, or what names it; None for a protocol that does without.
        protocol: a name of ``sv.list_protocols()``.
        data: videos with whatever the protocol needs; they are scanned.
        split: split of a data set with official lists.
        preset: a named set of the protocol's options.
        seed: of the protocol, and of the weights of ``random:NAME``.
        workers: reading processes.
        folder: where a protocol keeps what takes long, a fine-tuning for one, to resume from it; one that trains makes
            a folder under runs/.
        device: auto, cpu, cuda or cuda:N, for a model that is named.
        progress: show how far it has come.
        options: single options of the preset changed, with ``__`` for a dot.

    Raises:
        UserError: for a model or data that the protocol cannot use.
        Interrupted: if a training was stopped by a signal; its state is saved in ``folder``.
    """
    given = {name.replace("__", "."): value for name, value in options.items()}
    reading, kept = Reading(split, workers=workers, progress=progress), None if folder is None else Path(folder)
    config = EvaluationConfig(protocol, str(data), preset, given, (seed,), kept, device, reading)
    with showing(progress):
        (result,) = evaluate_on(str(model) if isinstance(model, Run) else model, config, _warn)
    return result


def embed(
    videos: Any,
    model: Named | None = None,
    *,
    clips: int = 8,
    readout: str = "avg",
    device: str = "auto",
    progress: bool = True,
) -> np.ndarray:
    """(N, D) one vector a video: the mean over its clips, float32.

    ::

        z = sv.embed(["a.mp4", "b.mp4"], model=run)

    Args:
        videos: a path or several; or frames at hand, uint8 or floats of RGB in 0 to 1: an array or tensor of shape
            (T, H, W, C) or (N, T, H, W, C), or several, of any lengths and sizes. They are normalised here.
        model: the network; by default net:clips, which comes with the package.
        clips: clips of a video, evenly spaced.
        readout: how a feature map becomes a vector: avg, max, rich, conv5, or cls.
        device: auto, cpu, cuda or cuda:N, for a model that is named.
        progress: show how far it has come.

    Raises:
        UserError: if a video cannot be read, or the frames are of another shape or range.
    """
    if isinstance(videos, str | Path):
        videos = [videos]
    with showing(progress):
        network = loaded(model, "clips", device)
        if isinstance(videos, Sequence) and videos and all(isinstance(v, str | Path) for v in videos):
            return embed_videos([Path(v) for v in videos], network, clips, readout)
        return embed_frames(videos, network, clips, readout)


def index(
    videos: str | Path | Sequence[str | Path],
    model: Named | None = None,
    out: str | Path = "index",
    *,
    options: IndexOptions = IndexOptions(),
    device: str = "auto",
    progress: bool = True,
) -> Index:
    """Make a search index of videos, or add them to the one in ``out``.

    ::

        index = sv.index("videos", model=run, out="index")
        for neighbour in index.search("a.mp4", k=5):
            print(neighbour.score, neighbour.path, neighbour.start_s)

    Without ``model`` an index that is there has its own, and a new one net:clips, which comes with the package.

    Raises:
        UserError: if nothing would be in it, or it is of another model.
    """
    with showing(progress):
        from ssl_video.train.distributed import choose_device

        network = None if model is None else loaded(model, "clips", device)
        work = Work(device=choose_device(device), progress=progress)
        return index_videos(videos, network, out, options, work)


def search(
    index: Index | str | Path | Sequence[str | Path],
    video: str | Path,
    k: int = 5,
    *,
    options: SearchOptions = SearchOptions(),
    model: Named | None = None,
    progress: bool = True,
) -> list[Neighbour]:
    """The ``k`` videos of an index that are nearest to a video, or to a range of it such as ``a.mp4@12.5-15``.

    ::

        neighbours = sv.search("index", "a.mp4", k=5)
        neighbours = sv.search(["part-1", "part-2"], "a.mp4", k=5)  # the same as of one index of all

    ``model`` is the one that made the index, if it is not any more where it was. Raises UserError.
    """
    if not isinstance(index, Index):
        index = Index(index, str(model) if isinstance(model, Run) else model)
    with showing(progress):
        return index.search(video, k, moments=options.moments, rerank=options.rerank, nprobe=options.nprobe)


def track(
    video: str | Path,
    model: Named | None = None,
    out: str | Path = "tracked",
    *,
    mask: str | Path | None = None,
    boxes: Sequence[Sequence[float]] = (),
    points: Sequence[Sequence[float]] = (),
    options: TrackOptions = TrackOptions(),
    progress: bool = True,
) -> Tracked:
    """Carry objects or points of a video's first frame to its other frames.

    ::

        tracked = sv.track("a.mp4", model=run, out="tracked", points=[(120, 80)])

    Args:
        video: a file, or a folder with a picture for each frame.
        model: a network with a fine map of single frames; by default net:dense, which comes with the package.
        out: a folder that is empty or not there yet.
        mask: a picture of the objects in the first frame.
        boxes: x, y, width and height of objects, in pixels from the top left.
        points: x and y of points, likewise.
        options: see ``ssl_video.apps.options.TrackOptions``.
        progress: show how far it has come.

    Raises:
        UserError: if anything of this does not fit, or the video cannot be read.
    """
    marks = Marks(None if mask is None else Path(mask), _numbers(boxes), _numbers(points))
    with showing(progress):
        return track_marks(video, loaded(model, "dense"), marks, out, options, progress=progress)


def loaded(model: Named | None, task: Task, device: str = "auto") -> Model:
    """The model, or the one that serves for a task where none is named. Raises UserError."""
    from ssl_video.train.distributed import choose_device

    if isinstance(model, Model):
        return model
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a random network is the same one each time
        if model is None:
            return default_model(task, choose_device(device))
        return load_model(str(model), choose_device(device))


def _numbers(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in rows)


def _warn(line: str) -> None:
    """Of what is said, only what should not go unheard."""
    if line.startswith("warning: "):
        warnings.warn(line.removeprefix("warning: "), stacklevel=3)
