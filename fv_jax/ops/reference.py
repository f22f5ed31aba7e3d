"""Retention as the papers write it, in float64 NumPy, one row and one head: the oracle.

Nothing here is clever. Tests hold the product (`retention.py`) to it.
"""

import numpy as np
from jaxtyping import Float, Int


def rotate(x: Float[np.ndarray, "T K"], start: int = 0) -> Float[np.ndarray, "T K"]:
    """Theta of eq. 1: pairs of channels as complex numbers, times exp(i n theta)."""
    length, key_dim = x.shape
    theta = 10000.0 ** (-np.arange(key_dim // 2) / (key_dim // 2 - 1))
    n = start + np.arange(length)
    turned = (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * n[:, None] * theta)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(length, key_dim)


def normalizer(gamma: float, n: int) -> float:
    """s_n^(-1/2), s_n = sum of gamma^j, j = 0..n."""
    return float(np.sum(gamma ** np.arange(n + 1.0)) ** -0.5)


def parallel(
    q: Float[np.ndarray, "T K"],
    k: Float[np.ndarray, "T K"],
    v: Float[np.ndarray, "T E"],
    gamma: float,
) -> Float[np.ndarray, "T E"]:
    """Eq. 1: (Q K^T . D) V, D_nm = gamma^(n-m) for n >= m, else 0; rows divided by sqrt(s_n)."""
    length = len(q)
    decay = np.zeros((length, length))
    for n in range(length):
        for m in range(n + 1):
            decay[n, m] = gamma ** (n - m)
    scale = np.asarray([normalizer(gamma, n) for n in range(length)])
    return scale[:, None] * ((q @ k.T * decay) @ v)


def recurrent(
    q: Float[np.ndarray, "T K"],
    k: Float[np.ndarray, "T K"],
    v: Float[np.ndarray, "T E"],
    gamma: float,
    state: Float[np.ndarray, "K E"] | None = None,
    start: int = 0,
    positions: Int[np.ndarray, " T"] | None = None,
) -> tuple[Float[np.ndarray, "T E"], Float[np.ndarray, "K E"]]:
    """Eq. 2: S_n = gamma S_{n-1} + K_n^T V_n, then Q_n S_n / sqrt(s_n).

    Only tokens at `positions` are there, all by default; K_n^T V_n of the others is 0.
    """
    state = np.zeros((k.shape[1], v.shape[1])) if state is None else state
    positions = start + np.arange(len(q)) if positions is None else positions
    y = np.zeros((len(q), v.shape[1]))
    at = {int(n): i for i, n in enumerate(positions)}
    for n in range(start, max(at, default=start - 1) + 1):
        state = gamma * state
        if n in at:
            i = at[n]
            state = state + np.outer(k[i], v[i])
            y[i] = normalizer(gamma, n) * (q[i] @ state)
    return y, state
