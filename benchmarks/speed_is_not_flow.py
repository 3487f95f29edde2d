"""Is speediness the magnitude of flow? The network and a threshold on flow tell the same clips apart, side by side.

    python benchmarks/speed_is_not_flow.py RUN ucf101:ROOT [--split 1] [--clips 4] [--flow farneback]

RUN is a run of the pretext speediness. Of every video so many pairs of clips are drawn as its test draws them, one at
normal speed and one with every second frame. Of each clip the network says how likely it is at normal speed, and
optical flow how far a pixel moves from one of its frames to the next, on average. Printed, of the test list:

* Spearman's correlation of the two, over clips at normal speed and over all;
* how well each tells sped-up clips from normal ones: the area under the ROC curve, and the accuracy, of the network as
  it is, and of the threshold on flow that is best on the training list.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch

from ssl_video.capabilities import SpeedLogits
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.model import Model, load_model
from ssl_video.train.data import ClipDataset, batches, tensors, usable
from ssl_video.video.flow import Flow, flow_method

BATCH = 8


@dataclass(frozen=True)
class Clips:
    """Of N clips how likely each is at normal speed, its mean flow in pixels a frame, and whether it is sped up."""

    normal_N: np.ndarray
    flow_N: np.ndarray
    sped_up_N: np.ndarray


def mean_flow(clip_THWC: np.ndarray, flow: Flow) -> float:
    """Mean length of the flow between neighbouring frames, in pixels."""
    return float(np.linalg.norm(flow(clip_THWC), axis=-1).mean())


@torch.no_grad()
def measured(model: Model, videos: VideoSet, clips: int, flow: Flow, workers: int = 2) -> Clips:
    """What the network and flow say of the same clips of all videos that are long enough."""
    head, pretext = model.need(SpeedLogits), model.pretext
    assert pretext is not None
    fit = usable(videos, pretext.eval())
    keys = [(0, v, c) for c in range(clips) for v in range(len(fit.videos))]
    groups = [keys[i : i + BATCH] for i in range(0, len(keys), BATCH)]
    normal, moved, labels = [], [], []
    for batch in batches(ClipDataset(fit, pretext, 0), groups, workers):
        clips_NTHWC = batch["clips_VTHWC"].flatten(0, 1)
        logits_N = head.clip_logits(model.dense_map(tensors({"clips": clips_NTHWC}, model.device)["clips"]))
        normal.append((-logits_N.float()).sigmoid().cpu().numpy())
        moved += [mean_flow(clip_THWC, flow) for clip_THWC in clips_NTHWC.numpy()]
        labels.append(batch["labels_V"].flatten().numpy())
    return Clips(np.concatenate(normal), np.array(moved), np.concatenate(labels).astype(bool))


def best_threshold(flow_N: np.ndarray, sped_up_N: np.ndarray) -> float:
    """The flow from which on clips are called sped up such that most of these are told apart."""
    values = np.unique(flow_N)
    between = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    right = [((flow_N > threshold) == sped_up_N).mean() for threshold in between]
    return float(between[int(np.argmax(right))])


def numbers(train: Clips, test: Clips) -> dict[str, float]:
    """What is printed, by its name."""
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    normal_only = ~test.sped_up_N
    threshold = best_threshold(train.flow_N, train.sped_up_N)
    correlation = spearmanr(test.normal_N[normal_only], test.flow_N[normal_only])
    return {
        "Spearman, clips at normal speed": float(np.asarray(correlation)[0]),
        "Spearman, all clips": float(np.asarray(spearmanr(test.normal_N, test.flow_N))[0]),
        "network, area under ROC": float(roc_auc_score(test.sped_up_N, -test.normal_N)),
        "flow, area under ROC": float(roc_auc_score(test.sped_up_N, test.flow_N)),
        "network, accuracy": float(((test.normal_N < 0.5) == test.sped_up_N).mean()),
        "flow, accuracy of the best threshold": float(((test.flow_N > threshold) == test.sped_up_N).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--split", type=int, default=1)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--flow", default="farneback")
    arguments = parser.parse_args()
    model, flow = load_model(arguments.run), flow_method(arguments.flow)
    splits = load_splits(arguments.data, arguments.split)
    assert splits.test is not None
    lists = [scanned(videos) for videos in (splits.train, splits.test)]
    train, test = (measured(model, videos, arguments.clips, flow) for videos in lists)
    print(f"{len(test.flow_N)} clips of the test list, {len(train.flow_N)} of the training list.\n")
    print("| | |\n|---|---|")
    for name, value in numbers(train, test).items():
        print(f"| {name} | {value:.3f} |")


if __name__ == "__main__":
    main()
