"""The loss of temporal cycle consistency with its gradient, all pairs at once, against a loop over pairs and steps.

    OMP_NUM_THREADS=1 python benchmarks/tcc.py      (seconds; one thread each)

Both compute the same number; the medians of rounds that take turns are compared.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ssl_video.pretexts.temporal_cycle_consistency import TemporalCycleConsistencyConfig, all_cycles, cycle_loss

CONFIG = TemporalCycleConsistencyConfig()


def batched(embeddings_NTD: Tensor, times_NT: Tensor) -> Tensor:
    """The loss as the pretext computes it."""
    logits_RT, times_RT, labels_R = all_cycles(embeddings_NTD, times_NT, CONFIG.similarity, CONFIG.temperature)
    return cycle_loss(logits_RT, labels_R, times_RT, CONFIG)


def loop_over_steps(embeddings_NTD: Tensor, times_NT: Tensor) -> Tensor:
    """The loss written down as it is explained: for every pair, for every step."""
    return looped(embeddings_NTD, times_NT, one_by_one=True)


def loop_over_pairs(embeddings_NTD: Tensor, times_NT: Tensor) -> Tensor:
    """For every pair, all steps at once, as published code does."""
    return looped(embeddings_NTD, times_NT, one_by_one=False)


def looped(embeddings_NTD: Tensor, times_NT: Tensor, one_by_one: bool) -> Tensor:
    """The mean over all cycles, collected in a list."""
    N, T, D = embeddings_NTD.shape
    losses = []
    for i in range(N):
        for j in range(N):
            if i == j:
                continue
            u_TD, v_TD = embeddings_NTD[i], embeddings_NTD[j]
            for starts in torch.arange(T).split(1 if one_by_one else T):
                alpha = torch.softmax(-squared(u_TD[starts], v_TD) / (D * CONFIG.temperature), 1)
                logits = -squared(alpha @ v_TD, u_TD) / (D * CONFIG.temperature)
                losses.append(cycle_loss(logits, starts, times_NT[i].expand(len(starts), T), CONFIG))
    return torch.stack(losses).mean()


def squared(x_MD: Tensor, y_TD: Tensor) -> Tensor:
    """(M, T) squared distances."""
    return (x_MD[:, None] - y_TD).square().sum(-1)


def seconds(loss: Callable[[Tensor, Tensor], Tensor], embeddings_NTD: Tensor, times_NT: Tensor) -> tuple[float, float]:
    """Of one loss and its gradient; and the loss."""
    x_NTD = embeddings_NTD.clone().requires_grad_()
    start = time.perf_counter()
    value = loss(x_NTD, times_NT)
    value.backward()
    return time.perf_counter() - start, value.item()


def main() -> None:
    """Print the medians and their ratios."""
    parser = argparse.ArgumentParser()
    for name, default in (("batch", 8), ("frames", 20), ("embedding", 128), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    embeddings_NTD = torch.randn(a.batch, a.frames, a.embedding)
    times_NT = torch.sort(torch.rand(a.batch, a.frames), 1).values
    ways = (batched, loop_over_pairs, loop_over_steps)
    taken: dict[str, list[float]] = {way.__name__: [] for way in ways}
    values: dict[str, float] = {}
    for _ in range(a.rounds):
        for way in ways:
            time_s, values[way.__name__] = seconds(way, embeddings_NTD, times_NT)
            taken[way.__name__].append(time_s)
    fastest = statistics.median(taken["batched"])
    print(f"{a.batch} sequences x {a.frames} steps x {a.embedding} channels, loss and gradient, 1 thread\n")
    print("| | ms | / batched | loss |\n|---|---|---|---|")
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"| {name.replace('_', ' ')} | {1000 * median:.2f} | {median / fastest:.1f} | {values[name]:.6f} |")


if __name__ == "__main__":
    main()
