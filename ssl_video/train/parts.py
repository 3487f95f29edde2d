"""The parts of a network that are sharded, compiled or computed again by themselves: blocks, or stages.

A part runs by a ``Pass`` in the place of its own forward pass, so that names, classes and hooks stay as they are.
"""

import functools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ssl_video.backbones.base import Backbone
from ssl_video.backbones.vit_blocks import DividedBlock, JointBlock
from ssl_video.errors import UserError, nearest

BACKEND = "inductor"
"""torch.compile's."""
VARIANTS = 64
"""How many versions of one forward pass are compiled at most: stages share theirs, being sequences of layers."""


def parts_of(module: nn.Module) -> list[nn.Module]:
    """The parts of all backbones in ``module``, teachers among them, and all blocks of transformers, each once."""
    found = [part for m in module.modules() if isinstance(m, Backbone) for part in m.parts.values()]
    found += [m for m in module.modules() if isinstance(m, JointBlock | DividedBlock)]
    return list(dict.fromkeys(found))


def named_parts(backbone: Backbone, names: str) -> list[nn.Module]:
    """The parts called ``names``, with commas between, or all of them. Raises UserError for one that is not there."""
    if names == "all":
        return list(backbone.parts.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in backbone.parts:
            raise UserError(
                f"--checkpoint-activations {names}: {backbone.architecture} has no part {name!r}; "
                f"{nearest(name, ['all', *backbone.parts])}"
            )
    return [backbone.parts[name] for name in wanted]


def set_passes(module: nn.Module, again: Iterable[nn.Module], compiled: bool) -> None:
    """Have the parts of ``module`` run so. Raises UserError where nothing can be compiled."""
    repeated = set(again)
    if compiled:
        check_compiler()
    for part in dict.fromkeys([*parts_of(module), *repeated]):
        if isinstance(part.__dict__.get("forward"), Pass):  # of an earlier training
            del part.forward
        if compiled or part in repeated:
            part.forward = Pass(part, compiled, part in repeated)


@dataclass(eq=False)
class Pass:
    """The forward pass of a part: compiled or not; with ``again`` its activations are not kept for the gradient.

    They are computed again with the same random numbers, and no buffer is changed a second time: the statistics of a
    batch norm are those of one pass. A copy of the part has a copy of it.
    """

    part: nn.Module
    compiled: bool
    again: bool

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        """What the part makes of its inputs."""
        own = type(self.part).forward
        run = partial(_compiled(own) if self.compiled else own, self.part)
        if not (self.again and torch.is_grad_enabled()):
            return run(*inputs, **more)
        contexts = partial(_contexts, self.part)
        return checkpoint(run, *inputs, use_reentrant=False, context_fn=contexts, **more)


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Around the pass, and around its repetition."""
    return nullcontext(), kept_buffers(part)


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """In this context the module changes copies of its buffers."""
    own = [(m, name, x) for m in module.modules() for name, x in m._buffers.items() if x is not None]
    for m, name, x in own:
        m._buffers[name] = x.clone()
    try:
        yield
    finally:
        for m, name, x in own:
            m._buffers[name] = x


def check_compiler() -> None:
    """Raise UserError where torch.compile cannot work: it writes code for a compiler of the system."""
    if BACKEND != "inductor":
        return
    if sys.platform == "win32" or not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UserError("--compile needs a C++ compiler, and there is none; install g++, or leave --compile out.")


@functools.cache
def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward pass compiled, for all parts of its class."""
    import torch._dynamo.config
    from torch._dynamo.exc import TorchDynamoException

    torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)
    compiled = torch.compile(forward, backend=BACKEND)

    def run(*inputs: Any, **more: Any) -> Any:
        try:
            return compiled(*inputs, **more)
        except TorchDynamoException as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise UserError(f"The network could not be compiled ({reason}); leave --compile out.") from error

    return run
