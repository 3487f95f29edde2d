"""Colorization: what colour does this gray pixel have, if it may only be copied from earlier frames?

C. Vondrick, A. Shrivastava, A. Fathi, S. Guadarrama, K. Murphy: "Tracking Emerges by Colorizing Videos", ECCV 2018.

Three reference frames and a target frame are shown in gray. Every place of the target points at the places of the
references (eq. 2) and gets the colours that lie where it points (eq. 1). To copy the right colour it has to point at
the thing that it shows, so that the pointer tracks.

``lab_dropout`` trains as Z. Lai, E. Lu, W. Xie: "MAST: A Memory-Augmented Self-Supervised Tracker", CVPR 2020 instead:
the network sees Lab, of which a or b is left out, and what was left out is copied and compared as a number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, NotNegative, Positive
from ssl_video.constants import constant
from ssl_video.datasets.base import Video
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Redraw, Sample, Skip, View, place
from ssl_video.video import augment
from ssl_video.video.colours import in_colours, rgb_to_lab

TEST_TEMPERATURE = 0.5
STRIDE = 8
POINTS = 50_000
"""Colours of cells, at most, that the clusters are fitted on."""


@dataclass(frozen=True)
class ColorizationConfig(Bounded):
    """Options of colorization, with the paper's values as defaults."""

    references: Count = 3
    """N, the frames before the target from which colours are copied."""
    fps: Positive = 6.0
    """Frames a second of the file that are taken."""
    colours: Annotated[int, Bounds(least=2)] = 16
    """K, the clusters of colours."""
    fit_videos: Count = 256
    """Training videos, at most, that the clusters are fitted on; ours."""
    embedding: Count = 64
    """D, the channels of an embedding."""
    dilations: tuple[Count, ...] = (1, 2, 4, 8, 16)
    """Spatial dilation of each 3D convolution of the head, in cells; without any, the head is a 1x1 convolution."""
    channels: Count = 256
    """Channels between the 3D convolutions."""
    location: bool = True
    """Append x and y of each cell to the features that the head gets."""
    temperature: Positive = 1.0
    """Inner products are divided by it in training (by 0.5 at test)."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 256
    """Side of the square cut out of the frames, in pixels."""
    min_colour: NotNegative = 1.0
    """Frames whose ab values spread less than this (in Lab units) count as colourless and are not used; ours."""
    lab_dropout: bool = False
    """MAST's training: show Lab with a or b left out, and regress what was left out."""


