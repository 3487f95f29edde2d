"""How far two sets of features are from each other: as Gaussians (Frechet) and without a model of them (MMD).

Both are measured on the principal axes of real features, at most 64 of them, so that few hundred clips are enough. The
features are those of our own networks: no number compares with an FVD, which is defined by one supervised network.
"""

from dataclasses import dataclass

import numpy as np

MOST_AXES = 64


@dataclass(frozen=True)
class Axes:
    """The principal axes of real features: ``mean_D``, ``axes_DK`` and one ``scale`` for all axes.

    The scale makes the mean variance of real features on an axis 1, on which the kernel of ``mmd`` depends.
    """

    mean_D: np.ndarray
    axes_DK: np.ndarray
    scale: float

    @classmethod
    def of(cls, real_ND: np.ndarray, most: int = MOST_AXES) -> "Axes":
        """Those of the largest variance, at most ``most``, and fewer than half of the rows. Rows need some spread."""
        real_ND = real_ND.astype(np.float64)
        mean_D = real_ND.mean(0)
        _, spread_R, axes_RD = np.linalg.svd(real_ND - mean_D, full_matrices=False)
        kept = min(most, max(1, len(real_ND) // 2 - 1), int((spread_R > 1e-6 * max(spread_R[0], 1e-300)).sum()))
        kept = max(kept, 1)
        variance = float((spread_R[:kept] ** 2).mean()) / max(len(real_ND) - 1, 1)
        return cls(mean_D, axes_RD[:kept].T, 1 / np.sqrt(max(variance, 1e-300)))

    def of_features(self, x_ND: np.ndarray) -> np.ndarray:
        """(N, K) float64: features on the axes."""
        return (x_ND.astype(np.float64) - self.mean_D) @ self.axes_DK * self.scale


def frechet(x_NK: np.ndarray, y_MK: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of the Gaussians with the means and covariances of both.

    D. C. Dowson, B. V. Landau: "The Frechet distance between multivariate normal distributions", 1982. Of two samples
    of one distribution it is above 0, the more the fewer rows there are: compare it with that of real clips.
    """
    apart_K = x_NK.mean(0) - y_MK.mean(0)
    of_x_KK, of_y_KK = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (x_NK, y_MK))
    root_KK = _root(of_x_KK)
    squares_K = np.linalg.eigvalsh(root_KK @ of_y_KK @ root_KK)
    both = np.sqrt(np.maximum(squares_K, 0)).sum()
    return float(apart_K @ apart_K + np.trace(of_x_KK) + np.trace(of_y_KK) - 2 * both)


def _root(covariance_KK: np.ndarray) -> np.ndarray:
    squares_K, axes_KK = np.linalg.eigh(covariance_KK)
    return (axes_KK * np.sqrt(np.maximum(squares_K, 0))) @ axes_KK.T


def mmd(x_NK: np.ndarray, y_MK: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / K + 1)^3.

    A. Gretton et al.: "A Kernel Two-Sample Test", JMLR 2012; the kernel of M. Binkowski et al.: "Demystifying MMD
    GANs", ICLR 2018. Of two samples of one distribution it is 0 on average, so it may be below. Needs two rows each.
    """
    within = (_between(rows, rows) for rows in (x_NK, y_MK))
    pairs = [(k_NN.sum() - np.trace(k_NN)) / (len(k_NN) * (len(k_NN) - 1)) for k_NN in within]
    return float(sum(pairs) - 2 * _between(x_NK, y_MK).mean())


def _between(x_NK: np.ndarray, y_MK: np.ndarray) -> np.ndarray:
    return (x_NK @ y_MK.T / x_NK.shape[1] + 1) ** 3
