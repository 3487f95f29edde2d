"""LRCN: an LSTM reads the features of single frames.

J. Donahue et al.: "Long-term Recurrent Convolutional Networks for Visual Recognition and Description", CVPR 2015.
M. Baccouche et al., "Sequential Deep Learning for Human Action Recognition", 2011.
"""

from dataclasses import replace

from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, chain
from ssl_video.backbones.karpathy import WIDTH, frame_network
from ssl_video.bounds import Count


class LSTMOverTime(nn.Module):
    """The states of an LSTM that reads the spatial means of a map from the first frame to the last."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)

    def forward(self, x_BDThw: Tensor) -> Tensor:
        """(B, D, T, h, w) -> (B, hidden, T, 1, 1): the state after each frame."""
        states_BTD, _ = self.lstm(x_BDThw.mean((3, 4)).transpose(1, 2))
        return states_BTD.transpose(1, 2)[..., None, None]


@BACKBONES.register("lrcn")
def lrcn(*, trunk: str = "alexnet", width: Count = WIDTH, hidden: Count = 256) -> Backbone:
    """LRCN, 3.0 M parameters: a 2D network on every frame, then an LSTM over time (Donahue et al., CVPR 2015).

    The map has the LSTM's ``hidden`` state after each frame, and one cell in space. The paper's LSTM reads the first
    fully connected layer of a CaffeNet; this one reads the spatial mean of the last map, so that any trunk will do.
    ``trunk`` and ``width`` are those of ``karpathy.frame_network``.
    """
    network = frame_network(trunk, width)
    stages = {**network.stages, "lstm": LSTMOverTime(network.feature_dim, hidden)}
    clip = replace(network.clip, frames=16)
    return chain(stages, feature_dim=hidden, strides=(1, 0, 0), clip=clip, published=network.published)
