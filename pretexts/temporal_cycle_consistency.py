"""TCC: go from a frame to its nearest neighbour in another video of the same action, and come back to where you were.

D. Dwibedi, Y. Aytar, J. Tompson, P. Sermanet, A. Zisserman: "Temporal Cycle-Consistency Learning", CVPR 2019.

Embeddings under which such cycles close align the videos in time. Nearest neighbours are soft, so that the loss has a
gradient. Shapes: N sequences of T steps, D channels, R cycles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, LessThanOne, Natural, NotNegative, Positive
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Sample, Skip, View

Similarity = Literal["l2", "cosine"]
Loss = Literal["classification", "regression_mse", "regression_mse_var", "regression_huber"]


@dataclass(frozen=True)
class TemporalCycleConsistencyConfig(Bounded):
    """Options of temporal cycle consistency, with the values of the paper's code as defaults."""

    frames: Annotated[int, Bounds(least=2)] = 20
    """T, the steps drawn from each video; shorter videos are skipped."""
    offset: Natural = 1
    """The first frame that may be drawn."""
    context_frames: Count = 2
    """Frames that make one embedding: the step itself and earlier ones."""
    context_stride: Count = 15
    """Frames of the file between those; before its first frame, that frame is repeated."""
    stage: str | None = "layer3"
    """Stage of the backbone whose features are embedded (layer3 is conv4 of a ResNet); None: the last."""
    trained: Literal["all", "only_bn", "none"] = "only_bn"
    """What of the backbone is trained. only_bn is for pretrained weights: all but batch norm stays as it is."""
    channels: Count = 512
    """Channels of the two 3D convolutions."""
    grid: Count = 1
    """What comes out of them is pooled (maximum) to grid x grid cells; more than the paper's one keep the place."""
    hidden: Count = 512
    """Width of the two fully connected layers before the last."""
    embedding: Count = 128
    """D, the channels of an embedding."""
    dropout: LessThanOne = 0.1
    """Dropout before each of these two layers."""
    loss: Loss = "regression_mse_var"
    """What a cycle predicts: the class of its first step, or its time (see ``cycle_loss``)."""
    similarity: Similarity = "l2"
    """l2: minus the squared distance; cosine: the inner product. Both are divided by D."""
    temperature: Positive = 0.1
    """Similarities are divided by it."""
    variance_weight: NotNegative = 0.001
    """lambda, the weight of the logarithm of the variance in regression_mse_var."""
    variance_floor: NotNegative = 1e-4
    """The variance, in units of time squared, counts as no smaller: a certain match would divide by zero otherwise."""
    spread_weight: NotNegative = 0.0
    """Weight of ``spread_loss``, which keeps the embeddings of a video's frames apart; ours, for random weights, from
    which they collapse to one point without it."""
    huber_delta: Positive = 0.1
    """Error at which regression_huber turns from a square into a line."""
    label_smoothing: Fraction = 0.1
    """Fraction of a label that classification spreads evenly over all steps."""
    normalize_indices: bool = True
    """Time is the fraction of the video that has passed, not the number of the frame."""
    stochastic: bool = False
    """Draw cycles through several sequences; off: all ordered pairs of sequences, from every step."""
    cycle_length: Annotated[int, Bounds(least=2)] = 2
    """Sequences in a stochastic cycle, all different."""
    cycles: Positive = 1.0
    """Stochastic cycles of a batch, as a multiple of its steps."""
    size: Count = 224
    """Side of the square that is cut out of the frames, in pixels; their shorter side is resized to it."""
    pixels: Literal["backbone", "signed"] = "backbone"
    """How the network sees pixels: normalised as it is made for, or from -1 to 1 (the paper's code)."""
    flip: bool = True
    """Mirror half of the sequences; off for actions that are told by left and right."""
    brightness: NotNegative = 32 / 255
    """Largest change of brightness, the same for a whole sequence; 0 turns it off."""
    contrast: Fraction = 0.5
    """Contrast is changed by a factor of up to 1 + this or 1 - this, the same for a whole sequence."""


