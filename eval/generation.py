"""Generation: how near drawn videos are to real ones, how they move, what of the text they show, and what is copied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from ssl_video.bounds import Bounded, Bounds, Count, NotNegative
from ssl_video.capabilities import Generates, Sampling
from ssl_video.datasets.drawing.prompts import Prompt, prompt_of
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import all_videos, scanned
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, FeatureTask, Outcome, Task
from ssl_video.eval.clip_motion import Motion, flow_distance, motion_of, spectrum_distance
from ssl_video.eval.copies import judged, nearest
from ssl_video.eval.distances import Axes, frechet, mmd
from ssl_video.eval.generated import Clips, clips_of, drawn, features_of, frozen, noise, pieces, shuffled
from ssl_video.eval.pretext import PretextConfig, check_loss, measured
from ssl_video.eval.prompt_accuracy import of_clips
from ssl_video.eval.takes import Takes, Videos, check_two_lists
from ssl_video.model import Model, load_model
from ssl_video.train.data import usable
from ssl_video.video.view import View


@dataclass(frozen=True)
class TwoLists(Videos):
    """A training and a test list, with or without labels."""

    def check(self, protocol: str, task: Task | FeatureTask) -> None:
        """Raise UserError if there is one list only, or features without videos."""
        super().check(protocol, task)
        check_two_lists(protocol, task)


@dataclass(frozen=True)
class GenerationConfig(Bounded):
    """Options of the evaluation of drawn videos."""

    features: str = "net:clips"
    """The network in whose features clips are compared, one of ours; numbers of two networks cannot be compared."""
    images: str = ""
    """A run that draws single frames: its frames, one behind the other, are a rung of the ladder."""
    videos: str = ""
    """SPEC of videos that are measured in the place of what the model draws; then no model is needed."""
    clips: Annotated[int, Bounds(least=4)] = 500
    """Clips of each kind; a few hundred at least for distances that say something."""
    steps: Count = 25
    """Steps from noise to video."""
    guidance: NotNegative = 1.0
    """How far beyond what the text alone would give, see Sampling."""
    loss_clips: Count = 4
    """Samples of each test video for the model's own loss."""


@dataclass(frozen=True)
class Measured:
    """What takes part: the view of all clips, reference clips of the training list, and rungs of the ladder by name."""

    view: View
    reference: Clips
    test: Clips
    rungs: Mapping[str, np.ndarray]


@EVALUATIONS.register("generation")
class Generation(Evaluation[GenerationConfig]):
    """Distances, motion, prompt accuracy and copies of the videos that a network draws, beside those of real ones.

    Every distance is that of a kind of clips (a rung) from clips of the training list. ``test`` are clips of the test
    list: what is real has that distance. ``frozen`` and ``shuffled`` are test clips without motion and order.
    """

    Config = GenerationConfig
    presets: ClassVar = {"default": GenerationConfig()}
    takes: ClassVar[Takes] = TwoLists()
    takes_model: ClassVar = "optional"

    def measure(self, model: Model | None, task: Task, config: GenerationConfig, seed: int) -> Outcome:
        """``seed`` draws noise and chooses clips; no label is used."""
        if model is None and not config.videos:
            raise UserError("generation needs a run that draws videos (--model), or videos by --option videos=SPEC.")
        network = load_model(config.features, "cpu" if model is None else model.device)
        if model is not None:
            model.check_weights()
            if not config.videos:
                model.need(Generates)
        view = network.view if model is None else model.view
        if view.frames < 2:
            raise UserError("generation measures clips, and this model draws single frames; name it by images=RUN.")
        there, asked, trained_on = self._clips(model, task, config, view, seed)
        metrics = distances(network, there) | motions(there) | copied(there, task)
        if asked is not None:
            metrics |= of_clips(list(there.rungs["generated"]), asked)
        if model is not None:
            metrics |= own_loss(model, task, config, seed)
        counts = {"clips": len(there.rungs["generated"]), "reference": len(there.reference.videos)}
        counts["axes"] = int(metrics.pop("axes"))
        counts |= {"train": len(task.train.videos), "test": len(task.test.videos) if task.test else 0}
        problems = [*there.reference.problems, *there.test.problems]
        return Outcome(metrics, counts, problems, trained_on=network.trained_on | trained_on)

    def _clips(
        self, model: Model | None, task: Task, config: GenerationConfig, view: View, seed: int
    ) -> tuple[Measured, list[Prompt] | None, frozenset[str]]:
        """All clips, what the generated ones were asked to show, and on what the model of the images was trained."""
        assert task.test is not None  # TwoLists
        reference, test = (clips_of(videos, view, config.clips, seed) for videos in (task.train, task.test))
        captions, trained_on = test.captions, frozenset[str]()
        sampling = Sampling(config.steps, config.guidance)
        texts = [c for c in captions if c]
        count = config.clips
        rungs = {"test": test.clips_NTHWC}
        if config.videos:
            given = clips_of(scanned(all_videos(config.videos)), view, count, seed)
            rungs["generated"], captions = given.clips_NTHWC, given.captions
        else:
            assert model is not None
            texts = texts if model.need(Generates).takes_text and len(texts) == len(captions) else None
            rungs["generated"] = drawn(model, len(captions) if texts else count, texts, sampling, seed)
            captions = texts or ()
        rungs |= {"frozen": frozen(test.clips_NTHWC), "shuffled": shuffled(test.clips_NTHWC, seed)}
        if config.images:
            images = load_model(config.images, "cpu" if model is None else model.device)
            rungs["images"] = unordered(images, view, count, sampling, seed)
            trained_on = images.trained_on
        rungs["noise"] = noise(test.clips_NTHWC, seed)
        return Measured(view, reference, test, rungs), prompts_of(captions), trained_on


