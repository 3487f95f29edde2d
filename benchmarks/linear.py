"""The linear probe against scikit-learn's logistic regression on the same features: accuracy and seconds.

    python benchmarks/linear.py [--train 10000] [--test 4000] [--features 1024] [--classes 101] [--seed 0]

Features are made: class means in a subspace of 64 dimensions, noise of a falling spectrum in all of them, and a
rectification, as after a network's last layer. Each of our classifiers chooses its own penalty. scikit-learn's
LogisticRegression tries the penalties that our logistic regression tries; the table has each of them, and the best on
the test features, which is more than it could know.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from ssl_video.eval.linear import logistic_scores, ridge_scores, standardise

PENALTIES = (1.0, 0.1, 0.01, 0.001)


def made(train: int, test: int, features: int, classes: int, seed: int) -> tuple[np.ndarray, ...]:
    """x, labels, x_test, labels_test."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(64, features)) / 8
    centres = rng.normal(size=(classes, 64)) @ basis
    mixing = np.linalg.qr(rng.normal(size=(features, features)))[0] * (1 / np.sqrt(1 + np.arange(features)))
    noise_scale = 40 / np.sqrt(features)
    parts = []
    for count in (train, test):
        labels = rng.integers(classes, size=count)
        noise = rng.normal(size=(count, features)) @ mixing.T * noise_scale * np.sqrt(features) / 4
        x = np.maximum(centres[labels] + noise + 0.5 * rng.normal(size=(count, features)), 0)
        parts += [x.astype(np.float32), labels]
    return tuple(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("train", 10_000), ("test", 4_000), ("features", 1024), ("classes", 101), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    x, y, x_test, y_test = made(a.train, a.test, a.features, a.classes, a.seed)
    print(
        f"{a.train} x {a.features} features, {a.classes} classes, {a.test} to test, {torch.get_num_threads()} threads"
    )
    print("\n| classifier | top-1 | seconds |\n|---|---|---|")

    def row(name: str, predict) -> float:
        start = time.perf_counter()
        top1 = 100 * float((predict() == y_test).mean())
        print(f"| {name} | {top1:.2f} | {time.perf_counter() - start:.1f} |", flush=True)
        return top1

    row("linear, default (ridge)", lambda: ridge_scores(x, y, x_test, a.classes).argmax(1))
    row("linear, logistic", lambda: logistic_scores(x, y, x_test, a.classes, seed=0).argmax(1))
    scaled, scaled_test = standardise(x, x_test)
    theirs = []
    for penalty in PENALTIES:
        fitted = LogisticRegression(C=1 / (penalty * len(x)), max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # not converged after 200 steps: at the smallest penalties it hardly matters
            theirs.append(row(f"scikit-learn, penalty {penalty:g}", lambda: fitted.fit(scaled, y).predict(scaled_test)))
    print(f"| scikit-learn, best of these | {max(theirs):.2f} | |")


if __name__ == "__main__":
    main()
