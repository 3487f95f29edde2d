"""Inflation: image networks made into video networks, with their weights.

J. Carreira, A. Zisserman: "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import (
    BACKBONES,
    FLOW_MEAN,
    FLOW_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    ClipSpec,
    chain,
    torchvision_net,
)
from ssl_video.backbones.weights import Published

Modality = Literal["rgb", "flow"]


class InflatedConv(nn.Conv3d):
    """A 3D convolution that repeats the first and the last frame where its kernel reaches beyond the clip.

    With zeros there, as in space, the ends of a still video would answer otherwise than its middle, and the network
    inflated from a 2D one would not give that one's output. ``padding`` says for time how many frames are repeated.
    """

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, t, h, w)."""
        assert not isinstance(self.padding, str)
        pad_t, pad_h, pad_w = self.padding
        if pad_t:
            x_BCTHW = F.pad(x_BCTHW, (0, 0, 0, 0, pad_t, pad_t), mode="replicate")
        padding = (0, pad_h, pad_w)
        return F.conv3d(x_BCTHW, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def inflate(
    model_2d: nn.Module, *, kernels_t: Mapping[str, int] | None = None, strides_t: Mapping[str, int] | None = None
) -> nn.Module:
    """A copy of an image network of torchvision that takes videos, (B, C, T, H, W), with the image network's weights.

    Every 2D filter is repeated over time and divided by the number of repetitions, so a video of one repeated frame
    gives the image network's output (Carreira and Zisserman, section 2.2). Names of modules and weights stay. Known to
    serve: ResNets, VGG, AlexNet, GoogLeNet.

    Args:
        model_2d: the image network, of the modules that ``in_3d`` knows; it is not changed.
        kernels_t: see ``in_3d``.
        strides_t: see ``in_3d``.
    """
    model_3d = in_3d(model_2d, kernels_t=kernels_t, strides_t=strides_t)
    model_3d.load_state_dict(inflated(model_2d.state_dict(), model_3d))
    return model_3d.train(model_2d.training)


def in_3d(
    model_2d: nn.Module, *, kernels_t: Mapping[str, int] | None = None, strides_t: Mapping[str, int] | None = None
) -> nn.Module:
    """As ``inflate``, with fresh weights in the convolutions.

    Args:
        model_2d: the image network. It is not changed.
        kernels_t: module name -> extent in time, for convolutions and poolings whose extent is not that in space. An
            even one in space stays 1 in time where the module does not stride in time.
        strides_t: module name -> stride in time where it is not 1.

    Raises:
        TypeError: for a 2D layer other than Conv2d, BatchNorm2d, MaxPool2d and AdaptiveAvgPool2d.
        KeyError: for a name that no module has.
    """
    kernels_t, strides_t = dict(kernels_t or {}), dict(strides_t or {})
    model_3d = copy.deepcopy(model_2d)
    if unknown := {*kernels_t, *strides_t} - dict(model_3d.named_modules()).keys():
        raise KeyError(f"the network has no modules called {sorted(unknown)}")
    for name, layer in list(model_3d.named_modules()):
        if any(True for _ in layer.children()):
            continue
        stride_t = strides_t.get(name, 1)
        if isinstance(layer, nn.Conv2d):
            new: nn.Module = _conv(layer, kernels_t.get(name), stride_t)
        elif isinstance(layer, nn.MaxPool2d):
            new = _max_pool(layer, kernels_t.get(name), stride_t)
        elif isinstance(layer, nn.BatchNorm2d):
            new = nn.BatchNorm3d(layer.num_features, layer.eps, layer.momentum)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            new = nn.AdaptiveAvgPool3d((1, *_pair(layer.output_size)))
        elif type(layer).__name__.endswith("2d"):
            raise TypeError(f"{name} is a {type(layer).__name__}, which cannot be inflated")
        else:
            continue
        parent, _, child = name.rpartition(".")
        model_3d.get_submodule(parent).register_module(child, new)
    return model_3d


def inflated(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights of an image network with the shapes of ``network``, which has the same names.

    Filters are repeated over time and divided by their number. A filter over the three colours where ``network`` has
    another number of channels (of flow) becomes their mean, repeated (cross-modality initialisation: L. Wang et al.,
    "Temporal Segment Networks", ECCV 2016). All else stays as it is.
    """
    own = network.state_dict()
    fitted = {}
    for name, value in weights.items():
        shape = own[name].shape if name in own else value.shape
        if value.ndim == 4 and len(shape) == 5:
            value = value[:, :, None].expand(-1, -1, shape[2], -1, -1) / shape[2]
        if value.ndim == len(shape) >= 4 and value.shape[1] == 3 != shape[1]:
            value = value.mean(1, keepdim=True).expand(-1, shape[1], *value.shape[2:])
        fitted[name] = value
    return fitted


def with_channels(model_2d: nn.Module, channels: int) -> None:
    """Put a fresh convolution in the place of an image network's first, if that takes another number of channels."""
    name, first = next((n, m) for n, m in model_2d.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == channels:
        return
    kernel, stride, padding = _pair(first.kernel_size), _pair(first.stride), _pair(first.padding)
    conv = nn.Conv2d(channels, first.out_channels, kernel, stride, padding, bias=first.bias is not None)
    parent, _, child = name.rpartition(".")
    model_2d.get_submodule(parent).register_module(child, conv)


def _conv(conv: nn.Conv2d, kernel_t: int | None, stride_t: int) -> InflatedConv:
    assert not isinstance(conv.padding, str) and conv.padding_mode == "zeros"
    k = _extent_t(conv.kernel_size[0], stride_t) if kernel_t is None else kernel_t
    new = InflatedConv(
        conv.in_channels,
        conv.out_channels,
        (k, *_pair(conv.kernel_size)),
        (stride_t, *_pair(conv.stride)),
        (k // 2, *_pair(conv.padding)),
        (1, *_pair(conv.dilation)),
        conv.groups,
        conv.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new


def _max_pool(pool: nn.MaxPool2d, kernel_t: int | None, stride_t: int) -> nn.MaxPool3d:
    """Where it strides it meets the ends of the clip as it meets the frame's borders; else it keeps every frame."""
    kernel, padding = _pair(pool.kernel_size), _pair(pool.padding)
    k = _extent_t(kernel[0], stride_t) if kernel_t is None else kernel_t
    pad_t = k // 2 if stride_t == 1 else padding[0]
    stride = (stride_t, *_pair(pool.stride))
    return nn.MaxPool3d((k, *kernel), stride, (pad_t, *padding), ceil_mode=pool.ceil_mode)


def _extent_t(extent: int, stride_t: int) -> int:
    return extent if extent % 2 or stride_t > 1 else 1


def _pair(value: object) -> tuple[int, int]:
    a, b = value if isinstance(value, (tuple, list)) else (value, value)
    assert isinstance(a, int) and isinstance(b, int)
    return a, b


def clip_of(modality: Modality, rgb: ClipSpec) -> ClipSpec:
    """The clips of a network for flow where those of its sibling for frames are ``rgb``."""
    return rgb if modality == "rgb" else replace(rgb, modality="flow", channels=2, mean=FLOW_MEAN, std=FLOW_STD)


@BACKBONES.register("i3d")
def i3d(*, modality: Modality = "rgb") -> Backbone:
    """I3D, Inception-v1 with batch norm inflated, 12 M parameters (Carreira and Zisserman, CVPR 2017).

    ``modality`` is rgb or flow; the two are the streams of two-stream I3D, whose scores an evaluation fuses. Weights
    are its own, or those of torchvision's GoogLeNet: inflated, and averaged over the colours for flow.
    """
    net_2d = torchvision_net("googlenet", aux_logits=False, init_weights=False)
    clip = clip_of(modality, ClipSpec(frames=64, size=224, mean=(0.5,) * 3, std=(0.5,) * 3, min_frames=3))
    with_channels(net_2d, clip.channels)
    kernels_t, strides_t = {"maxpool1": 1, "maxpool2": 1}, {"conv1.conv": 2, "maxpool3": 2, "maxpool4": 2}
    net = in_3d(net_2d, kernels_t=kernels_t, strides_t=strides_t)
    parts = {
        "conv1": ("conv1", "maxpool1"),
        "conv2": ("conv2", "conv3", "maxpool2"),
        "mixed3": ("inception3a", "inception3b"),
        "mixed4": ("maxpool3", *(f"inception4{letter}" for letter in "abcde")),
        "mixed5": ("maxpool4", "inception5a", "inception5b"),
    }
    stages = {stage: nn.Sequential(*map(net.get_submodule, names)) for stage, names in parts.items()}
    published = Published(net, ("fc.", "aux1.", "aux2."), "googlenet", inflated)
    return chain(stages, feature_dim=1024, strides=(8, 32, 32), clip=clip, published=published)


def _i3d_resnet(name: str, feature_dim: int) -> Callable[..., Backbone]:
    def build(*, modality: Modality = "rgb") -> Backbone:
        net_2d = torchvision_net(name)
        rgb = ClipSpec(frames=32, size=224, fps=15.0, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        clip = clip_of(modality, rgb)
        with_channels(net_2d, clip.channels)
        net = in_3d(net_2d, kernels_t={"conv1": 5}, strides_t={"conv1": 2, "maxpool": 2})
        half_time = nn.MaxPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0))
        parts = {"stem": ("conv1", "bn1", "relu", "maxpool"), **{f"layer{n}": (f"layer{n}",) for n in range(1, 5)}}
        stages = {stage: nn.Sequential(*map(net.get_submodule, names)) for stage, names in parts.items()}
        stages["layer1"].append(half_time)
        published = Published(net, ("fc.",), name, inflated)
        return chain(stages, feature_dim=feature_dim, strides=(8, 32, 32), clip=clip, published=published)

    depth, millions = name.removeprefix("resnet"), {"resnet18": 33, "resnet50": 46}[name]
    build.__doc__ = (
        f"ResNet-{depth} inflated, {millions} M parameters (Wang et al., 'Non-local Neural Networks', CVPR 2018).\n\n"
        "Every 3x3 convolution becomes 3x3x3, the first one 5x7x7; it and the two poolings halve the frames. "
        "``modality`` is rgb or flow. Weights are its own, or torchvision's of the ResNet: inflated, and averaged over "
        "the colours for flow."
    )
    return build


BACKBONES.register("i3d_resnet18")(_i3d_resnet("resnet18", 512))
BACKBONES.register("i3d_resnet50")(_i3d_resnet("resnet50", 2048))
