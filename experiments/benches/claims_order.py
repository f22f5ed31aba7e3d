"""Reordered interpolation (paper section 3.2, Fig. 3): does seeing B help?

Two networks of one size and budget, trained on interpolation alone and on the same frames: the
paper's order (A, B, then what lies between), and plain left to right (A, then the same frames,
without B). Judged by the three inserted frames of unseen clips: loss, PSNR against the true frames
(ids decoded; the tokenizer's own loss is in both), most likely ids, captions given.

    cost   half an hour of a CPU core (estimated): 6 trainings of 800 steps
"""

import dataclasses
from typing import Any

import numpy as np

from experiments.claims.changes import as_it_is, left_to_right
from experiments.claims.compare import Comparison, Scores, compare, kept, losses
from experiments.claims.runs import Trained, Variant
from fv_jax.generation import drafts
from fv_jax.generation.plan import text_ids
from fv_jax.generation.policies import Sampling
from fv_jax.generation.stats import Stats
from fv_jax.metrics.signal_to_noise import psnr_per_frame
from fv_jax.sequence.packing import interpolation_serials, pack
from fv_jax.sequence.vocab import FREE
from fv_jax.shapes import scenes

_COLUMNS = ("loss", "accuracy", "PSNR, dB", "PSNR of the middle frame, dB")
_GAP = 4


@dataclasses.dataclass(frozen=True)
class Settings(Comparison):
    """What to train and measure; `videos` are unseen clips, one gap of each."""


def run(settings: Settings) -> None:
    """Train, score, record."""
    paper = Variant("a_b_between", as_it_is, images="", tasks="insert")
    plain = dataclasses.replace(
        paper, name="left_to_right", change=left_to_right, weight=(0.0, 1.0, 1.0, 1.0, 0.0)
    )
    variants = [("A, B, then between", paper), ("left to right, without B", plain)]
    compare("order", settings, variants, _judge, _COLUMNS)


def _judge(settings: Settings) -> Scores:
    def scores(trained: Trained) -> dict[str, Any]:
        per_frame = _psnr(trained, settings.videos)
        return {
            **losses(trained),
            "PSNR, dB": float(per_frame.mean()),
            "PSNR of the middle frame, dB": float(per_frame[:, per_frame.shape[1] // 2].mean()),
        }

    return kept("order", {"videos": settings.videos}, scores)


def _psnr(trained: Trained, count: int, batch_size: int = 16) -> np.ndarray:
    """PSNR of each inserted frame [count, 3]."""
    task, generator = trained.task, trained.task.generator(trained.params, changed=False)
    sequence, reordered = task.sequence, trained.task.variant.change is as_it_is
    insert, results = _GAP - 1, []
    sampler = generator.engine.sampler(Sampling(0.0), batch_size)
    for start in range(0, count, batch_size):
        numbers = [min(i, count - 1) for i in range(start, start + batch_size)]
        clips = [scenes.clip("test", i) for i in numbers]
        firsts = [4 * (i % 4) for i in numbers]
        true = np.stack(
            [scenes.render(c, np.arange(f, f + _GAP + 1)) for c, f in zip(clips, firsts)]
        )
        ids = task.frames.encode(true.reshape(-1, *true.shape[2:]))
        codes = ids.reshape(batch_size, _GAP + 1, -1)[:, [0, _GAP, *range(1, _GAP)]].copy()
        codes[:, 2:] = FREE
        texts = np.stack([text_ids(generator.model, clip.caption) for clip in clips])
        tokens = pack(texts, codes, interpolation_serials(insert), sequence)
        if not reordered:  # B comes last, and nothing after it: leave it away
            tokens = left_to_right(tokens, sequence)[:, : -sequence.stride]
        engine = generator.engine
        made, _ = engine.decode(
            engine.start(sampler, [(i,) for i in numbers]), sampler, Stats(), tokens=tokens,
            guesses=drafts.nothing(tokens.shape[1] // sequence.stride, sequence),
            order=interpolation_serials(insert),
        )  # fmt: skip
        inserted = made[:, 2 if reordered else 1 :].reshape(-1, *sequence.frame_grid)
        pixels = task.frames.decode(inserted).reshape(batch_size, insert, *true.shape[2:])
        results.append(psnr_per_frame(true[:, 1:_GAP], pixels))
    return np.concatenate(results)[:count]
