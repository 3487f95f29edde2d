"""The temporal stream of two-stream networks: an image network that sees a stack of flow fields.

K. Simonyan, A. Zisserman: "Two-Stream Convolutional Networks for Action Recognition in Videos", NeurIPS 2014. The
spatial stream is any network that is applied to every frame; an evaluation fuses the scores of the two.
"""

from typing import Literal

from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, FLOW_MEAN, FLOW_STD, Backbone, ClipSpec, chain, torchvision_net
from ssl_video.backbones.inflation import inflated, with_channels
from ssl_video.backbones.per_frame import frame_stages
from ssl_video.backbones.weights import Published

LENGTH = 10  # L, flow fields of a stack
TRUNKS = {"resnet18": (512, "fc.", 32), "vgg16": (512, "classifier.", 32), "alexnet": (256, "classifier.", 63)}


def stacked(flow_BCTHW: Tensor) -> Tensor:
    """Every L flow fields as the channels of one image: dx, dy of the first field, then of the second, ... (eq. 1).

    (B, 2, SL, H, W) -> (B, 2L, S, H, W).
    """
    flow_BSLCHW = flow_BCTHW.transpose(1, 2).unflatten(1, (-1, LENGTH))
    return flow_BSLCHW.flatten(2, 3).transpose(1, 2)


class Stack(nn.Module):
    """``stacked`` fields, the mean of each subtracted: a global displacement is the camera's (section 3.1)."""

    def forward(self, flow_BCTHW: Tensor) -> Tensor:
        """(B, 2, L, H, W) -> (B, 2L, 1, H, W)."""
        return stacked(flow_BCTHW - flow_BCTHW.mean((3, 4), keepdim=True))


@BACKBONES.register("flow_stack")
def flow_stack(*, trunk: Literal["resnet18", "vgg16", "alexnet"] = "resnet18") -> Backbone:
    """A 2D network on 10 stacked flow fields, 11 M parameters (Simonyan and Zisserman, NeurIPS 2014).

    ``trunk`` is the 2D network (the paper's is CNN-M-2048). Weights are its own, or torchvision's of the trunk, whose
    first convolution is averaged over the colours and repeated for the 20 channels.
    """
    feature_dim, head, min_size = TRUNKS[trunk]
    net = torchvision_net(trunk)
    with_channels(net, 2 * LENGTH)
    clip = ClipSpec(
        frames=LENGTH,
        size=224,
        modality="flow",
        channels=2,
        mean=FLOW_MEAN,
        std=FLOW_STD,
        min_size=min_size,
        fixed_frames=True,
    )
    return chain(
        {"stack": Stack(), **frame_stages(net)},
        feature_dim=feature_dim,
        strides=(LENGTH, 32, 32),
        clip=clip,
        published=Published(net, (head,), trunk, inflated),
    )
