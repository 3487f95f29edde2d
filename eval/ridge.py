"""Ridge regression in closed form, from the products of columns: rows are read some at a time."""

import numpy as np

from ssl_video.eval.blocks import Blocks, Rows, Standard, in_double


def standardise(train_ND: np.ndarray, test_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the training features' mean and standard deviation; constant dimensions become 0."""
    standard = Standard.of(train_ND)
    return standard(train_ND), standard(test_ND)


def standardised(train_ND: np.ndarray | Rows, test_ND: np.ndarray | Rows) -> tuple[Blocks, Blocks]:
    """As ``standardise``, in double precision, some rows at a time."""
    standard = Standard.of(Blocks(train_ND, in_double))
    train, test = (Blocks(Blocks(rows, in_double), standard) for rows in (train_ND, test_ND))
    return train, test


def principal_axes(x_ND: np.ndarray | Blocks) -> np.ndarray:
    """axes_DR, on which the columns of x_ND are orthogonal, those without any spread left out; R is at most N and D.

    A penalty on squared weights is the same on these axes, and there it acts on every column by itself.
    """
    blocks = Blocks(x_ND) if isinstance(x_ND, np.ndarray) else x_ND
    if len(blocks) >= (D := blocks.rows.shape[1]):
        squares, axes_DR = np.linalg.eigh(sum((x.T @ x for _, x in blocks), np.zeros((D, D))))
    else:
        whole_ND = blocks.whole()
        squares, U = np.linalg.eigh(whole_ND @ whole_ND.T)
        axes_DR = whole_ND.T @ (U / np.sqrt(np.maximum(squares, 1e-300)))
    return axes_DR[:, squares > 1e-12 * max(float(squares[-1]), 1e-300)]


def ridge_scores(
    x_ND: np.ndarray | Rows,
    labels_N: np.ndarray,
    x_test_ND: np.ndarray | Rows,
    classes: int,
    penalties: tuple[float, ...] = tuple(10.0**p for p in range(-2, 6)),
) -> np.ndarray:
    """Scores of a ridge classifier (targets +1 and -1), its penalty that of the best leave-one-out accuracy.

    The leave-one-out residual of ridge regression is the residual over 1 - h, h the diagonal of the hat matrix, so
    that one decomposition, of X'X, serves every penalty and every left-out video. Rows are read some at a time.
    """
    train, test = standardised(x_ND, x_test_ND)
    offset = (2.0 * np.bincount(labels_N, minlength=classes) - len(train)) / len(train)

    def targets(here: slice) -> np.ndarray:
        return np.where(np.arange(classes) == labels_N[here, None], 1.0, -1.0)

    axes_DR = principal_axes(train)
    on_axes = Blocks(train, lambda x_ND: x_ND @ axes_DR)
    squares_R, projected_RK = np.zeros(axes_DR.shape[1]), np.zeros((axes_DR.shape[1], classes))
    for here, z_NR in on_axes:
        squares_R += (z_NR**2).sum(0)
        projected_RK += z_NR.T @ (targets(here) - offset)
    right_P, squared_P = np.zeros(len(penalties)), np.zeros(len(penalties))
    for here, z_NR in on_axes:
        y = targets(here)
        for n, penalty in enumerate(penalties):
            shrink_R = 1 / (squares_R + penalty)
            rest_N = np.maximum(1 - (z_NR**2 @ shrink_R + 1 / len(train)), 1e-9)  # the offset is fitted as well
            residual = (y - offset - z_NR @ (shrink_R[:, None] * projected_RK)) / rest_N[:, None]
            right_P[n] += ((y - residual).argmax(1) == labels_N[here]).sum()
            squared_P[n] += (residual**2).sum()
    best = max(range(len(penalties)), key=lambda n: (right_P[n], -squared_P[n]))
    weight_RK = projected_RK / (squares_R + penalties[best])[:, None]
    return Blocks(test, lambda x_ND: x_ND @ axes_DR @ weight_RK + offset).whole()
