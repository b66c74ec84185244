"""Three families of small regressors behind one Protocol: Gaussian process, quadratic regression, forest.

All expect inputs in the unit cube and targets of order one, know the measurement noise of every target, and
estimate the rest of the scatter (`residual`: another training seed would have given another result).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from instar.contracts.records import Floats

PRIOR_DEVIATION = 0.3
"""Before any data a design's target is believed to lie within +-0.3 of zero (one standard deviation)."""

Leaves = npt.NDArray[np.int64]

TUNING_ROWS = 48
"""Hyper-parameters are chosen on this many newest rows, so that the cost of choosing is flat."""


class Family(Protocol):
    """A regressor over designs."""

    residual: float  # standard deviation of one training run around the mean, without measurement noise

    def fit(self, inputs: Floats, targets: Floats, noise: Floats) -> None:
        """Learn from inputs (N, D), targets (N,) and their known standard errors (N,); N may be 0."""
        ...

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Return the mean (M,) and the deviation of what is not known about the mean (M,)."""
        ...


def _scale(targets: Floats, noise: Floats) -> float:
    """Return the targets' variance beyond measurement noise, counting the prior as one observation."""
    beyond = np.maximum(targets**2 - noise**2, 0.0).sum()
    return float((PRIOR_DEVIATION**2 + beyond) / (1 + len(targets)))


class _Gaussian:
    """Gaussian regression with a kernel; hyper-parameters by marginal likelihood on a grid.

    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1 and section 5.4.
    A kernel's unit variance is shared between a constant and the shape, so that the prior mean is 0.
    """

    shares = (0.04, 0.15, 0.4)  # grid of the residual variance, as a share of the scale

    def __init__(self) -> None:
        self.residual = PRIOR_DEVIATION / 2
        self._scale = PRIOR_DEVIATION**2
        self._inputs: Floats | None = None

    def options(self, axes: int) -> Floats:
        """Return the grid of kernel hyper-parameters, (G, H)."""
        raise NotImplementedError

    def refine(self, best: Floats) -> Floats:
        """Return further hyper-parameters around the best one, (G, H), or none."""
        return best[None, :0]

    def kernel(self, left: Floats, right: Floats, chosen: Floats) -> Floats:
        """Return the (..., A, B) kernel with unit variance for hyper-parameters (..., H)."""
        raise NotImplementedError

    def fit(self, inputs: Floats, targets: Floats, noise: Floats) -> None:
        """Learn; see `Family`."""
        if not len(targets):
            return
        self._scale = _scale(targets, noise)
        self._tune(inputs[-TUNING_ROWS:], targets[-TUNING_ROWS:], noise[-TUNING_ROWS:])
        self._inputs = inputs
        covariance = self._scale * self.kernel(inputs, inputs, self._chosen)
        covariance[np.diag_indices(len(targets))] += self.residual**2 + noise**2 + 1e-8
        inverse_root = np.linalg.inv(np.linalg.cholesky(covariance))  # at most 256 rows, once a generation
        self._root = inverse_root
        self._weights = inverse_root.T @ (inverse_root @ targets)

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Predict; see `Family`."""
        if self._inputs is None:
            return np.zeros(len(inputs)), np.full(len(inputs), np.sqrt(self._scale))
        cross = self._scale * self.kernel(inputs, self._inputs, self._chosen)  # (M, N)
        explained = ((cross @ self._root.T) ** 2).sum(axis=1)
        variance = self._scale * self._variance(inputs) - explained
        return cross @ self._weights, np.sqrt(np.maximum(variance, 1e-8))

    def _variance(self, inputs: Floats) -> Floats:
        """Return the kernel's diagonal, (M,)."""
        return np.ones(len(inputs))

    def _tune(self, inputs: Floats, targets: Floats, noise: Floats) -> None:
        """Choose hyper-parameters and the residual by evidence: the grid first, then what `refine` offers."""
        options = self.options(inputs.shape[1])
        evidence = self._evidence(inputs, targets, noise, options, self.shares)
        row, column = np.unravel_index(int(evidence.argmax()), evidence.shape)
        share, self._chosen = self.shares[int(row)], options[column]
        further = self.refine(self._chosen)
        if further.shape[1]:
            better = self._evidence(inputs, targets, noise, further, (share,))[0] > evidence.max() + 0.5
            self._chosen = np.where(better[:, None], further, self._chosen).max(axis=0)
        self.residual = float(np.sqrt(share * self._scale))

    def _evidence(
        self, inputs: Floats, targets: Floats, noise: Floats, options: Floats, shares: Sequence[float]
    ) -> Floats:
        """Return the log marginal likelihood of every share and option, (S, G), up to a constant."""
        kernel = self._scale * self.kernel(inputs, inputs, options)  # (G, N, N)
        covariance = np.repeat(kernel[None], len(shares), axis=0)
        diagonal = np.arange(len(targets))
        covariance[..., diagonal, diagonal] += (self._scale * np.array(shares)[:, None] + noise**2 + 1e-8)[:, None]
        root = np.linalg.cholesky(covariance)
        whitened = np.linalg.solve(root, np.broadcast_to(targets[:, None], (*root.shape[:-1], 1)))[..., 0]
        return np.asarray(-0.5 * (whitened**2).sum(axis=-1) - np.log(root[..., diagonal, diagonal]).sum(axis=-1))


