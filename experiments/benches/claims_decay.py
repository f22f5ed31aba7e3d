"""Decay range: RetNet's default heads against half-lives spread over the clip.

By default head h forgets with gamma = 1 - 2^(-5-h), whatever the data: with four heads half-lives
of 22, 44, 88 and 177 tokens, where a frame is 77 tokens and a clip 385. Against it: half-lives
from 8 tokens to 1,024 (`memory_tokens`, as shipped).

    cost   50 minutes of a CPU core: 6 trainings of 7 to 9; three are shared with claims-serial
"""

from experiments.claims.compare import COLUMNS, compare, floor, generated
from experiments.claims.compare import Comparison as Settings
from experiments.claims.runs import BASELINE, Variant


def run(settings: Settings) -> None:
    """Train, score, record."""
    variants = [
        ("half-lives 8 to 1,024 tokens", BASELINE),
        ("default heads", Variant("default_heads", network=(("memory_tokens", None),))),
    ]
    compare("decay", settings, variants, generated, COLUMNS, lambda: floor(settings))
