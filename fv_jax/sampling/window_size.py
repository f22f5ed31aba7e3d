"""How many tokens to decode at a time where nobody says: it changes the time, not the result.

A step over n tokens (of all rows together) costs about a + b n: a for what is read and started
whatever n is, b for arithmetic. Wider windows are worth it while a is the larger part. On two CPU
cores that ends at some 8 tokens for the shipped model (`fv bench window` measures it), while an
accelerator does hundreds of tokens in the time of one.
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
