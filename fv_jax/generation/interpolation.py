"""Recursive interpolation (paper section 3.3): gaps -> rows -> ids -> frames in time order."""

import numpy as np
from jaxtyping import Bool, Int

from fv_jax.config.model import SequenceConfig
from fv_jax.generation import drafts
from fv_jax.generation.engine import BETWEEN, Engine
from fv_jax.generation.gaps import Gaps, VideoIds, find_gaps, interleave
from fv_jax.generation.plan import Plan
from fv_jax.generation.progress import Progress, Watch
from fv_jax.generation.sampler import Sampler
from fv_jax.generation.skip_mask import ring
from fv_jax.generation.stats import Stats
from fv_jax.generation.window_size import KEPT_BETWEEN, KEPT_SKIPPING
from fv_jax.sequence.packing import interpolation_serials, pack


def interpolate(
    engine: Engine, plan: Plan, videos: list[VideoIds], stats: Stats, *, first_gap: int = 0,
    given: Int[np.ndarray, "B inserted h w"] | None = None, watch: Watch | None = None,
) -> list[VideoIds]:  # fmt: skip
    """Put frames between the given ones, all gaps of a level in one batch.

    Args:
        engine: calls the sampler.
        plan: says how many frames, how often, and how they are sampled.
        videos: one a request.
        stats: told what it costs.
        first_gap: number of the first gap, for parts of a longer video.
        given: all frames between the first two of every video, where they are known.
        watch: is shown the ids of each level while they are decided.
    """
    options = plan.options
    for level, insert in enumerate(plan.insert):
        gaps = find_gaps(
            videos, level=level, insert=insert, inherit=plan.inherit[level], seeds=plan.seeds,
            radius=ring(engine.model.frames.reach, engine.model.config.sequence.frame_grid),
            first=first_gap,
        )  # fmt: skip
        if gaps is None:
            break
        if given is not None and level == 0:
            gaps = gaps.first_given(given)
        skip = plan.skip if plan.inherit[level] else 0
        # The frames around an inserted one say what it shows; the text adds little: no guidance.
        sampler = engine.sampler(
            plan.insert_policy, len(gaps.video), window=options.window,
            kept=(KEPT_SKIPPING if skip else KEPT_BETWEEN) if options.drafts else None,
        )  # fmt: skip
        inserted = sample_gaps(
            engine, sampler, gaps, plan.texts, plan.seeds, stats, named=plan.gaps[level],
            skip=skip, drafts=options.drafts, watch=watch,
        )  # fmt: skip
        videos, first_gap = interleave(videos, gaps, inserted), first_gap * (insert + 1)
    return videos


def sample_gaps(
    engine: Engine,
    sampler: Sampler,
    gaps: Gaps,
    texts: Int[np.ndarray, "B T"],
    seeds: list[int],
    stats: Stats,
    *,
    named: int = 0,
    skip: int = 0,
    drafts: bool = True,
    watch: Watch | None = None,
) -> Int[np.ndarray, "inserted G h w"]:
    """Sample whatever is not inherited, one row a gap: A, B, then the inserted frames.

    Args:
        engine: calls the sampler.
        sampler: says how.
        gaps: to be filled.
        texts: of every video.
        seeds: of every video.
        stats: told what it costs.
        named: the length of all gaps, where the model's blocks name it.
        skip: as in `Plan`.
        drafts: whether ids are guessed.
        watch: is shown the ids while they are decided.
    """
    known, sequence = gaps.inserted, sampler.sequence
    insert = len(known)
    blocks = np.stack([gaps.a, gaps.b, *known], axis=1)  # [G, n + 2, h, w]
    grids = lambda codes: codes[:, 2:].reshape(-1, *known.shape[:1], *known.shape[2:])
    keys = [(seeds[v], BETWEEN, gaps.level, n) for v, n in zip(gaps.video, gaps.number)]
    serials = interpolation_serials(insert)  # count time, too
    codes, _ = engine.decode(
        engine.start(sampler, keys), sampler, stats,
        tokens=pack(
            texts[gaps.video], blocks.reshape(*blocks.shape[:2], -1),
            serials, sequence, named,
        ),
        guesses=_guesses(drafts, insert, sequence), order=serials,
        left_out=_left_out(gaps, sequence, skip) if skip else None,
        look=watch and (lambda codes, steps: watch(Progress(grids(codes), steps, gaps))),
    )  # fmt: skip
    return grids(codes).swapaxes(0, 1)


def _left_out(gaps: Gaps, sequence: SequenceConfig, whole: int) -> Bool[np.ndarray, "G T"]:
    """Which tokens of the rows need not be read, after so many whole frames."""
    frames = np.stack([np.zeros_like(gaps.repeated), gaps.repeated, *gaps.inherited], axis=1)
    frames[:, :whole] = False
    left_out = np.zeros((*frames.shape[:2], sequence.stride), bool)
    left_out[..., sequence.header :] = frames.reshape(*frames.shape[:2], -1)
    return left_out.reshape(len(left_out), -1)


def _guesses(wanted: bool, insert: int, sequence) -> Int[np.ndarray, " T"]:
    if wanted:
        return drafts.neighboring_frame(insert, sequence)
    return drafts.nothing(insert + 2, sequence)
