"""Recursive interpolation (paper section 3.3): put frames between all neighbours, level by level.

    level 0    A               B               C
    level 1    A   x   x   x   B   x   x   x   C        insert 3

All gaps of a level, of all videos of a batch, are rows of one batch. Ids that the skip mask lets
a frame inherit are copied from the key frames; they are fed to the network but never sampled.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

from fv_jax.generation.skip_mask import inheritable, regions
from fv_jax.sequence.vocab import FREE

# (video, level, gap) of every row, A, B [G, P], forced [n, G, P] -> inserted frames [n, G, P]
GenerateGaps = Callable[
    [list[tuple[int, int, int]], np.ndarray, np.ndarray, np.ndarray], np.ndarray
]


@dataclasses.dataclass(frozen=True)
class Frames:
    """Id grids of one video in time order.

    Attributes:
        ids: int32.
        key_frame: which frames were given to the interpolation.
        inherited: which ids were copied from the neighbouring key frames.
    """

    ids: Int[np.ndarray, "M h w"]
    key_frame: Bool[np.ndarray, " M"]
    inherited: Bool[np.ndarray, "M h w"]

    @classmethod
    def of_key_frames(cls, ids: Int[np.ndarray, "M h w"]) -> "Frames":
        """Only key frames, nothing inherited."""
        return cls(ids, np.ones(len(ids), bool), np.zeros(ids.shape, bool))


def fill(
    videos: list[Frames],
    generate: GenerateGaps,
    *,
    insert: int,
    levels: int,
    inherit: float,
    seeds: list[int],
    radius: int = 1,
    first_gap: int = 0,
) -> list[Frames]:
    """Insert frames between neighbours, `levels` times.

    Args:
        videos: each with at least one frame and the same grid.
        generate: fills in all FREE ids of all gaps at once.
        insert: n, frames put into every gap.
        levels: how often to repeat; the frames in the end are (M - 1) (n + 1)^levels + 1.
        inherit: share of stable ids to copy, drawn anew for every inserted frame.
        seeds: one per video; they decide which ids are inherited.
        radius: of the unstable ring around ids that differ.
        first_gap: number of the first gap, for parts of a longer video.
    """
    for level in range(levels if insert else 0):
        gaps = [(v, g) for v, f in enumerate(videos) for g in range(len(f.ids) - 1)]
        if not gaps:
            break
        before = first_gap * (insert + 1) ** level
        rows = [(v, level, before + g) for v, g in gaps]
        a = np.stack([videos[v].ids[g] for v, g in gaps])
        b = np.stack([videos[v].ids[g + 1] for v, g in gaps])
        masks = np.stack(
            [
                _inherited(a[i], b[i], insert, inherit, (seeds[v], level, gap), radius)
                for i, (v, _, gap) in enumerate(rows)
            ],
            axis=1,
        )  # [n, G, h, w]
        forced = np.where(masks, a[None], FREE)
        flat = lambda x: x.reshape(*x.shape[:-2], -1)
        inserted = generate(rows, flat(a), flat(b), flat(forced)).reshape(masks.shape)
        videos = [
            _interleave(
                frames,
                inserted[:, [i for i, row in enumerate(rows) if row[0] == v]],
                masks[:, [i for i, row in enumerate(rows) if row[0] == v]],
            )
            for v, frames in enumerate(videos)
        ]
    return videos


def _inherited(a, b, insert, share, seed, radius) -> Bool[np.ndarray, "n h w"]:
    stable = regions(a, b, radius).stable
    rng = np.random.default_rng(seed)
    return np.stack([inheritable(stable, share, rng) for _ in range(insert)])


def _interleave(
    frames: Frames, inserted: Int[np.ndarray, "n G h w"], masks: Bool[np.ndarray, "n G h w"]
) -> Frames:
    n, gaps = inserted.shape[:2]
    ids = _put_between(frames.ids, inserted)
    inherited = _put_between(frames.inherited, masks)
    key_frame = _put_between(frames.key_frame, np.zeros((n, gaps), bool))
    return Frames(ids, key_frame, inherited)


def _put_between(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """[M, ...] and [n, M - 1, ...] to [(M - 1)(n + 1) + 1, ...] in time order."""
    steps = np.concatenate([known[None, :-1], new])  # [n + 1, M - 1, ...]
    ordered = steps.swapaxes(0, 1).reshape(-1, *known.shape[1:])
    return np.concatenate([ordered, known[-1:]])
