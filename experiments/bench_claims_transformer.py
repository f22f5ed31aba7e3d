"""RetNet against a transformer of the same size and budget, on the same ids.

Both have the same embeddings (slots of a block, levels of the codes), depth, width, optimizer,
steps and order of the data; the transformer's gated linear unit is wider, which makes the sizes
equal. Its rotary angles are ours, too ("even"): position is not what differs.

Time to generate: milliseconds for whole videos (five key frames, then all gaps at once), batch 1,
token by token in both (W = 1, no guesses, no guidance), the transformer with a KV cache.
"""

import dataclasses
import statistics
import time
from typing import Any

from experiments.claims.compare import Comparison, Scores, compare, generated
from experiments.claims.runs import BASELINE, Trained, Variant
from experiments.claims.transformer import OPTIONS
from fv_jax.generate import Generator

_COLUMNS = (
    "parameters", "loss", "accuracy", "all", "order of key frames", "shapes-FVD",
    "ms a video, batch 1", "ms a video, batch 16",
)  # fmt: skip
_PROMPT = "a small red circle moves left over stripes"
_W1 = dataclasses.replace(OPTIONS, window=1, drafts=False)


@dataclasses.dataclass(frozen=True)
class Settings(Comparison):
    """What to train and measure."""

    repeats: int = 5
    """Timed calls; the median counts."""


def run(settings: Settings) -> None:
    """Train, score, record."""
    variants = [
        ("RetNet", BASELINE),
        ("transformer", Variant("transformer", transformer=True)),
    ]
    compare("transformer", settings, variants, _with_times, _COLUMNS)


def _with_times(settings: Settings) -> Scores:
    judge = generated(settings)

    def scores(trained: Trained) -> dict[str, Any]:
        found = judge(trained)
        generator = trained.task.generator(trained.params)
        for batch in (1, 16):
            seconds = [_sampling(generator, batch) for _ in range(settings.repeats + 1)][1:]
            found[f"ms a video, batch {batch}"] = statistics.median(seconds) * 1000 / batch
        return found

    return scores


def _sampling(generator: Generator, batch: int) -> float:
    """Seconds of sampling ids; pixels are the same work for both."""
    start = time.perf_counter()
    clips = generator.generate([_PROMPT] * batch, options=_W1)
    whole = time.perf_counter() - start
    return clips[0].stats["seconds"].get("sample", whole)