class GaussianProcess(_Gaussian):
    """A constant plus a Matern-5/2 process with a length for every axis.

    All lengths are first equal; then each axis whose length may be tripled with profit is stretched.
    """

    def options(self, axes: int) -> Floats:
        """Offer four lengths, the same on every axis."""
        return np.array([[length] * axes for length in (0.3, 0.6, 1.2, 2.4)])

    def refine(self, best: Floats) -> Floats:
        """Offer each axis stretched."""
        return best + np.diag(2.0 * best)

    def kernel(self, left: Floats, right: Floats, chosen: Floats) -> Floats:
        """Return the kernel; see `_Gaussian`."""
        a, b = left / chosen[..., None, :], right / chosen[..., None, :]
        square = (a**2).sum(-1)[..., :, None] + (b**2).sum(-1)[..., None, :] - 2 * a @ b.swapaxes(-1, -2)
        distance = np.sqrt(5.0 * np.maximum(square, 0.0))
        return np.asarray(0.3 + 0.7 * (1 + distance + distance**2 / 3) * np.exp(-distance))


class QuadraticRegression(_Gaussian):
    """Bayesian linear regression on a constant, all axes, all squares and all products of two axes.

    The kernel (Rasmussen and Williams, section 4.2.2) stands for the explicit features; hyper-parameter: share of
    the variance that is given to the shape rather than to the constant.
    """

    def options(self, axes: int) -> Floats:  # noqa: ARG002 the share doesn't depend on the number of axes
        """Offer three shares."""
        return np.array([[0.1], [0.4], [0.8]])

    def kernel(self, left: Floats, right: Floats, chosen: Floats) -> Floats:
        """Return the kernel; see `_Gaussian`."""
        product = (2 * left - 1) @ (2 * right - 1).T / max(1, left.shape[1])
        shape = chosen[..., None]
        return np.asarray((1 - shape) + shape * 0.5 * ((1 + 3 * product) ** 2 - 1) / 3)

    def _variance(self, inputs: Floats) -> Floats:
        norm = ((2 * inputs - 1) ** 2).mean(axis=1)
        return np.asarray((1 - self._chosen) + self._chosen * 0.5 * ((1 + 3 * norm) ** 2 - 1) / 3)


