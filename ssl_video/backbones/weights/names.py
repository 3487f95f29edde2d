"""How others name the weights of our networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


def as_they_are(weights: Mapping[str, Tensor], _network: nn.Module) -> Mapping[str, Tensor]:
    """Published weights that fit without a change."""
    return weights


@dataclass(frozen=True)
class Published:
    """How others name the weights of a network, so that their files can be loaded into it.

    Args:
        network: the network under its published names; a backbone's stages are made of its modules.
        heads: prefixes of the names that the backbone leaves out, such as ``"fc."``.
        torchvision: the name under which torchvision publishes weights, if it does.
        adapt: (published weights, ``network``) -> weights of the network's names and shapes.
    """

    network: nn.Module
    heads: tuple[str, ...] = ()
    torchvision: str | None = None
    adapt: Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]] = as_they_are

    def names_of(self, backbone: nn.Module) -> "Names":
        """How the tensors of ``backbone``, which is made of the modules of ``network``, are called there."""
        of_tensor = {id(v): k for k, v in self.network.state_dict(keep_vars=True).items()}
        own = backbone.state_dict(keep_vars=True)
        published = {k: of_tensor[id(v)] for k, v in own.items() if id(v) in of_tensor}
        return Names(published, self.heads, self.torchvision if self.adapt is as_they_are else None)


@dataclass(frozen=True)
class Names:
    """What is kept of ``Published`` once a network is built.

    ``published`` are others' names of its own keys. ``torchvision`` names torchvision's network of the same tensors.
    """

    published: Mapping[str, str]
    heads: tuple[str, ...]
    torchvision: str | None


def own_names(weights: Mapping[str, Tensor], names: Names | None) -> dict[str, Tensor]:
    """Weights of a backbone under its own names, whichever of its two kinds of names they have."""
    own = {} if names is None else {published: k for k, published in names.published.items()}
    return {own.get(k, k): v for k, v in weights.items()}
