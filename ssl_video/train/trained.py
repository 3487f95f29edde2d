"""What is trained, as a process holds it: weights, optimiser and moving average, whole on every process."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssl_video.backbones.weights import check_layout, check_numbers, current_names
from ssl_video.checkpoints import Pieces, in_parts
from ssl_video.train.config import TrainingConfig
from ssl_video.train.distributed import Ranks
from ssl_video.train.log import check_weights
from ssl_video.train.objective import Objective, Output, Progress
from ssl_video.train.optim import build_optimizer
from ssl_video.train.resuming import Found


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """How ``AveragedModel`` follows a list of tensors of one type: whole numbers, tables and counts, are copied.

    Torch's own would average and cut them.
    """
    of_floats = get_ema_multi_avg_fn(decay)

    def follow(averaged: list[Tensor], current: list[Tensor], count: Any) -> None:
        if averaged[0].is_floating_point():
            of_floats(averaged, current, count)
            return
        for ours, theirs in zip(averaged, current, strict=True):
            ours.copy_(theirs)

    return follow


class Trained:
    """``objective`` as one process trains it, or many of which each holds all (DistributedDataParallel).

    Making one is the order of a training: the objective, built and fitted, is wrapped; the optimiser and the moving
    average are made of what it is then; ``load`` puts a checkpoint into all of them. ``module`` has the parameters that
    are trained.
    """

    average: AveragedModel | None = None

    def __init__(self, objective: Objective, config: TrainingConfig, ranks: Ranks):
        self.objective, self.config, self.ranks = objective, config, ranks
        self.module = objective
        self.wrapped = self._wrap()
        self.optimizer = build_optimizer(config.optim, self.module)
        if config.optim.ema is not None:
            self.average = self._averaged(config.optim.ema)
            self.average.n_averaged = self.average.n_averaged.cpu()  # which is looked at in every step

    def _wrap(self) -> nn.Module:
        """The module whose forward pass trains ``module``. All start with the first rank's tensors."""
        if self.ranks.world_size == 1:
            return self.module
        if self.config.sync_bn:
            nn.SyncBatchNorm.convert_sync_batchnorm(self.module)  # in place below the root
        wrapped = DistributedDataParallel(self.module, gradient_as_bucket_view=True)
        if self.config.gradients == "bf16":
            wrapped.register_comm_hook(None, bf16_compress_hook)
        return wrapped

    def _averaged(self, decay: float) -> AveragedModel:
        return AveragedModel(self.module, multi_avg_fn=averaging(decay), use_buffers=True)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What a checkpoint has the weights of, by its names there."""
        return {"pretext": self.module} | ({} if self.average is None else {"average": self.average})

    def forward(self, batch: Mapping[str, Tensor], ctx: Any) -> Output:
        """The loss of this process's part of a batch."""
        return self.wrapped(batch, ctx)

    def no_sync(self, skip: bool) -> AbstractContextManager[Any]:
        """In this context, if ``skip``, gradients stay on their rank: they are summed up over several batches first."""
        return self.wrapped.no_sync() if skip and isinstance(self.wrapped, DistributedDataParallel) else nullcontext()

    def clip_gradients(self) -> Tensor | None:
        """Scale the gradient of all parameters together as configured; its norm before, where there is one to keep."""
        norm = self.config.optim.clip_norm
        return None if norm is None else nn.utils.clip_grad_norm_(self.module.parameters(), norm)

    def step(self, progress: Progress) -> None:
        """Change the weights, and what follows them; ``progress`` counts this step."""
        self.optimizer.step()
        self.module.after_step(progress)
        if self.average is not None:
            self.average.update_parameters(self.module)

    def check(self, step: int) -> None:
        """Raise UserError, on all ranks, if a weight is not finite once ``step`` steps are done."""
        check_weights(self.modules.values(), step)

    @contextmanager
    def counting(self) -> Iterator[Objective]:
        """What counts, whole, with the first rank's buffers on all of them: for monitors."""
        counts = self.module if self.average is None else cast(Objective, self.average.module)
        self.ranks.equalise(counts)
        yield counts

    def finished(self) -> Objective:
        """What counts, at the end; ``objective`` is what was trained."""
        return self.module if self.average is None else cast(Objective, self.average.module)

    def state(self, step: int) -> dict[str, Any]:
        """All that a resumed training needs, as tensors and numbers."""
        state = {name: module.state_dict() for name, module in self.modules.items()}
        return state | {"optimizer": self.optimizer.state_dict(), "step": step}

    def load(self, found: Found | None) -> int:
        """Put what was found (``resuming.opened``) into place; the steps done, 0 if there is nothing.

        Raises:
            UserError: on all ranks, for weights that do not fit, or are not finite.
        """
        if found is None:
            return 0
        state = found.checked(self._checked)
        with torch.no_grad():
            for name, module in self.modules.items():
                for key, own in module.state_dict().items():
                    if key in state[name]:  # or it is the counter of a batch norm, which old files lack
                        self._put(own, found.tensor(state[name][key]))
        scales = [{k: group[k] for k in ("lr_scale", "decay_scale")} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(self._moments(state["optimizer"], found))
        for group, scale in zip(self.optimizer.param_groups, scales, strict=True):  # they are configuration, not state
            group.update(scale)
        return state["step"]

    def _checked(self, state: Mapping[str, Any], numbers: bool) -> dict[str, Any]:
        """The state with names of today; with ``numbers`` these are looked at, too. Raises UserError."""
        what, checked = f"The checkpoint of step {state['step']}", dict(state)
        for name, module in self.modules.items():
            own = module.state_dict()
            checked[name] = weights = current_names(state[name], own)
            check_layout(own, weights, what)
            for some in in_parts(weights) if numbers else ():
                check_numbers(module, some, what)
        return checked

    def _moments(self, noted: Mapping[str, Any], found: Found) -> dict[str, Any]:
        """The optimiser's state, whose tensors are this process's own."""
        parameters = list(chain.from_iterable(group["params"] for group in self.optimizer.param_groups))

        def own(like: Tensor, x: Any) -> Any:
            return self._moment(like, found.tensor(x)) if found.is_tensor(x) else x

        moments = {n: {k: own(parameters[n], x) for k, x in of_one.items()} for n, of_one in noted["state"].items()}
        return {**noted, "state": moments}

    def _put(self, own: Tensor, x: Tensor | Pieces) -> None:
        """Set a tensor of a module."""
        own.copy_(x.rows() if isinstance(x, Pieces) else x)

    def _moment(self, like: Tensor, x: Tensor | Pieces) -> Tensor:
        """What the optimiser keeps of a parameter, in its layout, or counts."""
        x = x.rows() if isinstance(x, Pieces) else x
        return torch.empty_like(like, dtype=x.dtype).copy_(x) if x.shape == like.shape else x.clone()
