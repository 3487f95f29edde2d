"""The video networks of torchvision, without their pooling and classifiers."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, ClipSpec, chain, torchvision_net
from ssl_video.backbones.weights import Published
from ssl_video.bounds import Positive

if TYPE_CHECKING:
    from torchvision.models.video.mvit import MViT
    from torchvision.models.video.swin_transformer import SwinTransformer3d

RESNET_CLIP = ClipSpec(frames=16, size=112, fps=15.0, min_size=16)


def video_resnet(name: str, stride_t: int) -> Backbone:
    """An 18-layer network of Tran et al. 2018 in its five stages."""
    net = torchvision_net(name)
    stages = {name: net.get_submodule(name) for name in ("stem", "layer1", "layer2", "layer3", "layer4")}
    published = Published(net, heads=("fc.",), torchvision=name)
    return chain(stages, feature_dim=512, strides=(stride_t, 16, 16), clip=RESNET_CLIP, published=published)


@BACKBONES.register("r3d_18")
def r3d_18() -> Backbone:
    """R3D-18, 33 M parameters (Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018)."""
    return video_resnet("r3d_18", 8)


@BACKBONES.register("mc3_18")
def mc3_18() -> Backbone:
    """MC3-18, 3D convolutions below and 2D above, 11 M parameters (Tran et al., CVPR 2018)."""
    return video_resnet("mc3_18", 1)


@BACKBONES.register("r2plus1d_18")
def r2plus1d_18() -> Backbone:
    """R(2+1)D-18, 31 M parameters (Tran et al., CVPR 2018)."""
    return video_resnet("r2plus1d_18", 8)


@BACKBONES.register("s3d")
def s3d(*, epsilon: Positive = 1e-3) -> Backbone:
    """S3D, 8 M parameters (Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018).

    Batch norms average over tens of steps (momentum 0.1), not over the thousands of torchvision's 0.001. ``epsilon`` is
    theirs; published weights may have another one.
    """
    net = torchvision_net("s3d")
    for m in net.modules():
        if isinstance(m, nn.BatchNorm3d):
            m.momentum, m.eps = 0.1, epsilon
    layers = net.features
    assert isinstance(layers, nn.Sequential)
    bounds = {"conv1": (0, 2), "conv2": (2, 5), "mixed3": (5, 8), "mixed4": (8, 14), "mixed5": (14, 16)}
    stages = {name: layers[start:stop] for name, (start, stop) in bounds.items()}
    clip = ClipSpec(frames=64, size=224, fps=15.0, min_frames=8, min_size=32)
    published = Published(net, heads=("classifier.",), torchvision="s3d")
    return chain(stages, feature_dim=1024, strides=(8, 32, 32), clip=clip, published=published)


class MViTBlocks(nn.Module):
    """The blocks of an MViT on a map of patches; the class token lives inside and is not put out.

    Any size will do: relative positions are interpolated by torchvision's attention to the map it meets, and absolute
    ones (MViTv1) here, linearly in time and in space.
    """

    def __init__(self, net: "MViT"):
        super().__init__()
        self.pos_encoding, self.blocks, self.norm = net.pos_encoding, net.blocks, net.norm

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """(B, D, t, h, w) -> (B, D', t, h/8, w/8)."""
        _, _, t, h, w = x_BDthw.shape
        thw = (t, h, w)
        x_BND = self.tokens(x_BDthw)
        for block in self.blocks:
            x_BND, thw = block(x_BND, thw)
        return self.norm(x_BND)[:, 1:].transpose(1, 2).unflatten(2, thw)

    def tokens(self, x_BDthw: Tensor) -> Tensor:
        """(B, D, t, h, w) -> (B, 1 + thw, D), the class token first, with positions where they are absolute."""
        B, D, t, h, w = x_BDthw.shape
        p = self.pos_encoding
        first_BD = p.class_token.expand(B, -1)
        if p.spatial_pos is not None and p.temporal_pos is not None and p.class_pos is not None:
            space_1Dhw = p.spatial_pos.T.reshape(1, D, *p.spatial_size)
            space_1Dhw = F.interpolate(space_1Dhw, (h, w), mode="bilinear", align_corners=False)
            time_1Dt = F.interpolate(p.temporal_pos.T[None], t, mode="linear", align_corners=False)
            x_BDthw = x_BDthw + space_1Dhw[:, :, None] + time_1Dt[..., None, None]
            first_BD = first_BD + p.class_pos
        return torch.cat([first_BD[:, None], x_BDthw.flatten(2).transpose(1, 2)], dim=1)


def _mvit(name: str) -> Backbone:
    """The blocks are one stage, because the class token runs through all of them."""
    net: MViT = torchvision_net(name)
    clip = ClipSpec(frames=16, size=224, fps=7.5, mean=(0.45,) * 3, std=(0.225,) * 3, min_size=32)
    stages = {"patches": net.conv_proj, "blocks": MViTBlocks(net)}
    published = Published(net, heads=("head.",), torchvision=name)
    return chain(stages, feature_dim=768, strides=(2, 32, 32), clip=clip, published=published)


@BACKBONES.register("mvit_v1_b")
def mvit_v1_b() -> Backbone:
    """MViTv1-B, 36 M parameters (Fan et al., "Multiscale Vision Transformers", ICCV 2021)."""
    return _mvit("mvit_v1_b")


@BACKBONES.register("mvit_v2_s")
def mvit_v2_s() -> Backbone:
    """MViTv2-S, 34 M parameters (Li et al., "MViTv2: Improved Multiscale Vision Transformers", CVPR 2022)."""
    return _mvit("mvit_v2_s")


class ChannelsLast(nn.Module):
    """Modules of maps (B, t, h, w, D) in a chain of maps (B, D, t, h, w)."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """(B, D, t, h, w) -> (B, D', t, h', w')."""
        return self.layers(x_BDthw.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class Patches(nn.Module):
    """Swin's patch embedding with the channels where a map has them."""

    def __init__(self, net: "SwinTransformer3d"):
        super().__init__()
        self.patch_embed = net.patch_embed

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, t, h, w)."""
        return self.patch_embed(clip_BCTHW).permute(0, 4, 1, 2, 3)


def _swin(name: str) -> Backbone:
    net: SwinTransformer3d = torchvision_net(name)
    f = net.features
    stages = {
        "patches": Patches(net),
        "stage1": ChannelsLast(f[0]),
        "stage2": ChannelsLast(f[1], f[2]),
        "stage3": ChannelsLast(f[3], f[4]),
        "stage4": ChannelsLast(f[5], f[6], net.norm),
    }
    clip = replace(ClipSpec(frames=32, size=224, fps=15.0), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    published = Published(net, heads=("head.",), torchvision=name)
    return chain(stages, feature_dim=net.num_features, strides=(2, 32, 32), clip=clip, published=published)


@BACKBONES.register("swin3d_t")
def swin3d_t() -> Backbone:
    """Video Swin-T, 28 M parameters (Liu et al., "Video Swin Transformer", CVPR 2022)."""
    return _swin("swin3d_t")


@BACKBONES.register("swin3d_s")
def swin3d_s() -> Backbone:
    """Video Swin-S, 50 M parameters (Liu et al., "Video Swin Transformer", CVPR 2022)."""
    return _swin("swin3d_s")


@BACKBONES.register("swin3d_b")
def swin3d_b() -> Backbone:
    """Video Swin-B, 88 M parameters (Liu et al., "Video Swin Transformer", CVPR 2022)."""
    return _swin("swin3d_b")
