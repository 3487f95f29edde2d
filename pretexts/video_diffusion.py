"""Video diffusion (Lumiere): take the noise out of a clip, all of its frames at once.

O. Bar-Tal, H. Chefer, O. Tov, C. Herrmann et al.: "Lumiere: A Space-Time Diffusion Model for Video Generation",
SIGGRAPH Asia 2024. What is learned can draw videos: from nothing, from a text, or around what is given of them. First
a network of images is trained, ``backbone.temporal=false`` on single frames, then what was put in for video.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Count, Fraction, NotNegative, Positive
from ssl_video.capabilities import Condition, Conditions, Denoises, Sampling, Text
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View
from ssl_video.pretexts.denoising import Way, as_frames, denoiser, followed, noised, normal, outcome
from ssl_video.pretexts.diffusion_core import RIGHT, floors, mixed
from ssl_video.pretexts.given import TASKS, mask
from ssl_video.pretexts.text_encoder import TextEncoder
from ssl_video.pretexts.texts import LONGEST, as_bytes, captions_of, numbered, unreadable, words_of


@dataclass(frozen=True)
class VideoDiffusionConfig(Bounded):
    """Options of video diffusion, with the paper's frames and size as defaults; it publishes no others."""

    frames: Count = 80
    """Frames of a clip; 1 trains a network of images."""
    stride: Count = 1
    """Every stride-th frame of the file."""
    short_side: Count = 128
    """The frames' shorter side before the crop, in pixels."""
    size: Count = 128
    """Side of the square that is cut out, in pixels."""
    unconditional: NotNegative = 1.0
    """Share of the clips of which nothing is given; as all shares, over the sum of these."""
    first_frame: NotNegative = 0.0
    """Share of the clips whose first frame is given."""
    inpainting: NotNegative = 0.0
    """Share of the clips of which all is given but a box that moves."""
    cinemagraph: NotNegative = 0.0
    """Share of the clips of which the first frame is given, and of the others all but a box."""
    between: NotNegative = 0.0
    """Share of the clips whose every ``every``-th frame is given."""
    every: Count = 8
    """From one given frame to the next (between)."""
    captions: bool = False
    """Learn from the captions of the videos, which are supervision; a video without one is left out."""
    encoder: str = ""
    """Folder of a text encoder of transformers that reads the captions; without, their words are learned."""
    dropped: Fraction = 0.1
    """Fraction of the captions that are left out, so that guidance can compare."""
    freeze_spatial: bool = False
    """Keep what the network of images has (--backbone.weights) as it is, and train what was added for video."""
    shift: Positive = 1.0
    """How much larger the frames are than those of even noise; above 1 there is more noise in training."""
    even: Fraction = 0.0
    """Fraction of the clips with even noise whatever the shift, so that little noise is learned as well."""

    def __post_init__(self):
        super().__post_init__()
        if not sum(self.shares):
            raise UserError(f"No task has a share; give one of {', '.join(TASKS)} a number above 0.")
        if self.encoder and not self.captions:
            raise UserError("An encoder reads captions; add --pretext.captions, or leave --pretext.encoder out.")

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the tasks, in their order."""
        return tuple(getattr(self, task) for task in TASKS)


@PRETEXTS.register("video_diffusion")
class VideoDiffusion(Pretext):
    """Video diffusion (Lumiere, 2024): take the noise out of a whole clip, and draw videos by it."""

    Config = VideoDiffusionConfig
    config: VideoDiffusionConfig
    span_limits = (("stride", 1), ("frames", 8))
    fitted = ("backbone.network.mid.text.letters_WL",)

    def __init__(self, config: VideoDiffusionConfig, backbone: Backbone):
        super().__init__(config, backbone)
        network = denoiser(None, backbone, "video_diffusion")
        if network.low_resolution:
            raise UserError("video_diffusion is shown no other clip; leave --backbone.low-resolution out.")
        if config.encoder and network.text_dim != self.encoder.dim:
            raise UserError(
                f"The encoder {config.encoder} has states of {self.encoder.dim} channels; use --backbone.text-dim "
                f"{self.encoder.dim}."
            )
        if config.freeze_spatial:
            for name, parameter in backbone.network.named_parameters():
                if network.part_of[name] == "spatial":
                    parameter.requires_grad_(False)
            if not any(p.requires_grad and network.part_of[n] == "temporal" for n, p in named(network)):
                raise UserError("freeze_spatial trains what --backbone.temporal false leaves out; drop one of the two.")

    @cached_property
    def encoder(self) -> TextEncoder:
        """That of the option."""
        return TextEncoder(self.config.encoder)

    @property
    def supervision(self) -> str:
        """Captions, where they are read, or were by the network that it started from."""
        known = denoiser(None, self.backbone, "video_diffusion").vocabulary
        return "captions" if self.config.captions or known else ""

    @property
    def view(self) -> View:
        """A clip, whole."""
        c = self.config
        return View(c.frames, c.stride, c.short_side, c.size)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A clip from a random frame on."""
        caption = video.caption if self.config.captions else ""
        if not caption and self.config.captions:
            return Skip("has no caption", "give them captions, or leave --pretext.captions out")
        if len((caption or "").encode()) > LONGEST:
            return Skip(f"has a caption longer than {LONGEST} bytes", "write shorter ones")
        if caption and not self.config.encoder and (reason := unreadable(caption)):
            return Skip(reason, "write shorter ones")
        frames_T = self.view.draw(video, rng)
        if isinstance(frames_T, Skip):
            return frames_T
        return Sample(tuple(frames_T.tolist()), {"caption": caption}, each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray | None:
        """As a clip spans; with captions only a look at each video can tell."""
        return None if self.config.captions else self.view.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """A square at a random place, mirrored in half of the clips (not with captions, which may say left and right).

        At test the centre, and nothing is given, unless nothing always was.
        """
        c = self.config
        clip_THWC = self.view.prepare(frames_THWC, rng if self.training else None, flip=not c.captions)
        batch: dict[str, Any] = {"clip_THWC": clip_THWC}
        if self.trained_for != {"unconditional"}:
            task = str(rng.choice(TASKS, p=np.array(c.shares) / sum(c.shares)))
            task = task if self.training or not c.unconditional else "unconditional"
            batch["mask_THW"] = mask(task, clip_THWC.shape[:3], c.every, rng)
        if c.captions:
            batch["caption_L"] = as_bytes(sample.data["caption"])
        return batch

    def fit(self, samples: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> None:
        """Every word of the captions gets a number.

        Raises UserError if the network has fewer places, or if it is to keep what it never got from one of images.
        """
        if self.config.freeze_spatial and not self.backbone.provenance.weights_report:
            raise UserError(
                "freeze_spatial keeps what a network of images has learned; name its run by --backbone.weights "
                "IMAGES/backbone.safetensors, or leave the option out."
            )
        if self.config.captions and not self.config.encoder:
            captions = [caption for sample in samples for caption in captions_of(sample["caption_L"])]
            words = sorted({word for caption in captions for word in words_of(caption)})
            denoiser(None, self.backbone, "video_diffusion").learn_words(tuple(words))

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Mean squared error of the velocity, at all pixels.

        Beside it the losses by noise (``loss_1`` to ``loss_8``) and what it is to be compared with where nothing is
        given and angles are even, as they always are at test: ``pixel_std`` and ``spectral_floor``, see
        ``diffusion_core.floors``.
        """
        clip_BCTHW = self.backbone.normalise(batch["clip_THWC"])
        shift = self.config.shift if self.training else 1.0
        there = noised(clip_BCTHW, ctx, shift, self.config.even)
        given = ()
        if "mask_THW" in batch:
            mask_B1THW = batch["mask_THW"][:, None].to(clip_BCTHW)
            given = (clip_BCTHW * mask_B1THW, mask_B1THW)
        text = None
        if "caption_L" in batch:
            text = self.read(captions_of(batch["caption_L"]), clip_BCTHW.device, strict=False)
            if self.training:
                text = text.without(ctx.uniform(len(clip_BCTHW)) < self.config.dropped)
        network = denoiser(None, self.backbone, "video_diffusion")
        output = outcome(*network.denoise(there.x_t, Condition(there.theta_B, *given, text=text)), there, ctx)
        if shift == 1:
            output.metrics |= dict(zip(("pixel_std", "spectral_floor"), floors(clip_BCTHW), strict=True))
        return output

    def read(self, texts: list[str], device: torch.device, strict: bool = True) -> Text:
        """Texts as the network reads them.

        Raises UserError for a word that it does not know; without ``strict``, as for the captions of videos that are
        held out, it is passed over.
        """
        if self.config.encoder:
            return self.encoder.states(texts, device)
        return numbered(texts, self.vocabulary, device, strict)

    @property
    def trained_for(self) -> frozenset[str]:
        """The tasks that have a share."""
        return frozenset(task for task, share in zip(TASKS, self.config.shares, strict=True) if share)

    @property
    def takes_text(self) -> bool:
        """True if it was trained with captions."""
        return self.config.captions

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that it knows; empty where it knows none, or reads any by an encoder."""
        known = denoiser(None, self.backbone, "video_diffusion").vocabulary
        return known if self.takes_text and not self.config.encoder else ()

    @torch.no_grad()
    def generate(
        self,
        shape_BTHW: tuple[int, int, int, int],
        conditions: Conditions,
        sampling: Sampling,
        generator: torch.Generator,
        network: nn.Module | None = None,
    ) -> Tensor:
        """(B, T, H, W, 3) uint8 videos, see ``capabilities.Generates``. Raises UserError."""
        self._check(shape_BTHW, conditions)
        if conditions.start_BTHWC is not None and conditions.strength == 0:
            return conditions.start_BTHWC.clone()
        own = next(self.backbone.parameters())
        B, c, start, given = shape_BTHW[0], self.config, RIGHT, ()
        x_t = normal((B, 3, *shape_BTHW[1:]), generator, own)
        if conditions.start_BTHWC is not None:
            start = RIGHT * conditions.strength
            x_t = mixed(self.backbone.normalise(conditions.start_BTHWC.to(own.device)), x_t, start)[0]
        if conditions.given_BTHWC is not None and conditions.mask_BTHW is not None:
            mask_B1THW = conditions.mask_BTHW[:, None].to(own)
            given = (self.backbone.normalise(conditions.given_BTHWC.to(own.device)) * mask_B1THW, mask_B1THW)
        text = None if conditions.texts is None else self.read(list(conditions.texts), own.device)
        told = Condition(torch.zeros(B), *given, text=text)
        by = denoiser(network, self.backbone, "video_diffusion")
        clip_BCTHW = followed(by, told, Way(x_t, start, generator), sampling, (c.frames, c.size, c.size))
        frames_BTHWC = as_frames(clip_BCTHW)
        if conditions.given_BTHWC is None or conditions.mask_BTHW is None or not conditions.pasted:
            return frames_BTHWC
        known_BTHW1 = conditions.mask_BTHW.to(own.device)[..., None]
        return torch.where(known_BTHW1, conditions.given_BTHWC.to(own.device), frames_BTHWC)

    def _check(self, shape_BTHW: tuple[int, int, int, int], conditions: Conditions) -> None:
        """Raise UserError for what cannot be asked of this network."""
        c = conditions
        if not 0 <= c.strength <= 1:
            raise UserError(f"A strength is from 0 (as it was) to 1 (all new), not {c.strength:g}.")
        if c.texts is not None and not self.takes_text:
            raise UserError(
                "This run was trained without captions, so it takes no text; train with --pretext.captions."
            )
        if c.texts is not None and len(c.texts) != shape_BTHW[0]:
            raise UserError(f"{shape_BTHW[0]} videos need as many texts, not {len(c.texts)}.")
        if (c.given_BTHWC is None) != (c.mask_BTHW is None):
            raise UserError("What is given of a video needs a mask that says where, and a mask needs what is given.")
        if c.given_BTHWC is not None and self.trained_for == {"unconditional"}:
            raise UserError(
                "This run was trained with nothing given; train with a share of another task, --pretext.first-frame 1, "
                "say."
            )
        for what, frames in (("given", c.given_BTHWC), ("masked", c.mask_BTHW), ("to start from", c.start_BTHWC)):
            if frames is not None and tuple(frames.shape[:4]) != tuple(shape_BTHW):
                asked, found = (" x ".join(map(str, s)) for s in (shape_BTHW, frames.shape[:4]))
                raise UserError(f"What is {what} is of {found} (videos, frames, height, width), not of {asked}.")


def named(network: Denoises) -> list[tuple[str, nn.Parameter]]:
    """Parameters by name."""
    assert isinstance(network, nn.Module)
    return list(network.named_parameters())
