"""Batch-norm statistics of a frozen network, recomputed on the videos of a list, whatever the order of the list.

A network in training mode normalises each batch by itself, so that what deeper layers see depends on who shares a
batch. Here a layer's statistics are those of all clips at once: layer after layer, those before it settled already.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_video.backbones.base import Backbone
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.many import in_fixed_order
from ssl_video.eval.features import ClipsOfVideos, Extraction, in_order
from ssl_video.model import Model

AT_MOST = 128
"""Clips of which statistics are taken."""
BATCH = 8
"""Clips that are run together, on every device: it decides rounding only."""
BYTES = 256 << 20
"""Of clips that are held; and twice that of what layers made of them (otherwise it is computed again)."""

Link = Callable[[Tensor], Tensor]
"""A step of a computation: a module, or a function."""


def calibrate_batch_norm(model: Model, videos: VideoSet, *, at_most: int = AT_MOST, workers: int = 2) -> Model:
    """A copy of the model whose batch-norm statistics are those of ``videos`` at normal speed.

    Nothing else changes. It makes a random network a fair baseline (its running statistics are 0 and 1 otherwise), and
    puts a pretrained one on the same footing. Without batch-norm layers the model is returned as it is. Which clips are
    taken depends on what the videos are, not on their places in the list: ``at_most`` of them, evenly over as many
    videos as possible, fewer if they would take more than 256 MB.
    """
    if not batch_norms(model.backbone):
        return model
    clips = list(_clips(model, videos, at_most, workers))
    if not clips:
        return model
    backbone = copy.deepcopy(model.backbone).eval()
    calibrated = replace(model, backbone=backbone)
    settle(backbone, [calibrated.normalise, *links_of(backbone)], list(torch.cat(clips).split(BATCH)))
    return calibrated


def _clips(model: Model, videos: VideoSet, at_most: int, workers: int) -> Iterator[Tensor]:
    """uint8 clips (K, T, H, W, C) of one video after the other."""
    view, channels = model.view, model.backbone.clip.channels
    fit = max(1, min(at_most, BYTES // (view.frames * view.size**2 * channels)))
    chosen = VideoSet(videos.name, in_fixed_order(videos.videos)[:fit], videos.classes)
    what = Extraction(min(8, fit // max(1, len(chosen.videos))))
    shown = for_modality(chosen, model.backbone.clip.modality).videos
    for _, _, clips_KTHWC in in_order(ClipsOfVideos(shown, view, what), workers):
        if isinstance(clips_KTHWC, Tensor):
            yield clips_KTHWC


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers of a module that keep statistics of batches."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def links_of(module: nn.Module) -> list[nn.Module]:
    """The modules that, run one after the other, do what ``module`` does: those of a chain of chains, else itself."""
    if isinstance(module, Backbone):
        return links_of(module.network) if module.is_chain else [module]
    if type(module).forward is nn.Sequential.forward:
        return [link for child in module.children() for link in links_of(child)]
    return [module]


@torch.no_grad()
def settle(module: nn.Module, links: Sequence[Link], inputs: Sequence[Tensor], *, cut: bool = True) -> None:
    """Set the batch-norm statistics of ``module`` to those of what its layers are given when ``links`` run on inputs.

    Args:
        module: in eval mode; layers that do not run keep their statistics.
        links: what is run, one after the other; results between two of them are held where memory allows.
        inputs: batches, together the set whose statistics are taken. Each batch weighs as much as it has values.
        cut: end each run behind the layer that is looked at. Not where an input decides how often a layer is called.
    """
    settled: set[_BatchNorm] = set()
    held, ahead = list(inputs), []  # what links made of the inputs, and links that are to run on that
    for link in links:
        ahead.append(link)
        calls = _calls(batch_norms(module), ahead, held[0])
        fresh = [norm for norm in calls if norm not in settled]
        for norm in fresh:
            _set(norm, _moments(norm, calls[norm] if cut else 0, ahead, held))
        settled.update(fresh)
        if fresh and link is not links[-1]:
            first = _run(ahead, held[0])
            if first.nbytes * len(held) <= 2 * BYTES:
                held, ahead = [first, *(_run(ahead, x) for x in held[1:])], []


def _run(links: Sequence[Link], x: Tensor) -> Tensor:
    x = x.clone()  # a link may work in place
    for link in links:
        x = link(x)
    return x


def _calls(norms: Sequence[_BatchNorm], links: Sequence[Link], x: Tensor) -> dict[_BatchNorm, int]:
    """The layers that run, in order, and how often each does."""
    calls: dict[_BatchNorm, int] = {}

    def note(norm: _BatchNorm, _inputs: object) -> None:
        calls[norm] = calls.get(norm, 0) + 1

    with ExitStack() as hooks:
        for norm in norms:
            hooks.enter_context(norm.register_forward_pre_hook(note))
        _run(links, x)
    return calls


@dataclass
class Moments:
    """Of the values of each channel: how many, their mean and their summed squared distance from it, in float64."""

    count: int
    mean_C: Tensor
    squares_C: Tensor

    @classmethod
    def of(cls, x_BC: Tensor) -> "Moments":
        """Those of (B, C, ...)."""
        dims = [d for d in range(x_BC.ndim) if d != 1]
        count = x_BC.numel() // x_BC.shape[1]
        shift = x_BC.mean(dims, keepdim=True)  # in the values' own precision; what it lacks is put right below
        off = x_BC - shift
        rest_C = off.sum(dims, dtype=torch.float64) / count
        squares_C = (off.square_().sum(dims, dtype=torch.float64) - count * rest_C**2).clamp_min(0)
        return cls(count, shift.flatten().double() + rest_C, squares_C)

    def with_more(self, more: "Moments") -> "Moments":
        """Those of both sets of values together."""
        count, apart_C = self.count + more.count, more.mean_C - self.mean_C
        squares_C = self.squares_C + more.squares_C + apart_C**2 * (self.count * more.count / count)
        return Moments(count, self.mean_C + apart_C * (more.count / count), squares_C)


class _Enough(Exception):
    """What comes behind the layer does not matter."""


def _moments(norm: _BatchNorm, calls: int, links: Sequence[Link], inputs: Sequence[Tensor]) -> Moments:
    """Those of everything that a layer is given. A run ends after so many calls; 0: at its end."""
    found: list[Moments] = []

    def gather(_norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(Moments.of(given[0]))
        if calls and len(found) % calls == 0:
            raise _Enough

    with norm.register_forward_pre_hook(gather):
        for x in inputs:
            try:
                _run(links, x)
            except _Enough:
                continue
    whole = found[0]
    for more in found[1:]:
        whole = whole.with_more(more)
    return whole


def _set(norm: _BatchNorm, moments: Moments) -> None:
    """As batch norm itself keeps them: the variance is the unbiased one."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(moments.mean_C)
    norm.running_var.copy_(moments.squares_C / max(moments.count - 1, 1))
