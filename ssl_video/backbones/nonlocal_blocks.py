"""Non-local blocks: attention over all of space and time inside a 3D network.

X. Wang, R. Girshick, A. Gupta, K. He: "Non-local Neural Networks", CVPR 2018.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, chain
from ssl_video.backbones.pytorchvideo_models import slow_r50
from ssl_video.backbones.small import r3d_10
from ssl_video.bounds import Count
from ssl_video.errors import UserError, nearest


class NonLocal(nn.Module):
    r"""$z_i = W_z y_i + x_i$, where $y_i$ is the mean of all $g(x_j)$, weighted by a softmax (eq. 2 to 6).

    The softmax over j is that of $\theta(x_i) \cdot \phi(x_j)$ (embedded Gaussian). Theta, phi and g have half the
    channels. The batch norm after W_z starts with scale 0, so that the block starts as the identity and can be put into
    a trained network. ``subsample`` takes the maxima of phi and g over 2x2 positions of space, a quarter of the work;
    the paper does so everywhere.
    """

    def __init__(self, channels: int, subsample: bool = True):
        super().__init__()
        half = max(channels // 2, 1)
        self.theta = nn.Conv3d(channels, half, 1)
        self.phi = nn.Conv3d(channels, half, 1)
        self.g = nn.Conv3d(channels, half, 1)
        self.W_z = nn.Conv3d(half, channels, 1)
        self.bn = nn.BatchNorm3d(channels)
        self.subsample = subsample
        for conv in (self.theta, self.phi, self.g, self.W_z):
            nn.init.normal_(conv.weight, std=0.01)  # dot products are not scaled: wide rows would saturate the softmax
            nn.init.zeros_(conv.bias)  # pyright: ignore
        nn.init.zeros_(self.bn.weight)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The same shape."""
        theta, phi, g = self.theta(x_BDthw), self.phi(x_BDthw), self.g(x_BDthw)
        if self.subsample:
            phi, g = (F.max_pool3d(y, (1, 2, 2), ceil_mode=True) for y in (phi, g))
        theta_BND, phi_BMD, g_BMD = (y.flatten(2).transpose(1, 2) for y in (theta, phi, g))
        y_BND = F.scaled_dot_product_attention(theta_BND, phi_BMD, g_BMD, scale=1.0)
        y_BDthw = y_BND.transpose(1, 2).unflatten(2, x_BDthw.shape[2:])
        return self.bn(self.W_z(y_BDthw)) + x_BDthw


def insert_nonlocal(backbone: Backbone, after: Iterable[str], subsample: bool = True) -> Backbone:
    """``backbone`` with a non-local block behind each of its named modules; it is a chain.

    A module is a stage ("block2") or one inside of it ("layer3.1", "res4.res_blocks.3"), whose output is a map
    (B, D, t, h, w). The parameters of a module X are called X.0 from then on, those of its block X.1; published weights
    are those of the network without blocks.

    Raises:
        UserError: for a module that there is not.
    """
    modules = dict(backbone.network.named_modules())
    names = sorted(dict.fromkeys(after), key=len, reverse=True)  # what lies inside another one goes first
    for name in names:
        if not name or name not in modules:
            raise UserError(f"This network has no module {name!r}; {nearest(name, backbone.stages.keys())}")
    widths = _widths(backbone, names)
    like = next(backbone.parameters())
    for name in names:
        block = NonLocal(widths[name], subsample).to(like.device, like.dtype)
        backbone.network.set_submodule(name, nn.Sequential(modules[name], block))
    published = backbone.published
    if published is not None:
        before = published.adapt
        published = replace(published, adapt=lambda weights, net: _around_blocks(before(weights, net), net))
    assert isinstance(backbone.network, nn.Sequential)
    dim, strides, clip = backbone.feature_dim, backbone.strides, backbone.clip
    changed = chain(backbone.network, feature_dim=dim, strides=strides, clip=clip, published=published)
    changed.provenance, changed.training = backbone.provenance, backbone.training
    return changed


def _around_blocks(weights: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Published weights under the names that the modules have with blocks behind them; the blocks keep their own."""
    followed = [n for n, m in network.named_modules() if isinstance(m, nn.Sequential) and isinstance(m[-1], NonLocal)]
    blocks = {k: v for k, v in network.state_dict().items() if any(k.startswith(f"{name}.1.") for name in followed)}
    renamed = {}
    for key, value in weights.items():
        name = next((n for n in followed if key.startswith(f"{n}.")), None)
        renamed[key if name is None else f"{name}.0{key.removeprefix(name)}"] = value
    return blocks | renamed


def _widths(backbone: Backbone, names: Iterable[str]) -> dict[str, int]:
    """The channels that the named modules put out, seen in a pass over the smallest clip."""
    widths: dict[str, int] = {}

    def note(name: str):
        return lambda _module, _x, y: widths.update({name: y.shape[1]})

    handles = [backbone.network.get_submodule(name).register_forward_hook(note(name)) for name in names]
    like = next(backbone.parameters())
    modes = {m: m.training for m in backbone.modules()}
    with torch.no_grad():
        backbone.eval()(
            torch.zeros(1, backbone.clip.channels, *backbone.clip.smallest, device=like.device, dtype=like.dtype)
        )
    for handle in handles:
        handle.remove()
    for module, training in modes.items():
        module.training = training
    return widths


@BACKBONES.register("slow_r50_nonlocal")
def slow_r50_nonlocal(*, subsample: bool = True) -> Backbone:
    """Slow-R50 with five non-local blocks, 39 M parameters (Wang et al., "Non-local Neural Networks", CVPR 2018).

    Two blocks in res3 and three in res4, behind every other residual block, as the paper puts them into its C2D and I3D
    ResNet-50.
    """
    after = ("res3.res_blocks.1", "res3.res_blocks.3", "res4.res_blocks.1", "res4.res_blocks.3", "res4.res_blocks.5")
    return insert_nonlocal(slow_r50(), after, subsample)


@BACKBONES.register("r3d_10_nonlocal")
def r3d_10_nonlocal(
    *, width: Count = 16, after: tuple[str, ...] = ("block2", "block3"), subsample: bool = True
) -> Backbone:
    """R3D-10 with two non-local blocks, 0.9 M parameters; for a CPU (Wang et al., CVPR 2018).

    ``after`` names the stages that a block follows.
    """
    return insert_nonlocal(r3d_10(width=width), after, subsample)
