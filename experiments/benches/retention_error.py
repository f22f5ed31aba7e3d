"""How exact is each form of retention at video length, against the float64 oracle?

6,800 tokens (17 frames of 20x20 ids), K = 64, E = 128, RetNet's own decays; q, k and v are
standard normal, with RoPE. Relative root-mean-square error of y after the head
norm, for heads 0, 5, 8 and 15 (half-lives of 22, 709, 5,678 and 726,817 tokens).

`LIMITS` is twice what the same variant was measured at elsewhere (PyTorch, one thread); a row
beyond it fails the bench.

    cost   16 s of CPU time
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from fv_jax.models.layers import rms_normalize
from fv_jax.ops import reference, retention
from fv_jax.ops.decay import log_decays
from fv_jax.ops.retention import FORMS
from fv_jax.ops.rope import apply_rope_interleaved
from fv_jax.reporting.results import markdown, record

HEADS = (0, 5, 8, 15)
K, E = 64, 128
LIMITS = {
    "chunkwise, float32": (3.2e-7, 4.8e-7, 6.6e-7, 5.6e-7),
    "parallel, float32": (3.2e-7, 4.8e-7, 6.6e-7, 5.6e-7),
    "recurrent, float32": (1.76e-6, 1.58e-6, 2.8e-6, 5.2e-6),
    "chunkwise, bfloat16 matmuls": (5.6e-3, 7.8e-3, 1.18e-2, 1.28e-2),
    "recurrent, bfloat16 q, k, v": (4.6e-3, 5.2e-3, 5.4e-3, 5.4e-3),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    length: int = 6800
    """Tokens."""
    chunk: int = 128
    """Tokens per chunk of the chunkwise form."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record.

    Raises:
        ValueError: an error beyond its limit (nothing is recorded then).
    """
    errors = measure(settings.length, settings.chunk)
    beyond = [n for n, row in errors.items() if not np.all(np.asarray(row) <= LIMITS[n])]
    rows = [[name, *(f"{x:.1e}" for x in row)] for name, row in errors.items()]
    table = markdown(["relative error of y", *(f"head {h}" for h in HEADS)], rows)
    if beyond:
        print(table)
        raise ValueError(f"errors beyond their limits, not recorded: {', '.join(beyond)}")
    values = {"length": settings.length, "heads": HEADS, "errors": errors, "limits": LIMITS}
    record("retention-error", settings, values, table)


def measure(length: int, chunk: int) -> dict[str, list[float]]:
    """Errors of every variant in `LIMITS`, one per head of `HEADS`."""
    rng = np.random.default_rng(0)
    draw = lambda width: rng.normal(size=(1, length, len(HEADS), width)).astype(np.float32)
    q, k, v = draw(K), draw(K) * np.float32(K**-0.5), draw(E)
    every = log_decays(max(HEADS) + 1)
    decays = tuple(every[h] for h in HEADS)
    want = np.stack([_oracle(q, k, v, i, decays[i]) for i in range(len(HEADS))], axis=2)
    errors = {}
    for name in tqdm(LIMITS, desc="forms"):
        form = name.split(",")[0]
        dtype = jnp.bfloat16 if "bfloat16" in name else jnp.float32
        options = {"chunk": chunk} if form == "chunkwise" else {}
        run = functools.partial(FORMS[form], **options)
        one = jax.jit(functools.partial(_after_rope, run, dtype=dtype), static_argnums=3)
        # Head by head: the parallel form's pairs of 6,800 tokens take 185 MB each.
        got = [one(*(x[:, :, i : i + 1] for x in (q, k, v)), decays[i : i + 1])
               for i in range(len(HEADS))]  # fmt: skip
        wrong = np.concatenate([np.asarray(y, np.float64) for y in got], axis=2) - want
        errors[name] = np.sqrt(
            (wrong**2).mean((0, 1, 3)) / (want**2).mean((0, 1, 3))
        ).tolist()  # fmt: skip
    return errors


def _after_rope(form, q, k, v, decays, *, dtype):
    position = jnp.arange(q.shape[1])[None]
    q, k = (apply_rope_interleaved(x, position).astype(dtype) for x in (q, k))
    state = retention.init_state(1, q.shape[2], K, E)
    start, length = jnp.array([0]), jnp.array([q.shape[1]])
    return rms_normalize(form(q, k, v.astype(dtype), decays, state, start, length)[0])


def _oracle(q, k, v, head: int, decay: float) -> np.ndarray:
    """Float64 y of one head after the head norm, [1, L, E]."""
    q, k, v = (x[0, :, head].astype(np.float64) for x in (q, k, v))
    y, _ = reference.recurrent(reference.rotate(q), reference.rotate(k), v, float(np.exp(decay)))
    return (y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6))[None]
