"""scikit-learn's digits, split once: two thirds to train on, one third that only exams show."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache
def _split() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    held_out = np.random.default_rng(0).random(len(digits.images)) < 1 / 3
    return digits.images.astype(np.float32), digits.target, held_out


def training_set() -> tuple[np.ndarray, np.ndarray]:
    """Return training images (N, 8, 8) and labels (N,)."""
    images, labels, held_out = _split()
    return images[~held_out], labels[~held_out]


def exam_set() -> tuple[np.ndarray, np.ndarray]:
    """Return the examiner's images and labels."""
    images, labels, held_out = _split()
    return images[held_out], labels[held_out]