def unordered(images: Model, view: View, count: int, sampling: Sampling, seed: int) -> np.ndarray:
    """``count`` clips of frames that a network draws one by one. Raises UserError for one of clips or another size."""
    if (images.view.frames, images.view.size) != (1, view.size):
        raise UserError(
            f"images={images.name} draws {images.view.frames} frames of {images.view.size} pixels at a time, where "
            f"single frames of {view.size} pixels are needed; train a run with --pretext.frames 1."
        )
    frames_NHWC = drawn(images, count * view.frames, None, sampling, seed)[:, 0]
    return frames_NHWC.reshape(count, view.frames, *frames_NHWC.shape[1:])


def prompts_of(captions: tuple[str | None, ...] | list[str]) -> list[Prompt] | None:
    """What captions of the drawn kind ``prompts`` say; None if there are none, or one says something else."""
    try:
        return [prompt_of(caption or "") for caption in captions] or None
    except UserError:
        return None


def distances(network: Model, there: Measured) -> dict[str, float]:
    """Frechet distance and MMD of every rung from the reference, and whether the ladder is in order."""
    reference_ND = features_of(network, there.reference.clips_NTHWC)
    axes = Axes.of(reference_ND)
    real_NK = axes.of_features(reference_ND)
    rungs = {name: axes.of_features(features_of(network, clips)) for name, clips in there.rungs.items()}
    of_gaussians = {name: frechet(x_NK, real_NK) for name, x_NK in rungs.items()}
    metrics = {f"frechet of {name}": value for name, value in of_gaussians.items()}
    metrics |= {f"mmd of {name}": mmd(x_NK, real_NK) for name, x_NK in rungs.items()}
    ladder = [of_gaussians[name] for name in ("test", "generated", "images", "noise") if name in of_gaussians]
    return metrics | {"ladder in order": float(ladder == sorted(ladder)), "axes": float(real_NK.shape[1])}


def motions(there: Measured) -> dict[str, float]:
    """How every rung moves beside the reference: distances of flow and spectrum, and the ratio of warp errors."""
    real = motion_of(there.reference.clips_NTHWC)
    metrics: dict[str, float] = {}
    for name, clips_NTHWC in there.rungs.items():
        motion: Motion = motion_of(clips_NTHWC)
        metrics[f"flow distance of {name}"] = flow_distance(motion, real)
        metrics[f"warp error of {name}"] = motion.warp_error / max(real.warp_error, 1e-9)
        metrics[f"spectrum distance of {name}"] = spectrum_distance(motion, real)
    return metrics


def copied(there: Measured, task: Task) -> dict[str, float]:
    """How near generated clips are to training videos, beside test clips; {} where no video is as long as a clip."""
    view, clips = there.view, (there.rungs["generated"], there.rungs["test"])
    if view.fps is not None:  # the distance of frames differs from video to video
        return {}
    found = nearest(np.concatenate(clips), pieces(task.train, view), stride=view.stride)
    distance_N, of_test_M = np.split(found.distance_N, [len(clips[0])])
    if not np.isfinite(found.distance_N).all():
        return {}
    copies = judged(distance_N, of_test_M)
    return {
        "distance to training clips": float(np.median(distance_N)),
        "distance of test clips": float(np.median(of_test_M)),
        "distance ratio": copies.ratio,
        "share nearer than test clips": copies.share,
        "flagged as copies": float(copies.flagged),
    }


def own_loss(model: Model, task: Task, config: GenerationConfig, seed: int) -> dict[str, float]:
    """The model's loss on the test list by noise, beside its floors, where its pretext has such; {} without one."""
    if model.pretext is None or task.test is None:
        return {}
    pretext = model.pretext.eval()
    videos = usable(for_modality(task.test, model.backbone.clip.modality, reversed=False), pretext)
    numbers, _ = measured(pretext, videos, model.device, PretextConfig(config.loss_clips), seed, task.workers)
    check_loss(model.name, numbers)
    return numbers
