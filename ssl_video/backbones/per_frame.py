"""Image networks of torchvision, applied to every frame."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from ssl_video.backbones.base import (
    BACKBONES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    ClipSpec,
    PerFrame,
    chain,
    torchvision_net,
)
from ssl_video.backbones.weights import Published
from ssl_video.errors import UserError

if TYPE_CHECKING:
    from torchvision.models import ResNet

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
VGGS = ("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")
FRAMES = ClipSpec(frames=8, size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, min_size=32)


def dense_resnet(net: "ResNet", output_stride: int) -> None:
    """Give ``net`` the output stride 8, 16 or 32 by letting its last layers stride by 1, without dilation.

    So the networks of correspondence are made, and the weights stay as they are (Wang et al., "Learning Correspondence
    from the Cycle-consistency of Time", 2019; Jabri et al., "Space-Time Correspondence as a Contrastive Random Walk",
    2020).

    Raises:
        UserError: for another output stride.
    """
    layers = {32: (), 16: (net.layer4,), 8: (net.layer3, net.layer4)}.get(output_stride)
    if layers is None:
        raise UserError(f"The output_stride of a ResNet is 8, 16 or 32, not {output_stride}.")
    for layer in layers:
        for m in layer.modules():
            if isinstance(m, nn.Conv2d):
                m.stride = (1, 1)


def _resnet(name: str) -> Callable[..., Backbone]:
    def build(*, output_stride: int = 32) -> Backbone:
        net: ResNet = torchvision_net(name)
        dense_resnet(net, output_stride)
        return chain(
            frame_stages(net),
            feature_dim=net.fc.in_features,
            strides=(1, output_stride, output_stride),
            clip=FRAMES,
            published=Published(net, heads=("fc.",), torchvision=name),
        )

    depth = name.removeprefix("resnet")
    build.__doc__ = (
        f"ResNet-{depth} on every frame (He et al., 'Deep Residual Learning for Image Recognition', CVPR 2016).\n\n"
        "``output_stride`` 16 or 8 gives denser maps with the same weights."
    )
    return build


def _plain(name: str, feature_dim: int, min_size: int, paper: str) -> Callable[..., Backbone]:
    def build() -> Backbone:
        net = torchvision_net(name)
        clip, published = replace(FRAMES, min_size=min_size), Published(net, ("classifier.",), name)
        return chain(frame_stages(net), feature_dim=feature_dim, strides=(1, 32, 32), clip=clip, published=published)

    build.__doc__ = f"{name} on every frame, up to its last pooling ({paper})."
    return build


def frame_stages(net: nn.Module) -> dict[str, nn.Module]:
    """The stages of a ResNet, AlexNet or VGG of torchvision before its last pooling, applied to every frame."""
    from torchvision.models import ResNet

    if isinstance(net, ResNet):
        parts = {"stem": nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)}
        parts |= {layer: net.get_submodule(layer) for layer in ("layer1", "layer2", "layer3", "layer4")}
    else:
        parts = plain_stages(net.get_submodule("features").children())
    return {name: PerFrame(part) for name, part in parts.items()}


def plain_stages(modules: Iterable[nn.Module]) -> dict[str, nn.Sequential]:
    """conv1, conv2, ...: one convolution each, with what follows it."""
    layers = list(modules)
    starts = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    parts = [nn.Sequential(*layers[a:b]) for a, b in zip(starts, [*starts[1:], len(layers)], strict=True)]
    return {f"conv{number}": part for number, part in enumerate(parts, 1)}


for _name in RESNETS:
    BACKBONES.register(_name)(_resnet(_name))
for _name in VGGS:
    _paper = "Simonyan and Zisserman, 'Very Deep Convolutional Networks', ICLR 2015"
    BACKBONES.register(_name)(_plain(_name, 512, 32, _paper))
_paper = "Krizhevsky, 'One Weird Trick for Parallelizing Convolutional Neural Networks', 2014"
BACKBONES.register("alexnet")(_plain("alexnet", 256, 63, _paper))
