"""A video as two pictures, and where each of its points lies on them.

Y. Kasten, D. Ofri, O. Wang, T. Dekel: "Layered Neural Atlases for Consistent Video Editing", SIGGRAPH Asia 2021. Two
mappings take a point of the video to the foreground's and to the background's atlas, an opacity mixes what these show.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_video.implicit import atlas_losses as losses
from ssl_video.implicit.coordinates import RATE, TABLE_RATE
from ssl_video.implicit.encodings import HashGrid, layers, resolutions
from ssl_video.implicit.footage import Footage, colours_at, draw_between, draw_matches, draw_pixels
from ssl_video.implicit.motion import Start

HIDDEN = 64
LEVELS, FEATURES = 8, 4
FAR = 100 / 768
"""Distance over which mappings have to be rigid at first, of the longer side: 100 of the paper's 768 pixels."""
FAR_UNTIL, BOOTSTRAP_UNTIL = 0.05, 0.15
"""How much of the training is over when that, and the coarse mask, no longer count. Theirs are numbers of steps."""

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Layers:
    """Points on the layers: places on both atlases, not limited, and the opacity of the foreground, 0 to 1."""

    front_N2: Tensor
    back_N2: Tensor
    opacity_N: Tensor


class LayeredAtlas(nn.Module):
    """Two atlases, their mappings, and the opacity.

    Args:
        size: frames, rows and columns of the video.
        start: where the mappings begin, see ``start_of``.
    """

    front_T2: Tensor
    back_T23: Tensor
    middle_2: Tensor
    scales_2: Tensor
    last_3: Tensor

    def __init__(self, size: tuple[int, int, int], start: Start | None = None):
        super().__init__()
        start = start or Start.still(size)
        frames, height, width = size
        self.front_map = _last_zero(layers([3, HIDDEN, HIDDEN, HIDDEN, 2]))
        self.back_map = _last_zero(layers([3, HIDDEN, HIDDEN, 2]))
        last = [max(1, n - 1) for n in (width, height, frames)]
        opaque = [max(1, n // 2) for n in last]
        coarsest = [min(8, a) for a in opaque[:2]] + [min(4, opaque[2])]
        self.opacity_grid = HashGrid(resolutions(coarsest, opaque, 6), 2)
        self.opacity = layers([self.opacity_grid.width, HIDDEN, 1])
        scales = [float(s) for s in start.scales_2]
        self.grids, self.colours = nn.ModuleList(), nn.ModuleList()
        for scale in scales:  # cells of a pixel each
            cells = max(16, min(512, round(max(width, height) / scale)))
            self.grids.append(HashGrid(resolutions((8, 8), (cells, cells), LEVELS), FEATURES))
            self.colours.append(layers([LEVELS * FEATURES, HIDDEN, HIDDEN, 3]))
        self.register_buffer("last_3", torch.tensor(last, dtype=torch.float32), persistent=False)
        self.half_side = max(width, height) / 2
        for name in ("front_T2", "back_T23", "middle_2", "scales_2"):
            self.register_buffer(name, torch.as_tensor(getattr(start, name)).clone())

    def layers_at(self, xyt_N3: Tensor) -> Layers:
        """Where points lie. x and y are in halves of the longer side, so that pixels are square on an atlas."""
        t_N = xyt_N3[:, 2].clamp(0, len(self.front_T2) - 1)
        low_N = t_N.floor().long()
        high_N, share_N1 = (low_N + 1).clamp(max=len(self.front_T2) - 1), (t_N - low_N)[:, None]
        middle_N2 = torch.lerp(self.front_T2[low_N], self.front_T2[high_N], share_N1)
        camera_N23 = torch.lerp(self.back_T23[low_N], self.back_T23[high_N], share_N1[..., None])
        frames = self.last_3[2] + 1
        scaled_N3 = torch.cat([xyt_N3[:, :2] / self.half_side, xyt_N3[:, 2:] / (frames / 2)], 1) - 1
        camera_N2 = (camera_N23[:, :, :2] @ xyt_N3[:, :2, None])[..., 0] + camera_N23[:, :, 2]
        front_N2 = (xyt_N3[:, :2] - middle_N2) / self.half_side * self.scales_2[0] + self.front_map(scaled_N3)
        back_N2 = (camera_N2 - self.middle_2) / self.half_side * self.scales_2[1] + self.back_map(scaled_N3)
        raw_N = self.opacity(self.opacity_grid(xyt_N3 / self.last_3))[:, 0]
        return Layers(front_N2, back_N2, 0.99 * (raw_N.tanh() + 1) / 2 + 0.001)

    def colour(self, layer: int, uv_N2: Tensor) -> Tensor:
        """(N, 3) colours, 0 to 1, of the foreground's (0) or the background's (1) atlas; places outside are clamped."""
        features_NF = self.grids[layer]((uv_N2.clamp(-1, 1) + 1) / 2)
        return self.colours[layer](features_NF).sigmoid()

    def forward(self, xyt_N3: Tensor) -> Tensor:
        """(N, 3) colours of points."""
        at = self.layers_at(xyt_N3)
        return torch.lerp(self.colour(1, at.back_N2), self.colour(0, at.front_N2), at.opacity_N[:, None])

    def groups(self) -> list[dict[str, object]]:
        """Parameters with their learning rates."""
        tables = [p for grid in (self.opacity_grid, *self.grids) for p in grid.parameters()]
        known = {id(p) for p in tables}
        others = [p for p in self.parameters() if id(p) not in known]
        return [{"params": tables, "lr": TABLE_RATE / 2}, {"params": others, "lr": RATE}]

    def losses(self, footage: Footage, pixels: int, generator: torch.Generator, done: float) -> Terms:
        """The weighted terms at ``pixels`` learned points; ``done`` is how much of the training is over, 0 to 1.

        Half as many points between learned frames count for the colour, see ``footage.draw_between``.
        """
        batch = _drawn(footage, pixels, generator)
        at = self.layers_at(torch.cat([batch.seen_M3, batch.match_K3]))
        terms = _colour_terms(self, batch, at) | _rigid_terms(self, batch, at, done)
        if len(batch.match_K3):
            terms |= _flow_terms(self, batch, at)
        return terms | _mask_terms(footage, batch, at, done)


def _last_zero(network: nn.Sequential) -> nn.Sequential:
    """The layers, which give 0 everywhere at first."""
    for parameter in network[-1].parameters():
        nn.init.zeros_(parameter)
    return network


@dataclass(frozen=True)
class Batch:
    """What a step looks at: N learned points at places s among the learned frames, and what lies beside them.

    ``seen_M3`` are points with the colours ``true_M3``: the N, those to their right, those below, and then half as many
    between learned frames. ``inside_N`` is 0 where one of the first three lies outside of the frame. ``match_K3`` are
    where the N points are in another frame, with weights; K is 0 for a video of one frame, and N otherwise.
    """

    s_N: Tensor
    xyt_N3: Tensor
    seen_M3: Tensor
    true_M3: Tensor
    inside_N: Tensor
    match_K3: Tensor
    weight_K: Tensor


def _drawn(footage: Footage, count: int, generator: torch.Generator) -> Batch:
    s_N, xyt_N3 = draw_pixels(footage, count, generator)
    right_N3, below_N3 = xyt_N3 + xyt_N3.new_tensor([1, 0, 0]), xyt_N3 + xyt_N3.new_tensor([0, 1, 0])
    inside_N = ((right_N3[:, 0] < footage.size[2]) & (below_N3[:, 1] < footage.size[1])).float()
    seen_M3 = torch.cat([xyt_N3, right_N3, below_N3])
    true_M3 = colours_at(footage.frames_THWC, seen_M3[:, :2], seen_M3[:, 2].long())
    if len(footage.trained_S) == 1:
        return Batch(s_N, xyt_N3, seen_M3, true_M3, inside_N, xyt_N3[:0], inside_N[:0])
    between_B3, moved_B3 = draw_between(footage, max(1, count // 2), generator)
    match_N3, weight_N = draw_matches(footage, s_N, xyt_N3, generator)
    seen_M3, true_M3 = torch.cat([seen_M3, between_B3]), torch.cat([true_M3, moved_B3])
    return Batch(s_N, xyt_N3, seen_M3, true_M3, inside_N, match_N3, weight_N)


def _colour_terms(atlas: LayeredAtlas, batch: Batch, at: Layers) -> Terms:
    n, m = len(batch.xyt_N3), len(batch.seen_M3)
    front_M3, opacity_M1 = atlas.colour(0, at.front_N2[:m]), at.opacity_N[:m, None]
    mixed_M3, true_M3 = torch.lerp(atlas.colour(1, at.back_N2[:m]), front_M3, opacity_M1), batch.true_M3
    mixed_3N3, true_3N3 = mixed_M3[: 3 * n].view(3, n, 3), true_M3[: 3 * n].view(3, n, 3)
    terms = {
        "colour": losses.COLOUR * losses.colour_loss(mixed_M3[:n], true_M3[:n]),
        "gradient": losses.GRADIENT * losses.gradient_loss(mixed_3N3, true_3N3, batch.inside_N),
        "sparse": losses.SPARSE * losses.sparsity_loss(front_M3[:n], opacity_M1[:n, 0]),
    }
    if m > 3 * n:
        terms["between"] = losses.COLOUR * losses.colour_loss(mixed_M3[3 * n :], true_M3[3 * n :])
    return terms


def _rigid_terms(atlas: LayeredAtlas, batch: Batch, at: Layers, done: float) -> Terms:
    """Rigidity over a pixel, and at first over larger distances."""
    n, far = len(batch.xyt_N3), max(1, round(FAR * 2 * atlas.half_side))
    steps = [batch.xyt_N3.new_tensor(step) for step in ([far, 0, 0], [0, far, 0])]
    there = atlas.layers_at(torch.cat([batch.xyt_N3 + step for step in steps])) if done < FAR_UNTIL else None
    terms = {}
    for layer, name in enumerate(("front_N2", "back_N2")):
        uv, pixel = getattr(at, name), float(atlas.scales_2[layer]) / atlas.half_side
        near = losses.rigidity_loss(uv[:n], uv[n : 2 * n], uv[2 * n : 3 * n], pixel)
        terms[f"rigid_{name[:-3]}"] = losses.RIGID * near
        if there is not None:
            uv_there = getattr(there, name)
            loss = losses.rigidity_loss(uv[:n], uv_there[:n], uv_there[n:], pixel * far)
            terms[f"rigid_{name[:-3]}_far"] = losses.RIGID_FAR[layer] * loss
    return terms


def _flow_terms(atlas: LayeredAtlas, batch: Batch, at: Layers) -> Terms:
    """What corresponds lies at one place of the layer that it is seen on, and is as opaque."""
    n, m = len(batch.match_K3), len(batch.seen_M3)
    opacity_N, match_N = at.opacity_N[:n], at.opacity_N[m:]
    front, back = (float(scale) / atlas.half_side for scale in atlas.scales_2)
    seen_N = opacity_N.detach()  # the loss pulls places together; it is not to make what moves oddly transparent
    of_front = losses.flow_loss(at.front_N2[:n], at.front_N2[m:], batch.weight_K * seen_N, front)
    of_back = losses.flow_loss(at.back_N2[:n], at.back_N2[m:], batch.weight_K * (1 - seen_N), back)
    of_opacity = losses.opacity_flow_loss(opacity_N, match_N, batch.weight_K)
    return {"flow": losses.FLOW * (of_front + of_back), "opacity_flow": losses.OPACITY_FLOW * of_opacity}


def _mask_terms(footage: Footage, batch: Batch, at: Layers, done: float) -> Terms:
    """The coarse mask, at first, and the mask that was given, to the end."""
    (x_N, y_N), opacity_N = batch.xyt_N3[:, :2].long().unbind(1), at.opacity_N[: len(batch.s_N)]
    terms = {}
    if footage.masks_SHW is not None and done < BOOTSTRAP_UNTIL:
        terms["bootstrap"] = losses.BOOTSTRAP * losses.mask_loss(opacity_N, footage.masks_SHW[batch.s_N, y_N, x_N])
    if footage.given_HW is not None:
        first_N = (batch.s_N == 0).float()
        terms["given"] = losses.BOOTSTRAP * losses.mask_loss(opacity_N, footage.given_HW[y_N, x_N], first_N)
    return terms
