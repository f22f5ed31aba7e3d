"""How the benches time: compiled before, in turns; medians, and means where the paper has them."""

import statistics
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Name = TypeVar("Name", bound=Hashable)


def times_in_turns(
    calls: dict[Name, Callable[[], Any]], repeats: int, *, warm: bool = False
) -> dict[Name, list[float]]:
    """Seconds of every call, one after the other, `repeats` rounds after a warm-up.

    `warm`: all have been called before.
    """
    taken: dict[Name, list[float]] = {name: [] for name in calls}
    for n in range(repeats if warm else repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if warm or n:
                taken[name].append(time.perf_counter() - start)
    return taken


def in_turns(calls: dict[Name, Callable[[], Any]], repeats: int) -> dict[Name, float]:
    """Median seconds of each, called one after the other, `repeats` rounds after a warm-up."""
    taken = times_in_turns(calls, repeats)
    return {name: statistics.median(times) for name, times in taken.items()}


def median(call: Callable[[], Any], repeats: int) -> float:
    """Median seconds of one call after a warm-up."""
    return in_turns({"": call}, repeats)[""]


def bandwidth() -> float:
    """Bytes per second that adding to 256 MB in place reads and writes."""
    block, seconds = jnp.zeros((64 * 2**20,), jnp.float32), []
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    for _ in range(7):
        start = time.perf_counter()
        block = jax.block_until_ready(add(block))
        seconds.append(time.perf_counter() - start)
    return 2 * block.nbytes / statistics.median(seconds[1:])


def parameters(params: Any) -> int:
    """How many numbers a tree of arrays holds."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
