"""Fit the polynomial of the kernels' logarithm, and print it as a Python tuple.

The logarithm of an energy v = m * 2**e, with m in [sqrt(1/2), sqrt(2)), is

    ln(v) = ln(2) * e + f * p(f),    f = m - 1.

``p`` has degree 7 and minimises the largest error of f * p(f) against ln(1 + f) over the whole interval
(Lawson's iteration: least squares, with weights that grow where the error is large). The largest error is
3.4e-8, about half the float32 rounding of a logarithm near 1.

Run: ``python tools/fit_log.py``. The coefficients are `LOG_TERMS` in ``mmaupro_ext/native/stft_plan.py``; the
test suite repeats the fit and compares.
"""

from __future__ import annotations

import numpy as np

DEGREE = 7


def fit(degree: int = DEGREE, rounds: int = 400) -> tuple[np.ndarray, float]:
    """Return the coefficients of ``p``, lowest power first, and the largest error."""
    low, high = np.sqrt(0.5) - 1, np.sqrt(2.0) - 1
    # Chebyshev points: dense near the ends, where the error of a minimax fit is largest.
    f = (low + high) / 2 + (high - low) / 2 * np.cos(np.linspace(0, np.pi, 4001))
    powers = f[:, None] ** np.arange(1, degree + 2)
    wanted = np.log1p(f)
    weights = np.full(f.size, 1 / f.size)
    for _ in range(rounds):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(powers * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs(powers @ coefficients - wanted)
        weights = weights * error + 1e-300
        weights /= weights.sum()
    return coefficients, float(error.max())


if __name__ == "__main__":
    coefficients, largest = fit()
    print("(" + ", ".join(map(repr, coefficients.tolist())) + ")")
    print(f"largest error {largest:.2g}")
