"""The linear probe against scikit-learn's logistic regression on the same features: accuracy and seconds.

    python benchmarks/linear.py [--train 10000] [--test 4000] [--features 1024] [--classes 101] [--noise 8] [--seed 0]

Features are made: class means in a subspace, noise of a falling spectrum, and a rectification as after a network's last
layer. Each of our classifiers chooses its own penalty. scikit-learn's LogisticRegression is given each of the penalties
that ours tries but the largest; its best on the test features is more than it could know. CPU seconds add up the
threads'; on a machine that does other work as well they are the ones to compare (OMP_NUM_THREADS=1).
"""

import argparse
import time
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from ssl_video.eval.linear import logistic_scores
from ssl_video.eval.ridge import ridge_scores, standardise

PENALTIES = (0.1, 0.01, 0.001, 0.0001)


def made(train: int, test: int, features: int, classes: int, noise: float, seed: int) -> tuple[np.ndarray, ...]:
    """x, labels, x_test, labels_test."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 64)) @ rng.normal(size=(64, features)) / 8
    directions = np.linalg.qr(rng.normal(size=(features, features)))[0]
    spread = noise * np.sqrt(features / np.log(features) / (1 + np.arange(features)))  # of variance noise**2 a feature
    parts = []
    for count in (train, test):
        labels = rng.integers(classes, size=count)
        added = (rng.normal(size=(count, features)) * spread) @ directions
        parts += [np.maximum(centres[labels] + added, 0).astype(np.float32), labels]
    return tuple(parts)


def predicted(regression: LogisticRegression, x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    return regression.fit(x, y).predict(x_test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("train", 10_000), ("test", 4_000), ("features", 1024), ("classes", 101), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--noise", type=float, default=8.0)
    a = parser.parse_args()
    x, y, x_test, y_test = made(a.train, a.test, a.features, a.classes, a.noise, a.seed)
    print(
        f"{a.train} x {a.features} features, {a.classes} classes, {a.test} to test, {torch.get_num_threads()} threads"
    )
    print("\n| classifier | top-1 | seconds | CPU seconds |\n|---|---|---|---|")

    def row(name: str, predict) -> float:
        start, start_cpu = time.perf_counter(), time.process_time()
        top1 = 100 * float((predict() == y_test).mean())
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        print(f"| {name} | {top1:.2f} | {seconds:.1f} | {cpu:.1f} |", flush=True)
        return top1

    row("linear, default (ridge)", lambda: ridge_scores(x, y, x_test, a.classes).argmax(1))
    row("linear, logistic", lambda: logistic_scores(x, y, x_test, a.classes, seed=0).argmax(1))
    scaled, scaled_test = standardise(x, x_test)
    theirs = []
    for penalty in PENALTIES:
        regression = LogisticRegression(C=1 / (penalty * len(x)), max_iter=1000, tol=1e-6)
        theirs.append(row(f"scikit-learn, penalty {penalty:g}", partial(predicted, regression, scaled, y, scaled_test)))
    print(f"| scikit-learn, best of these | {max(theirs):.2f} | | |")


if __name__ == "__main__":
    main()
