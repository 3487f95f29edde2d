"""Trains, measures and writes the small networks that come with ssl-video: ``python benchmarks/shipped.py WORK``.

WORK holds the drawn videos and the runs, and the same line resumes what was interrupted; ``--only NAME`` does one of
them. Another network is another entry of ``NETWORKS``: what is written is found by itself. The files are committed by
hand, with the descriptions beside them, which say what is new.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ssl_video as sv
from ssl_video.apps.shipping import Told, write_packaged
from ssl_video.datasets.drawing.config import SyntheticConfig
from ssl_video.datasets.synthetic import synthesize
from ssl_video.model import untrained_twin

CLIPS, TRACKS = SyntheticConfig(), SyntheticConfig(kind="tracks", train=200, test=16, size=240)
CLIPS_DRAWN, TRACKS_DRAWN = "synthetic", "ssl-video data synthesize --kind tracks --size 240 --train 200 --test 16"
CLIPS_WORDS, TRACKS_WORDS = "400 drawn videos of eight motions", "200 drawn videos of objects that hide each other"
METRIC = {"linear": "top1", "retrieval": "recall@1", "pretext": "accuracy", "propagation": "J&F"}


@dataclass(frozen=True)
class Network:
    """What is trained, and by which protocols it is measured, the most telling one first."""

    told: Told
    videos: SyntheticConfig
    protocols: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


NETWORKS = {
    "clips": Network(
        Told("search and probes", "default", CLIPS_WORDS, CLIPS_DRAWN, "neighbours"),
        CLIPS,
        ("linear", "retrieval"),
        {"steps": 3600},
    ),
    "dense": Network(
        Told("tracking", "contrastive_random_walk:small", TRACKS_WORDS, TRACKS_DRAWN, "masks"),
        TRACKS,
        ("propagation",),
        {"steps": 3000},
    ),
    "speed": Network(
        Told("speediness and speed-up", "default", CLIPS_WORDS, CLIPS_DRAWN, "speed"), CLIPS, ("pretext", "linear")
    ),
}


def results(name: str, network: Network, data: str) -> Callable[[str], list[dict[str, Any]]]:
    """What measures a model, and its untrained twin beside it."""

    def measure(model: str) -> list[dict[str, Any]]:
        found = []
        for protocol in network.protocols:
            metric = METRIC[protocol]
            ours, fresh = (
                sv.evaluate(m, protocol, data=data).metrics[metric] for m in (model, untrained_twin(f"{WORK / name}"))
            )
            line = {"metric": f"{protocol} {metric}", "value": ours, "untrained": fresh, "protocol": protocol}
            found.append(line | {"data": f"test list of {network.told.drawn}"})
            print(f"{name}: {protocol} {metric} {ours:.3f}, untrained {fresh:.3f}")
        return found

    return measure


def make(name: str, network: Network) -> None:
    data = "synthetic"
    if network.videos != CLIPS:
        data = str(synthesize(WORK / network.videos.kind, network.videos, progress=True).parent)
    recipe = network.told.recipe
    run = sv.pretrain(data, recipe=recipe, out=WORK / name, resume="auto", **network.options)
    path = write_packaged(name, run, network.told, results(name, network, data))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", choices=list(NETWORKS))
    given = parser.parse_args()
    WORK = given.work
    for chosen in [given.only] if given.only else NETWORKS:
        make(chosen, NETWORKS[chosen])