@PRETEXTS.register("temporal_cycle_consistency")
class TemporalCycleConsistency(Pretext):
    """TCC (CVPR 2019): frames that match across two videos of one action, by cycles that must close."""

    Config = TemporalCycleConsistencyConfig
    config: TemporalCycleConsistencyConfig
    span_limits = (("frames", 8),)
    needs = Needs(grouping="class", apart=True)

    def __init__(self, config: TemporalCycleConsistencyConfig, backbone: Backbone):
        super().__init__(config, backbone)
        c = config
        backbone.check_stage(c.stage)
        if c.pixels == "signed":  # noted with the weights, so that evaluations show them so, too
            half = (0.5,) * backbone.clip.channels
            backbone.clip = replace(backbone.clip, mean=half, std=half)
        convolutions: list[nn.Module] = []
        before = _channels_of(backbone, c.context_frames, c.stage)
        for channels_in in (before, c.channels):
            conv = nn.Conv3d(channels_in, c.channels, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight)
            convolutions += [conv, nn.BatchNorm3d(c.channels), nn.ReLU(inplace=True)]
        layers: list[nn.Module] = []
        for width in (c.channels * c.grid**2, c.hidden):
            layers += [nn.Dropout(c.dropout), nn.Linear(width, c.hidden), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*convolutions)
        self.fully_connected = nn.Sequential(*layers, nn.Linear(c.hidden, c.embedding))
        self._choose_trained()

    def _choose_trained(self) -> None:
        """Freeze what is not to be trained, and the stages behind the one that is used: they never get a gradient."""
        names = list(self.backbone.stages)
        used = names if self.config.stage is None else names[: names.index(self.config.stage) + 1]
        for name, stage in self.backbone.stages.items():
            for module in stage.modules():
                is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
                trains = self.config.trained == "all" or (self.config.trained == "only_bn" and is_norm)
                for p in module.parameters(recurse=False):
                    p.requires_grad_(trains and name in used)

    @property
    def view(self) -> View:
        """What one embedding is made of: a frame and its context."""
        c = self.config
        return View(c.context_frames, c.context_stride, c.size, c.size)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """T different frames, drawn uniformly and sorted ("offset_uniform"), each with its context."""
        c = self.config
        shortest = c.offset + c.frames
        if video.frames < shortest:
            return Skip(f"shorter than the {shortest} frames that {c.frames} different steps need")
        steps_T = c.offset + np.sort(rng.choice(video.frames - c.offset, c.frames, replace=False))
        frames, positions = np.unique(context_of(steps_T, c.context_frames, c.context_stride), return_inverse=True)
        data = {"positions_TK": positions.reshape(c.frames, c.context_frames), "steps_T": steps_T}
        data |= {"length_1": np.array([video.frames])}
        return Sample(tuple(map(int, frames)), data, each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """A frame for each step, at any rate."""
        return np.full(len(fps_N), self.config.offset + self.config.frames)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """One crop and one flip for the whole sequence, the frame numbers of its steps, the length of its video."""
        frames_THWC = self.view.prepare(frames_THWC, rng if self.training else None, self.config.flip)
        clips_TKHWC = frames_THWC[sample.data["positions_TK"]]
        return {"clips_TKHWC": clips_TKHWC, "steps_T": sample.data["steps_T"], "length_1": sample.data["length_1"]}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """The loss over cycles through the sequences of all ranks. Raises UserError for one sequence alone."""
        c, (N, T, *_) = self.config, batch["clips_TKHWC"].shape
        if N * ctx.world_size < 2:
            raise UserError("Temporal cycle consistency compares videos; use a --batch-size of 2 or more.")
        changes = {name: x.repeat_interleave(T, 0) for name, x in self._colours(N, ctx).items()}
        x_MCKHW = self.backbone.normalise(batch["clips_TKHWC"].flatten(0, 1), **changes)
        embeddings_NTD = self.embed(x_MCKHW).to(x_MCKHW.dtype).unflatten(0, (N, T))

        times_NT = batch["steps_T"].to(embeddings_NTD)
        if c.normalize_indices:
            times_NT = times_NT / batch["length_1"].to(times_NT)
        every_NTD, times_NT = ctx.gather(embeddings_NTD), ctx.gather(times_NT)
        with torch.autocast(every_NTD.device.type, enabled=False):
            if c.stochastic:
                sequences_RL, starts_R = draw_cycles(
                    len(every_NTD), T, c.cycle_length, round(c.cycles * len(every_NTD) * T), ctx.generator
                )
                logits_RT = stochastic_cycles(every_NTD, sequences_RL, starts_R, c.similarity, c.temperature)
                times_RT = times_NT[sequences_RL[:, 0]]
            else:
                logits_RT, times_RT, starts_R = all_cycles(every_NTD, times_NT, c.similarity, c.temperature)
            labels_R = starts_R.to(logits_RT.device)
            loss = cycle_loss(logits_RT, labels_R, times_RT, c)
            if c.spread_weight:
                loss = loss + c.spread_weight * spread_loss(every_NTD)
        closed_R = (logits_RT.argmax(1) == labels_R).double()
        one_by_one = not c.stochastic and len(every_NTD) == len(embeddings_NTD) > 1  # in the order of their videos
        right_N = closed_R.unflatten(0, (len(every_NTD), -1)).mean(1) if one_by_one else None
        return Output(loss, {"accuracy": closed_R.mean()}, embeddings_NTD.detach().flatten(0, 1), right_N)

    def embed(self, clips_BCKHW: Tensor) -> Tensor:
        """(B, D) embeddings, not of unit length, of B frames with their context."""
        features_BDkhw = self.backbone(clips_BCKHW, self.config.stage)
        convolved_BDhw = self.convolutions(features_BDkhw).amax(2)
        pooled_BF = F.adaptive_max_pool2d(convolved_BDhw, self.config.grid).flatten(1)
        with torch.autocast(pooled_BF.device.type, enabled=False):  # 8 bits of mantissa hardly tell frames apart
            return self.fully_connected(pooled_BF.to(next(self.fully_connected.parameters()).dtype))

    @torch.no_grad()
    def frame_embeddings(self, frames_THWC: np.ndarray, batch: int) -> Tensor:
        """(T, D) embeddings of all frames of a prepared video."""
        device = next(self.parameters()).device
        numbers_TK = context_of(np.arange(len(frames_THWC)), self.config.context_frames, self.config.context_stride)
        parts = []
        for start in range(0, len(frames_THWC), batch):
            clips_BKHWC = torch.from_numpy(frames_THWC[numbers_TK[start : start + batch]]).to(device)
            parts.append(self.embed(self.backbone.normalise(clips_BKHWC)))
        return torch.cat(parts)

    def _colours(self, count: int, ctx: Context) -> dict[str, Tensor]:
        """One change of brightness and contrast for each sequence, for ``Backbone.normalise``."""
        c = self.config
        if not self.training or not (c.brightness or c.contrast):
            return {}
        factor_B11 = ctx.uniform(count, 1, 1, low=1 - c.contrast, high=1 + c.contrast)
        shift_B = ctx.uniform(count, low=-c.brightness, high=c.brightness) / float(np.mean(self.backbone.clip.std))
        return {
            "matrix_B33": factor_B11 * torch.eye(self.backbone.clip.channels, device=ctx.device),
            "shift_B": shift_B,
        }


def _channels_of(backbone: Backbone, frames: int, stage: str | None) -> int:
    """Channels of a stage, found by a pass. Raises UserError if the network does not take clips of so few frames."""
    was_training = backbone.training
    weight = next(backbone.parameters())
    side = backbone.clip.smallest[1]
    with torch.no_grad():
        clip_BCTHW = torch.zeros(
            1, backbone.clip.channels, frames, side, side, dtype=weight.dtype, device=weight.device
        )
        channels = backbone.eval()(clip_BCTHW, stage).shape[1]
    backbone.train(was_training)
    return channels


def context_of(steps_T: np.ndarray, frames: int, stride: int) -> np.ndarray:
    """(T, frames) frame numbers: each step, and before it ``frames - 1`` earlier frames, ``stride`` apart."""
    return np.maximum(steps_T[:, None] - stride * np.arange(frames - 1, -1, -1), 0)


def similarities(queries_XMD: Tensor, keys_XTD: Tensor, kind: Similarity, temperature: float) -> Tensor:
    r"""(..., M, T) similarity of every query to every key, over the number D of channels times the temperature.

    ``cosine``: $u \cdot v / (D \tau)$. ``l2``: $(2 u \cdot v - |v|^2) / (D \tau)$, without the $-|u|^2$ of the query u,
    which a softmax over the keys v does not see.
    """
    products = queries_XMD @ keys_XTD.transpose(-1, -2)
    if kind == "l2":
        products = 2 * products - keys_XTD.square().sum(-1).unsqueeze(-2)
    return products / (keys_XTD.shape[-1] * temperature)


def soft_nearest_neighbours(queries_XMD: Tensor, keys_XTD: Tensor, kind: Similarity, temperature: float) -> Tensor:
    """(..., M, D) means of the keys, weighted by the softmax of their similarities to each query (equation 2)."""
    return similarities(queries_XMD, keys_XTD, kind, temperature).softmax(-1) @ keys_XTD


def all_cycles(
    embeddings_NTD: Tensor, times_NT: Tensor, kind: Similarity, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The cycles from every step of every sequence i through every other sequence j and back to i.

    Returns:
        logits_RT, the similarities of where a cycle comes back to all steps of i; times_RT of these steps; and
        starts_R, the step it started from. R = N (N - 1) T, in the order of (i, j, step).
    """
    N, T, D = embeddings_NTD.shape
    queries_1MD = embeddings_NTD.flatten(0, 1)[None]
    through_jMD = soft_nearest_neighbours(
        queries_1MD, embeddings_NTD, kind, temperature
    )  # M = N * T, step by step of i
    through_iMD = through_jMD.unflatten(1, (N, T)).transpose(0, 1).reshape(N, N * T, D)
    logits_ijTT = similarities(through_iMD, embeddings_NTD, kind, temperature).unflatten(1, (N, T))
    i, j = torch.nonzero(~torch.eye(N, dtype=torch.bool, device=embeddings_NTD.device), as_tuple=True)
    starts_R = torch.arange(T, device=embeddings_NTD.device).repeat(len(i))
    return logits_ijTT[i, j].flatten(0, 1), times_NT[i].repeat_interleave(T, 0), starts_R


def draw_cycles(
    sequences: int, steps: int, length: int, cycles: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sequences that stochastic cycles pass through, (cycles, length), and the steps they start from, (cycles,).

    Each row is the beginning of a random permutation of all sequences, so that none comes twice.

    Raises:
        UserError: if a cycle is longer than there are sequences.
    """
    if length > sequences:
        raise UserError(
            f"A cycle through {length} videos needs a batch of as many, not of {sequences}; use a larger --batch-size."
        )
    sequences_RL = torch.rand(cycles, sequences, generator=generator).argsort(1)[:, :length]
    return sequences_RL, torch.randint(steps, (cycles,), generator=generator)


def stochastic_cycles(
    embeddings_NTD: Tensor, sequences_RL: Tensor, starts_R: Tensor, kind: Similarity, temperature: float
) -> Tensor:
    """logits_RT of cycles from a step of their first sequence through all others in turn and back to the first."""
    at_R1D = embeddings_NTD[sequences_RL[:, 0], starts_R][:, None]
    for hop in range(1, sequences_RL.shape[1]):
        at_R1D = soft_nearest_neighbours(at_R1D, embeddings_NTD[sequences_RL[:, hop]], kind, temperature)
    return similarities(at_R1D, embeddings_NTD[sequences_RL[:, 0]], kind, temperature).squeeze(1)


def cycle_loss(logits_RT: Tensor, labels_R: Tensor, times_RT: Tensor, config: TemporalCycleConsistencyConfig) -> Tensor:
    r"""Mean over cycles of the loss that ``config.loss`` names (section 3.2).

    ``classification``: cross-entropy with the step that the cycle started from. The others take its time $t$, and the
    mean $\mu$ and the variance $\sigma^2$ of all times under the softmax of the logits:

    * ``regression_mse``: $(t - \mu)^2$,
    * ``regression_huber``: its Huber version,
    * ``regression_mse_var``: $(t - \mu)^2 / \sigma^2 + \lambda \ln \sigma^2$.
    """
    if config.loss == "classification":
        return F.cross_entropy(logits_RT, labels_R, label_smoothing=config.label_smoothing)
    beta_RT = logits_RT.softmax(1)
    mean_R = (beta_RT * times_RT).sum(1)
    target_R = times_RT.gather(1, labels_R[:, None]).squeeze(1)
    if config.loss == "regression_mse":
        return F.mse_loss(mean_R, target_R)
    if config.loss == "regression_huber":
        return F.huber_loss(mean_R, target_R, delta=config.huber_delta)
    variance_R = (beta_RT * (times_RT - mean_R[:, None]).square()).sum(1).clamp(min=config.variance_floor)
    return ((target_R - mean_R).square() / variance_R + config.variance_weight * variance_R.log()).mean()


def spread_loss(embeddings_NTD: Tensor) -> Tensor:
    r"""How little, and how alike, the D channels change over the T steps of the N sequences.

    The variance and covariance terms of A. Bardes, J. Ponce, Y. LeCun: "VICReg", ICLR 2022, in its proportion of 25 to
    1, over time: with the covariance C of the differences $x_{nt} - \bar x_n$ from the mean of the own sequence,

    $$ \frac{1}{D} \sum_d \max(0, 1 - \sqrt{C_{dd}}) + \frac{0.04}{D} \sum_{d \ne e} C_{de}^2 $$

    It is 0 for channels with a standard deviation of 1 or more that do not go together. That sequences differ from each
    other does not count: embeddings that are the same in all frames of a video would close no cycle.
    """
    N, T, D = embeddings_NTD.shape
    apart_MD = (embeddings_NTD - embeddings_NTD.mean(1, keepdim=True)).flatten(0, 1)
    covariance_DD = apart_MD.T @ apart_MD / (N * (T - 1))
    variance_D = covariance_DD.diagonal()
    deviation_D = (variance_D + 1e-4).sqrt()  # at 0 the root has no slope
    return (1 - deviation_D).relu().mean() + 0.04 * (covariance_DD.square().sum() - variance_D.square().sum()) / D