class Forest:
    """Trees grown greedily on reweighted rows (Bayesian bootstrap: Rubin 1981), all trees at once.

    Every node of a level asks the same question, as in CatBoost (Prokhorenkova et al. 2018, arXiv:1706.09516), so
    that a tree is `depth` questions and a row's leaf is their answers as a binary number.

    Args:
        rng: draws the rows' weights and the questions to choose from.
        trees: how many trees are grown.
        depth: questions per tree; 2 ** depth leaves.
        choices: questions to choose from at each level.
    """

    def __init__(self, rng: np.random.Generator, trees: int = 16, depth: int = 4, choices: int = 8) -> None:
        self.residual = PRIOR_DEVIATION / 2
        self._rng, self._trees, self._depth, self._choices = rng, trees, depth, choices
        self._axis = np.zeros((trees, depth), dtype=np.int64)
        self._cut = np.full((trees, depth), 0.5)
        self._centre = 0.0
        self._mean = np.zeros((trees, 2**depth))
        self._variance = np.full((trees, 2**depth), PRIOR_DEVIATION**2)

    def fit(self, inputs: Floats, targets: Floats, noise: Floats) -> None:
        """Learn; see `Family`. The residual is what the trees leave unexplained of their own rows."""
        if not len(targets):
            return
        scale = _scale(targets, noise)
        weight = 1.0 / (noise**2 + 0.1 * scale)  # (N,)
        self._centre = float((weight * targets).sum() / (weight.sum() + 1 / PRIOR_DEVIATION**2))
        weights = weight * self._rng.exponential(size=(self._trees, len(targets)))  # (T, N)
        pulls = weights * (targets - self._centre)
        leaves = np.zeros((self._trees, len(targets)), dtype=np.int64)
        for level in range(self._depth):
            leaves = self._grow(level, leaves, inputs, weights, pulls, scale)
        total, pull = (self._summed(leaves, column) for column in (weights, pulls))
        self._variance = scale / (1 + scale * total)
        self._mean = self._variance * pull
        mean, deviation = self.predict(inputs)
        left = ((targets - mean) ** 2 - noise**2).mean() + (deviation**2).mean() / 2
        self.residual = float(np.sqrt(max(left, 0.01 * scale)))

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Predict; see `Family`."""
        bits = inputs[:, self._axis] > self._cut if inputs.shape[1] else np.zeros((len(inputs), *self._axis.shape))
        leaves, tree = (bits @ (1 << np.arange(self._depth))).astype(np.int64), np.arange(self._trees)
        means, variances = self._mean[tree, leaves], self._variance[tree, leaves]  # (M, T)
        return means.mean(axis=1) + self._centre, np.sqrt(variances.mean(axis=1) + means.var(axis=1))

    def _grow(self, level: int, leaves: Leaves, inputs: Floats, weights: Floats, pulls: Floats, scale: float) -> Leaves:
        """Ask every tree one more question, the best of some by evidence; return the leaves (T, N) after it."""
        if not inputs.shape[1]:
            return leaves
        shape = (self._trees, self._choices)
        axis, row = self._rng.integers(inputs.shape[1], size=shape), self._rng.integers(len(inputs), size=shape)
        cut = inputs[row, axis] + self._rng.uniform(-0.1, 0.1, shape)
        split = leaves[:, None, :] + ((inputs.T[axis] > cut[..., None]) << level)  # (T, C, N)
        total, pull = (self._summed(split, column[:, None, :]) for column in (weights, pulls))
        evidence = (scale * pull**2 / (1 + scale * total) - np.log1p(scale * total)).sum(axis=-1)  # (T, C)
        best, tree = evidence.argmax(axis=1), np.arange(self._trees)
        self._axis[:, level], self._cut[:, level] = axis[tree, best], cut[tree, best]
        return np.asarray(split[tree, best])

    def _summed(self, leaves: Leaves, column: Floats) -> Floats:
        """Return the sums of a column (..., N) by leaf, (..., L)."""
        size, groups = 2**self._depth, leaves.size // leaves.shape[-1]
        cell = (leaves.reshape(groups, -1) + size * np.arange(groups)[:, None]).ravel()
        summed = np.bincount(cell, np.broadcast_to(column, leaves.shape).ravel(), groups * size)
        return np.asarray(summed.reshape(*leaves.shape[:-1], size), dtype=np.float64)


FAMILIES: Mapping[str, Callable[[np.random.Generator], Family]] = {
    "linear": lambda _: QuadraticRegression(),
    "gp": lambda _: GaussianProcess(),
    "forest": Forest,
}
