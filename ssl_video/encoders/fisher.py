"""Fisher vectors: how a set of descriptors differs from a mixture of Gaussians.

F. Perronnin, J. Sánchez, T. Mensink: "Improving the Fisher Kernel for Large-Scale Image Classification", ECCV 2010.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mixture:
    """A projection to the main axes, and a mixture of K Gaussians with diagonal covariances behind it."""

    mean_E: np.ndarray
    axes_ED: np.ndarray
    weights_K: np.ndarray
    means_KD: np.ndarray
    deviations_KD: np.ndarray

    def project(self, x_NE: np.ndarray) -> np.ndarray:
        """(N, D) float32."""
        return ((x_NE - self.mean_E) @ self.axes_ED).astype(np.float32)

    def posteriors(self, x_ND: np.ndarray) -> np.ndarray:
        """(N, K) probabilities that Gaussian k made row n."""
        precisions_KD = self.deviations_KD**-2.0
        square_NK = x_ND**2 @ precisions_KD.T - 2 * x_ND @ (self.means_KD * precisions_KD).T
        log_NK = -0.5 * (square_NK + (self.means_KD**2 * precisions_KD).sum(1))
        log_NK += np.log(self.weights_K) - np.log(self.deviations_KD).sum(1)
        log_NK -= log_NK.max(1, keepdims=True)
        odds_NK = np.exp(log_NK)
        return odds_NK / odds_NK.sum(1, keepdims=True)


def fit_mixture(x_NE: np.ndarray, dimensions: int, components: int, seed: int) -> Mixture:
    """PCA to ``dimensions``, then a mixture fitted by expectation maximisation from points chosen by k-means++.

    Twenty steps, which scikit-learn may call too few (ConvergenceWarning): for a vocabulary, near the optimum will do.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    pca: Any = PCA(dimensions, svd_solver="full").fit(x_NE)
    how = {"covariance_type": "diag", "reg_covar": 1e-5, "max_iter": 20, "init_params": "k-means++"}
    mixture: Any = GaussianMixture(components, random_state=seed % 2**32, **how).fit(pca.transform(x_NE))
    return Mixture(pca.mean_, pca.components_.T, mixture.weights_, mixture.means_, np.sqrt(mixture.covariances_))


def fisher_vector(x_ND: np.ndarray, mixture: Mixture) -> np.ndarray:
    r"""(2 K D,) gradient of the mean log-likelihood of projected descriptors, in units of the Fisher information.

    First that by the means, $E[g_k (x - m_k) / s_k] / \sqrt{w_k}$, then that by the deviations,
    $E[g_k ((x - m_k)^2 / s_k^2 - 1)] / \sqrt{2 w_k}$, with posteriors $g_k$. A set without descriptors gives zeros.
    """
    m_KD, s_KD, w_K1 = mixture.means_KD, mixture.deviations_KD, mixture.weights_K[:, None]
    sum_K1, sum_KD, square_KD = np.zeros_like(w_K1), np.zeros_like(m_KD), np.zeros_like(m_KD)
    for rows_ND in np.split(x_ND, range(4096, len(x_ND), 4096)):  # bounds the memory
        g_NK = mixture.posteriors(rows_ND)
        sum_K1 += g_NK.sum(0)[:, None]
        sum_KD += g_NK.T @ rows_ND
        square_KD += g_NK.T @ rows_ND**2
    by_mean_KD = (sum_KD - sum_K1 * m_KD) / s_KD / np.sqrt(w_K1)
    spread_KD = square_KD - 2 * m_KD * sum_KD + sum_K1 * m_KD**2
    by_deviation_KD = (spread_KD / s_KD**2 - sum_K1) / np.sqrt(2 * w_K1)
    return np.concatenate([by_mean_KD.ravel(), by_deviation_KD.ravel()]) / max(len(x_ND), 1)


def normalise(vector: np.ndarray) -> np.ndarray:
    """Signed square root of every entry, then length 1; zeros stay zeros."""
    rooted = np.sign(vector) * np.sqrt(np.abs(vector))
    return rooted / max(float(np.linalg.norm(rooted)), 1e-12)
