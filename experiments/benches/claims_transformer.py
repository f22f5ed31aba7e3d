"""RetNet against a transformer of the same size and budget, on the same ids.

Both have the same embeddings (slots of a block, levels of the codes), depth, width, optimizer,
steps and order of the data; the transformer's gated linear unit is wider, which makes the sizes
equal. Its rotary angles are ours, too ("even"): position is not what differs.

Time to generate: milliseconds to sample the ids of whole videos (five key frames, then all gaps at
once), without guidance. Token by token: the RetNet with W = 1 and no guesses, which steps through
text and serial numbers, too (616 steps a video); the transformer with a KV cache, which reads them
in one call for each block (512 steps). With windows: the RetNet as `fv generate` does it, with the
same ids; the transformer has none.

    cost   50 minutes of a CPU core: 6 trainings of 7 to 9; three are shared with claims-serial
"""

import dataclasses
import statistics
from typing import Any

from experiments.claims.compare import Comparison, Scores, compare, floor, generated, kept
from experiments.claims.runs import BASELINE, Trained, Variant
from experiments.claims.transformer import OPTIONS
from fv_jax.config.model import Options
from fv_jax.generation.generator import Generator

_COLUMNS = (
    "parameters", "loss", "accuracy", "all", "order of key frames", "shapes-FVD",
    *(f"ms a video, {way}, batch {batch}" for way in ("token by token", "windows")
      for batch in (1, 16)),
)  # fmt: skip
_PROMPT = "a small red circle moves left over stripes"
_WAYS = {
    "token by token": dataclasses.replace(OPTIONS, window=1, drafts=False),
    "windows": OPTIONS,
}


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
    compare("transformer", settings, variants, _with_times, _COLUMNS, lambda: floor(settings))


def _with_times(settings: Settings) -> Scores:
    judge = generated(settings)

    def times(trained: Trained) -> dict[str, Any]:
        found = {}
        generator = trained.task.generator(trained.params)
        for way, options in _WAYS.items():
            if way == "windows" and trained.task.variant.transformer:
                continue
            for batch in (1, 16):
                taken = [_sampling(generator, batch, options) for _ in range(settings.repeats + 1)]
                milliseconds = statistics.median(taken[1:]) * 1000 / batch
                found[f"ms a video, {way}, batch {batch}"] = milliseconds
        return found

    timed = kept("times", {"repeats": settings.repeats}, times)
    return lambda trained: {**judge(trained), **timed(trained)}


def _sampling(generator: Generator, batch: int, options: Options) -> float:
    """Seconds of sampling ids; pixels are the same work for both."""
    clips = generator.generate([_PROMPT] * batch, options=options)
    return clips[0].stats["seconds"]["sample"]
