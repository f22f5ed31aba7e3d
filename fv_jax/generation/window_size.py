"""How many tokens to decode at a time where nobody says: it changes the time, not the result.

A step over n tokens (of all rows together) costs about a + b n: a for what is read and started
whatever n is, b for arithmetic. Wider windows are worth it while a is the larger part. On a CPU
that ends at some 8 tokens for the shipped model: with one row a window of 8 saves a third of the
time, with four next to nothing (`fv bench window`). An accelerator does hundreds of tokens in
about the time of one; that figure is not measured yet.
"""

WIDEST = 16  # beyond, few guesses hold
TOKENS = {"cpu": 8}
TOKENS_ELSEWHERE = 256


def window_size(rows: int, platform: str) -> int:
    """W for so many rows of the network (with guidance two per video), at least 1.

    Args:
        rows: that decode together.
        platform: as `jax.default_backend()` names it.
    """
    return max(1, min(WIDEST, TOKENS.get(platform, TOKENS_ELSEWHERE) // rows))


def buffer_size(window: int, platform: str) -> int:
    """Slots of the lazy state: none on a CPU, whose caches hold the state."""
    return 0 if platform == "cpu" else max(32, 2 * window)
