"""The order of the rows of a KTO file.

KTO compares a prompt with the answer of the row before it in the batch, and TRL does not shuffle: no two neighbors may
have the same prompt, the first and the last row of a batch included, and each batch needs both labels.
"""

from __future__ import annotations

import numpy as np


def kto_order(prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """The pair and the label (true: its chosen answer) of each row, and whether the order is good in batches of 2, 4, 8.

    >>> pairs, labels, _ = kto_order(np.arange(4))
    >>> pairs.tolist(), labels.tolist()
    ([0, 2, 1, 3, 2, 0, 3, 1], [True, False, True, False, True, False, True, False])
    """
    n = len(prompts)
    labels = np.tile([True, False], n)
    for shift in sorted(range(2, n), key=lambda shift: abs(shift - n // 2))[:20]:
        pairs = np.column_stack([np.arange(n), (np.arange(n) + shift) % n]).ravel()
        if _fits_kto(prompts[pairs]):
            return pairs, labels, True
    # Three pairs have no such shift, so their order is given explicitly.
    pairs, by_hand = np.array([0, 1, 0, 2, 1, 2]), np.array([True, False, False, True, True, False])
    if n == 3 and _fits_kto(prompts[pairs]):
        return pairs, by_hand, True
    return np.tile(np.arange(n), 2), np.repeat([True, False], n), False


def _fits_kto(prompts: np.ndarray) -> bool:
    for size in (2, 4, 8):
        n_whole = len(prompts) // size * size
        for batches in (prompts[:n_whole].reshape(-1, size), prompts[n_whole:].reshape(1, -1)):
            if (batches == np.roll(batches, 1, axis=1)).any():
                return False
    return True
