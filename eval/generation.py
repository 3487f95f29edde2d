"""Generation: how near drawn videos are to real ones, how they move, what of the text they show, and what is copied."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from ssl_video.bounds import Bounded, Bounds, Count, NotNegative
from ssl_video.capabilities import Generates, Sampling
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.drawing.prompts import Prompt, prompt_of
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import all_videos, scanned
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, FeatureTask, Outcome, Task
from ssl_video.eval.clip_motion import flow_distance, motion_of, spectrum_distance
from ssl_video.eval.copies import judged, nearest
from ssl_video.eval.distances import Axes, frechet, mmd
from ssl_video.eval.generated import Clips, clips_of, drawn, features_of, frozen, noise, pieces, shuffled
from ssl_video.eval.pretext import PretextConfig, check_loss, measured
from ssl_video.eval.prompt_accuracy import of_clips
from ssl_video.eval.takes import Takes, Videos, check_two_lists
from ssl_video.model import Model, load_model
from ssl_video.pretexts.texts import words_of
from ssl_video.progress import announce
from ssl_video.train.data import usable
from ssl_video.train.distributed import Ranks
from ssl_video.video.view import View

ORDER = ("test", "generated", "images", "noise")
"""Kinds of clips, the nearest to real ones first, if a network draws well and the features are good."""


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

    features: tuple[str, ...] = ("net:clips", "net:dense")
    """Networks in whose features clips are compared, ours: one that looks at motion, and one that looks at frames.
    Numbers of other networks cannot be compared with theirs."""
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


Ladder = Mapping[str, Callable[[], np.ndarray]]
"""Kinds of clips by name, each made when it is measured."""


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
        networks = [load_model(name, "cpu" if model is None else model.device) for name in config.features if name]
        if not networks:
            raise UserError("generation compares clips by the features of networks; name one by features=NAME.")
        if model is not None:
            model.check_weights()
            if not config.videos:
                model.need(Generates)
        view = networks[0].view if model is None else model.view
        if view.frames < 2:
            raise UserError("generation measures clips, and this model draws single frames; name it by images=RUN.")
        assert task.test is not None  # TwoLists
        reference, test = (clips_of(videos, view, config.clips, seed) for videos in (task.train, task.test))
        images = load_model(config.images, networks[0].device) if config.images else None
        if images is not None:
            check_single_frames(images, view)
        loss = {} if model is None else own_loss(model, task, config, seed)
        generated = self._generated(model, test, config, view, seed)
        real_NTHWC = test.clips_NTHWC
        ladder: dict[str, Callable[[], np.ndarray]] = {
            "test": lambda: real_NTHWC,
            "generated": lambda: generated.clips_NTHWC,
            "frozen": lambda: frozen(real_NTHWC),
            "shuffled": lambda: shuffled(real_NTHWC, seed),
            "noise": lambda: noise(real_NTHWC, seed),
        }
        if images is not None:
            ladder["images"] = lambda: unordered(images, test, config, view, seed)
        metrics = compared(networks, reference.clips_NTHWC, ladder)
        metrics |= copied(generated.clips_NTHWC, real_NTHWC, task.train, view)
        if (asked := prompts_of(generated.captions)) is not None:
            metrics |= of_clips(generated.clips_NTHWC, asked)
        metrics |= loss
        counts = {"clips": len(generated.clips_NTHWC), "reference": len(reference.videos)}
        counts |= {"train": len(task.train.videos), "test": len(task.test.videos)}
        trained_on = frozenset().union(*(used.trained_on for used in (*networks, images) if used is not None))
        problems = [*reference.problems, *test.problems, *generated.problems]
        return Outcome(metrics, counts, problems, trained_on=trained_on)

    def _generated(self, model: Model | None, test: Clips, config: GenerationConfig, view: View, seed: int) -> Clips:
        """What is measured, with the captions that it was to show."""
        if config.videos:
            return clips_of(scanned(all_videos(config.videos)), view, config.clips, seed)
        assert model is not None
        sampling = Sampling(config.steps, config.guidance)
        if (texts := texts_for(model, test)) is not None:
            return Clips(drawn(model, len(texts), texts, sampling, seed), test.captions)
        return Clips(drawn(model, config.clips, None, sampling, seed), ())


def texts_for(model: Model, test: Clips) -> list[str] | None:
    """The captions of all the clips, for a model that takes text; None if it takes none, or one is missing.

    Of a model with a vocabulary the words that it knows.
    """
    by, texts = model.need(Generates), [caption for caption in test.captions if caption]
    if not by.takes_text or len(texts) < len(test.captions):
        return None
    known = set(by.vocabulary)
    return [" ".join(word for word in words_of(text) if word in known) for text in texts] if known else texts


def check_single_frames(images: Model, view: View) -> None:
    """Raise UserError if a network draws clips, or another size."""
    if (images.view.frames, images.view.size) != (1, view.size):
        raise UserError(
            f"images={images.name} draws {images.view.frames} frames of {images.view.size} pixels at a time, where "
            f"single frames of {view.size} pixels are needed; train a run with --pretext.frames 1."
        )


def unordered(images: Model, test: Clips, config: GenerationConfig, view: View, seed: int) -> np.ndarray:
    """Clips of frames that a network draws one by one, of the captions of the test clips if it takes text."""
    sampling = Sampling(config.steps, config.guidance)
    texts = texts_for(images, test)
    count = config.clips if texts is None else len(texts)
    each = None if texts is None else [text for text in texts for _ in range(view.frames)]
    frames_NHWC = drawn(images, count * view.frames, each, sampling, seed)[:, 0]
    return frames_NHWC.reshape(count, view.frames, *frames_NHWC.shape[1:])


def prompts_of(captions: Sequence[str | None]) -> list[Prompt] | None:
    """What captions of the drawn kind ``prompts`` say; None if there are none, or one says something else."""
    try:
        return [prompt_of(caption or "") for caption in captions] or None
    except UserError:
        return None


def compared(networks: Sequence[Model], reference_NTHWC: np.ndarray, ladder: Ladder) -> dict[str, float]:
    """Distances of every kind of clips from the reference, by features and motion, and whether they are in order."""
    reference_ND, moving = features_of(networks, reference_NTHWC), motion_of(reference_NTHWC)
    axes = Axes.of(reference_ND)
    real_NK = axes.of_features(reference_ND)
    metrics: dict[str, float] = {}
    for name, make in ladder.items():
        clips_NTHWC = make()
        x_NK, motion = axes.of_features(features_of(networks, clips_NTHWC)), motion_of(clips_NTHWC)
        metrics[f"frechet of {name}"] = frechet(x_NK, real_NK)
        metrics[f"mmd of {name}"] = mmd(x_NK, real_NK)
        metrics[f"flow distance of {name}"] = flow_distance(motion, moving)
        metrics[f"warp error of {name}"] = motion.warp_error / max(moving.warp_error, 1e-9)
        metrics[f"spectrum distance of {name}"] = spectrum_distance(motion, moving)
    rungs = [metrics[f"frechet of {name}"] for name in ORDER if name in ladder]
    return metrics | {"ladder in order": float(rungs == sorted(rungs))}


def copied(generated_NTHWC: np.ndarray, test_MTHWC: np.ndarray, training: VideoSet, view: View) -> dict[str, float]:
    """How near generated clips are to training videos, beside test clips; {} where no video is as long as a clip."""
    if view.fps is not None:  # the distance of frames differs from video to video
        return {}
    both = np.concatenate((generated_NTHWC, test_MTHWC))
    found = nearest(both, pieces(training, view), stride=view.stride)
    distance_N, of_test_M = np.split(found.distance_N, [len(generated_NTHWC)])
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
    """The loss of the network that draws, on the test list, by noise and beside its floors.

    {} without a pretext, or where the list has nothing that this pretext can be shown: captions, say.
    """
    if model.pretext is None or task.test is None:
        return {}
    pretext = copy.deepcopy(model.pretext).eval()
    pretext.backbone.load_state_dict(model.backbone.state_dict())  # a moving average, say: that is what draws
    try:
        videos = usable(for_modality(task.test, model.backbone.clip.modality, reversed=False), pretext)
    except UserError as error:
        announce(f"The loss of {model.name} is left out. {error}")
        return {}
    numbers, _ = measured(
        pretext, videos, Ranks(device=model.device), PretextConfig(config.loss_clips), seed, task.workers
    )
    check_loss(model.name, numbers)
    return numbers