@PRETEXTS.register("colorization")
class Colorization(Pretext):
    """Colorization (ECCV 2018): point from a gray frame at earlier gray frames, so that their colours fit."""

    Config = ColorizationConfig
    config: ColorizationConfig
    span_limits = (("fps", 24.0),)
    needs = Needs(max_temporal_stride=1, max_spatial_stride=STRIDE)
    fitted = ("centroids_K2",)
    centroids_K2: Tensor

    def __init__(self, config: ColorizationConfig, backbone: Backbone):
        super().__init__(config, backbone)
        c = config
        layers: list[nn.Module] = []
        before = backbone.feature_dim + 2 * c.location
        for dilation in c.dilations:
            around = (1, dilation, dilation)
            conv = nn.Conv3d(before, c.channels, 3, padding=around, dilation=around, bias=False)
            layers += [conv, nn.BatchNorm3d(c.channels), nn.ReLU(inplace=True)]
            before = c.channels
        self.head = nn.Sequential(*layers, nn.Conv3d(before, c.embedding, 1))
        self.register_buffer("centroids_K2", spread_colours(c.colours))

    @property
    def view(self) -> View:
        """A whole sample, in gray (with ``lab_dropout``: in Lab, nothing left out)."""
        c = self.config
        return View(c.references + 1, 1, c.short_side, c.crop, c.fps, "lab" if c.lab_dropout else "gray")

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """The references and the target, evenly spaced, at a random place; never one frame twice."""
        offsets = np.maximum(self.view.offsets(video), np.arange(self.config.references + 1))
        what = f"frames of the file that {len(offsets)} frames at {self.config.fps:g} a second span"
        first = place(video, int(offsets[-1]) + 1, rng, what)
        return first if isinstance(first, Skip) else Sample(tuple((first + offsets).tolist()), each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a sample spans; in a slow file its frames follow each other."""
        c = self.config
        return np.maximum(np.floor(c.references * (fps_N / c.fps)), c.references) + 1

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any] | Redraw:
        """One crop and one flip for all frames; frames of one colour, gray ones above all, teach nothing."""
        c = self.config
        frames_THWC = self.view.prepare(frames_THWC, rng if self.training else None)
        cells = -(-c.crop // STRIDE)
        spread = colour_spread(torch.from_numpy(augment.resize(frames_THWC, (cells, cells))))
        if spread < c.min_colour:
            return Redraw(f"shows hardly any colours to copy (their spread in Lab is below {c.min_colour:g})")
        return {"clip_THWC": frames_THWC}

    def fit(self, samples: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> None:
        """The K clusters of colours, by k-means over the ab values of cells of the training videos."""
        cells = -(-self.config.crop // STRIDE)
        found: list[np.ndarray] = []
        for sample in samples:
            found.append(colours_of(torch.as_tensor(sample["clip_THWC"])[None], (cells, cells)).reshape(-1, 2).numpy())
            if len(found) == self.config.fit_videos:
                break
        centroids_K2 = cluster(np.concatenate(found), self.config.colours, rng)
        self.centroids_K2.copy_(torch.from_numpy(centroids_K2))

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Cross-entropy of the copied colours (``lab_dropout``: their smooth L1 distance), and how many are right."""
        clip_BTHWC = batch["clip_THWC"]
        missing_B2 = self._missing(len(clip_BTHWC), ctx)
        logits_BJI, features_BDThw, ab_BTP2 = self._point(clip_BTHWC, missing_B2)
        dtype = logits_BJI.dtype
        classes_BTP = nearest_colour(ab_BTP2, self.centroids_K2)
        references_BI, last_BJ, target_BJ = classes_BTP[:, :-1].flatten(1), classes_BTP[:, -2], classes_BTP[:, -1]
        with torch.autocast(logits_BJI.device.type, enabled=False):
            if self.config.lab_dropout:
                ab_BI2 = ab_BTP2[:, :-1].flatten(1, 2)
                loss = regression_loss(logits_BJI, ab_BI2.to(dtype), ab_BTP2[:, -1].to(dtype), missing_B2)
            else:
                loss = colour_loss(logits_BJI, references_BI, target_BJ)
            with torch.no_grad():
                shares_BIK = F.one_hot(references_BI, self.config.colours).to(dtype)
                copied_BJ = (logits_BJI.softmax(2) @ shares_BIK).argmax(2)
                majority_B1 = shares_BIK.sum(1).argmax(1, keepdim=True)
                known_BJ = (target_BJ[:, :, None] == references_BI[:, None]).any(2)
        guesses = {"accuracy": copied_BJ, "accuracy_copy": last_BJ, "accuracy_majority": majority_B1}
        metrics = {name: (guess == target_BJ).double().mean() for name, guess in guesses.items()}
        metrics["copyable"] = known_BJ.double().mean()
        right_B = (copied_BJ == target_BJ).double().mean(1)
        return Output(loss, metrics, features_BDThw.mean((2, 3, 4)).detach(), right_B)

    @torch.no_grad()
    def colorize(self, clip_BTHWC: Tensor) -> Tensor:
        """(B, h, w, 2) ab values that the last frame of each uint8 clip (T = references + 1) gets from the others."""
        nothing_B2 = torch.ones(len(clip_BTHWC), 2, dtype=torch.bool, device=clip_BTHWC.device)
        logits_BJI, features_BDThw, ab_BTP2 = self._point(clip_BTHWC, nothing_B2)
        copied_BJ2 = logits_BJI.softmax(2) @ ab_BTP2[:, :-1].flatten(1, 2).to(logits_BJI.dtype)
        return copied_BJ2.unflatten(1, features_BDThw.shape[3:])

    def _point(self, clip_BTHWC: Tensor, missing_B2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pointer logits_BJI, the backbone's features_BDThw, and the true ab_BTP2 of its P = h * w cells."""
        c = self.config
        shown_BTHWC = in_colours(clip_BTHWC, self.view.colours)
        if c.lab_dropout:
            shown_BTHWC = left_out(shown_BTHWC, missing_B2)
        features_BDThw = self.backbone(self.backbone.normalise(shown_BTHWC))
        x_BDThw = with_location(features_BDThw) if c.location else features_BDThw
        embeddings_BTPD = self.head(x_BDThw).flatten(3).permute(0, 2, 3, 1)
        with torch.autocast(embeddings_BTPD.device.type, enabled=False):
            wide = torch.promote_types(embeddings_BTPD.dtype, torch.float32)
            references_BID, target_BJD = embeddings_BTPD[:, :-1].flatten(1, 2).to(wide), embeddings_BTPD[:, -1].to(wide)
            logits_BJI = pointer(references_BID, target_BJD, c.temperature if self.training else TEST_TEMPERATURE)
        height, width = features_BDThw.shape[3:]
        return logits_BJI, features_BDThw, colours_of(clip_BTHWC, (height, width)).flatten(2, 3)

    def _missing(self, B: int, ctx: Context) -> Tensor:
        """Which of a and b each clip lacks: one of them, with equal chances; both where gray is shown."""
        if not self.config.lab_dropout:
            return torch.ones(B, 2, dtype=torch.bool, device=self.centroids_K2.device)
        lacks_a_B = ctx.uniform(B).to(self.centroids_K2.device) < 0.5
        return torch.stack([lacks_a_B, ~lacks_a_B], 1)


def left_out(lab_BTHWC: Tensor, missing_B2: Tensor) -> Tensor:
    """Clips in the 8-bit code of Lab (``in_colours``) without a, b or both: those are neutral, the rest is stretched.

    As in MAST's code, what is left of three channels is 3 / (channels left) times as far from L = 50 and a = b = 0.
    """
    neutral_3 = constant((127.5, 128.0, 128.0), lab_BTHWC.device)
    there_B3 = F.pad(~missing_B2, (1, 0), value=True).to(lab_BTHWC)
    factor_B3 = there_B3 * 3 / there_B3.sum(1, keepdim=True)
    return neutral_3 + (lab_BTHWC - neutral_3) * factor_B3[:, None, None, None]


def pointer(references_BID: Tensor, target_BJD: Tensor, temperature: float) -> Tensor:
    r"""logits_BJI of eq. 2, over all cells i of all references together, for each cell j of the target.

    $A_{ij} = \exp(f_i \cdot f_j / T) / \sum_k \exp(f_k \cdot f_j / T)$ is then ``logits.softmax(2)``, whose rows are
    the cells of the target. Embeddings f are not normalised; T is the temperature.
    """
    return target_BJD @ references_BID.transpose(1, 2) / temperature


def colour_loss(logits_BJI: Tensor, references_BI: Tensor, target_BJ: Tensor) -> Tensor:
    r"""Eq. 1 and 3: cross-entropy of the copied colours, $y_j = \sum_i A_{ij} c_i$, with the class $c_j$ of each place.

    The $y_j$ are probabilities. $-\ln y_j[c_j]$ is the log-sum-exp of the logits over all places minus that over
    the places of the right class, so that a pointer that is surely wrong still has a gradient. A place whose class no
    reference has cannot be copied and does not count. The loss is a mean over the places of a clip, then over clips; 0
    for a clip without a place that counts.

    Args:
        logits_BJI: of ``pointer``.
        references_BI: classes of the places of the references.
        target_BJ: classes of the places of the target.
    """
    right_BJI = target_BJ[:, :, None] == references_BI[:, None]
    known_BJ = right_BJI.any(2)
    lowest = torch.finfo(logits_BJI.dtype).min  # not -inf, whose gradient is not a number where no place is right
    of_right_BJ = logits_BJI.masked_fill(~right_BJI, lowest).logsumexp(2)
    loss_BJ = torch.where(known_BJ, logits_BJI.logsumexp(2) - of_right_BJ, 0.0)
    return (loss_BJ.sum(1) / known_BJ.sum(1).clamp_min(1)).mean()


def regression_loss(logits_BJI: Tensor, ab_BI2: Tensor, ab_BJ2: Tensor, missing_B2: Tensor) -> Tensor:
    """MAST: smooth L1 distance of the copied ab values, of the channels that were left out of the input.

    The values are divided by 127 and multiplied by 20, as in the authors' code: the square becomes a line at an error
    of 6.35 Lab units.
    """
    error_BJ2 = (logits_BJI.softmax(2) @ ab_BI2 - ab_BJ2) * 20 / 127
    loss_B2 = F.smooth_l1_loss(error_BJ2, torch.zeros_like(error_BJ2), reduction="none").mean(1)
    return ((loss_B2 * missing_B2).sum(1) / missing_B2.sum(1)).mean()


def with_location(features_BDThw: Tensor) -> Tensor:
    """The features with two channels more: x and y of each cell, from -1 to 1."""
    B, _, T, h, w = features_BDThw.shape
    y_h, x_w = (torch.linspace(-1, 1, n, device=features_BDThw.device, dtype=features_BDThw.dtype) for n in (h, w))
    x_BThw, y_BThw = x_w.expand(B, T, h, w), y_h[:, None].expand(B, T, h, w)
    return torch.cat([features_BDThw, x_BThw[:, None], y_BThw[:, None]], 1)


def colours_of(clip_BTHWC: Tensor, cells: tuple[int, int]) -> Tensor:
    """(B, T, h, w, 2) ab values of the mean RGB of each of (h, w) cells; float32."""
    frames_NCHW = clip_BTHWC.flatten(0, 1).permute(0, 3, 1, 2).float()
    mean_NhwC = F.adaptive_avg_pool2d(frames_NCHW, cells).permute(0, 2, 3, 1)
    return rgb_to_lab(mean_NhwC)[..., 1:].unflatten(0, clip_BTHWC.shape[:2])


def colour_spread(frames_THWC: Tensor) -> float:
    """How far colours differ: the root of the variance of a plus that of b, over all pixels of all frames.

    0 for gray frames and for tinted ones.
    """
    return rgb_to_lab(frames_THWC)[..., 1:].flatten(0, -2).var(0, correction=0).sum().sqrt().item()


def nearest_colour(ab_X2: Tensor, centroids_K2: Tensor) -> Tensor:
    """(...) number of the nearest centroid; the lowest of several that are equally near."""
    return (ab_X2.unsqueeze(-2) - centroids_K2.to(ab_X2.dtype)).square().sum(-1).argmin(-1)


def cluster(ab_N2: np.ndarray, colours: int, rng: np.random.Generator) -> np.ndarray:
    """(K, 2) centroids of the ab values, float32, by k-means (started by k-means++).

    Values are rounded to tenths before. If no more than K differ, these are the centroids, and the first of them fills
    up the rest: it comes before its copies, so that ``nearest_colour`` never names those. With more than K different
    values no cluster is empty.
    """
    ab_N2 = np.round(ab_N2.astype(np.float64), 1)
    distinct_M2 = np.unique(ab_N2, axis=0)
    if len(distinct_M2) <= colours:
        filling_F2 = np.repeat(distinct_M2[:1], colours - len(distinct_M2), axis=0)
        return np.concatenate([distinct_M2, filling_F2]).astype(np.float32)
    from sklearn.cluster import KMeans

    if len(ab_N2) > POINTS:
        # with K + 1 different values more, so that a cluster is never empty
        ab_N2 = np.concatenate([rng.choice(ab_N2, POINTS, replace=False), distinct_M2[: colours + 1]])
    means = KMeans(colours, n_init="auto", random_state=int(rng.integers(2**31))).fit(ab_N2)
    return means.cluster_centers_.astype(np.float32)


def spread_colours(colours: int) -> Tensor:
    """(K, 2) points spread over a disc of the ab plane with a radius of 50: the clusters as long as none are fitted."""
    number_K = torch.arange(colours) + 0.5
    radius_K, angle_K = 50 * (number_K / colours).sqrt(), number_K * torch.pi * (3 - 5**0.5)
    return torch.stack([radius_K * angle_K.cos(), radius_K * angle_K.sin()], 1)
