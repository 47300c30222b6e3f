"""Print the calibration errors that netcal gives for drawn probabilities, as the constants of ``test_oracles.py``.

netcal brings Pyro, GPyTorch and TensorBoard with it, so it is no part of the development environment. How the
constants were made: ``pip install --no-deps netcal==1.4.0`` beside the locked environment, then ``python
tests/netcal_figures.py``.
"""

from __future__ import annotations

import numpy as np


def drawn(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of four classes and the truth, over-confident."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=n)
    logits = 2 * rng.normal(size=(n, 4))
    logits[np.arange(n), truth] += 1.5
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True), truth


if __name__ == "__main__":
    from netcal.metrics import ECE

    for seed in range(3):
        p, truth = drawn(seed)
        print(seed, float(ECE(15).measure(p, truth)), float(ECE(15).measure(p[:, 0], (truth == 0).astype(int))))
