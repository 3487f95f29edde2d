"""From what a network gives to one vector a clip."""

from torch import Tensor, cat
from torch.nn import functional as F

from ssl_video.backbones.base import Backbone
from ssl_video.capabilities import TokenNetwork, Tokens, WholeTokens
from ssl_video.errors import UserError

MAP_READOUTS = ("avg", "max", "rich", "conv5")
READOUTS = (*MAP_READOUTS, "cls")


def pool(features_BDthw: Tensor, readout: str) -> Tensor:
    """A feature map as one vector a clip.

    ``avg``: mean over space and time. ``max``: maximum over space, mean over time. ``rich``: both of these and the
    standard deviation over time of the spatial maximum. ``conv5``: maximum over cells of 1x2x2, flattened (the
    retrieval features of Xu et al., "Self-Supervised Spatiotemporal Learning via Video Clip Order Prediction", 2019).
    """
    if readout == "avg":
        return features_BDthw.mean((2, 3, 4))
    if readout == "conv5":
        kernel = (1, min(2, features_BDthw.shape[3]), min(2, features_BDthw.shape[4]))
        return F.max_pool3d(features_BDthw, kernel).flatten(1)
    peak_BDt = features_BDthw.amax((3, 4))
    if readout == "max":
        return peak_BDt.mean(2)
    if readout == "rich":
        spread = peak_BDt.std(2, correction=0)
        return cat([peak_BDt.mean(2), features_BDthw.mean((2, 3, 4)), spread], dim=1)
    raise UserError(f"There is no readout {readout!r} of a map; there are: {', '.join(MAP_READOUTS)}.")


def class_token(backbone: Backbone, clip_BCTHW: Tensor) -> Tensor:
    """(B, D) class token behind the last block, on average over those of the frames where each frame has one.

    Raises UserError for a network without one.
    """
    backbone.clip.check(backbone.architecture, clip_BCTHW)
    network = backbone.network
    tokens: Tokens | None = None
    if isinstance(network, WholeTokens):
        tokens = network.tokens(clip_BCTHW)
    elif isinstance(network, TokenNetwork):
        tokens = network.blocks(network.embed(clip_BCTHW))
    if tokens is not None and (is_class_BN := tokens.ids_BN == -1).any(1).all():
        return tokens.x_BND[is_class_BN].unflatten(0, (len(clip_BCTHW), -1)).mean(1)
    raise UserError(f"{backbone.architecture} has no class token to read; take one of {', '.join(MAP_READOUTS)}.")
