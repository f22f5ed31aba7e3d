"""Recursive interpolation as data (paper section 3.3): the gaps of a level, and what fills them.

    level 0    A               B               C
    level 1    A   x   x   x   B   x   x   x   C        insert 3

All gaps of a level, of all videos of a batch, are rows of one batch (`Gaps`). Ids that the skip
mask lets a frame inherit are copied from the key frames: they are left out of what the network
reads, if it was trained for that, or fed to it, but never sampled. Nothing here samples:
`interpolation.py` does.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from fv_jax.array_types import Ids
from fv_jax.generation.skip_mask import inheritable, regions
from fv_jax.sequence.vocab import FREE


@dataclasses.dataclass(frozen=True)
class VideoIds:
    """The id grids of one video in time order.

    Attributes:
        ids: int32.
        key_frame: which frames were given to the interpolation.
        inherited: which ids were copied from the neighboring key frames.
    """

    ids: Ids
    key_frame: Bool[np.ndarray, " F"]
    inherited: Bool[np.ndarray, "F h w"]

    @classmethod
    def of_key_frames(cls, ids: Ids) -> "VideoIds":
        """A video of key frames only, nothing inherited."""
        return cls(ids, np.ones(len(ids), bool), np.zeros(ids.shape, bool))


@dataclasses.dataclass(frozen=True)
class Gaps:
    """Every gap of one level: G rows, each to be filled with n frames.

    Attributes:
        level: how deep, from 0.
        video: which video each gap is of.
        number: which gap of its video, in time order; with the level and the video's seed it
            decides what is drawn for the row.
        a / b: id grids of the frames on both sides.
        inherited: which ids of the inserted frames are copied; there a and b are equal.
        inserted: the inserted frames as far as they are known, and FREE elsewhere.
        repeated: as large a share of b's ids that are a's, likewise apart from any change.
    """

    level: int
    video: list[int]
    number: list[int]
    a: Int[np.ndarray, "G h w"]
    b: Int[np.ndarray, "G h w"]
    inherited: Bool[np.ndarray, "inserted G h w"]
    inserted: Int[np.ndarray, "inserted G h w"]
    repeated: Bool[np.ndarray, "G h w"]

    def first_given(self, frames: Int[np.ndarray, "B inserted h w"]) -> "Gaps":
        """The same gaps, where what lies in every video's first one is given."""
        inherited, inserted = self.inherited.copy(), self.inserted.copy()
        for row in np.flatnonzero(np.asarray(self.number) == 0):
            inherited[:, row], inserted[:, row] = False, frames[self.video[row]]
        return dataclasses.replace(self, inherited=inherited, inserted=inserted)


def find_gaps(
    videos: list[VideoIds],
    *,
    level: int,
    insert: int,
    inherit: float,
    seeds: list[int],
    radius: int = 1,
    first: int = 0,
) -> Gaps | None:
    """The gaps between all neighbors, or None where there are none.

    Args:
        videos: each with at least one frame, all with the same grid.
        level: how deep, from 0.
        insert: n, frames to be put into every gap.
        inherit: share of stable ids to copy, drawn anew for every inserted frame.
        seeds: one per video; they decide which ids are inherited.
        radius: of the unstable ring around ids that differ.
        first: number of the first gap at this level, for parts of a longer video.
    """
    places = [(v, g) for v, frames in enumerate(videos) for g in range(len(frames.ids) - 1)]
    if not places:
        return None
    video, number = [v for v, _ in places], [first + g for _, g in places]
    a = np.stack([videos[v].ids[g] for v, g in places])
    b = np.stack([videos[v].ids[g + 1] for v, g in places])
    masks = [
        _inherited(a[i], b[i], insert + 1, inherit, (seeds[v], level, number[i]), radius)
        for i, v in enumerate(video)
    ]
    *inherited, repeated = np.stack(masks, axis=1)
    inherited = np.stack(inherited)
    known = np.where(inherited, a[None], FREE)
    return Gaps(level, video, number, a, b, inherited, known, repeated)


def interleave(
    videos: list[VideoIds], gaps: Gaps, inserted: Int[np.ndarray, "inserted G h w"]
) -> list[VideoIds]:
    """The videos with the inserted frames between those they had, in time order."""
    longer = []
    for v, frames in enumerate(videos):
        rows = np.flatnonzero(np.asarray(gaps.video) == v)
        new = (inserted[:, rows], gaps.inherited[:, rows])
        key_frame = np.zeros(new[0].shape[:2], bool)
        longer.append(
            VideoIds(
                _put_between(frames.ids, new[0]),
                _put_between(frames.key_frame, key_frame),
                _put_between(frames.inherited, new[1]),
            )
        )
    return longer


def _inherited(a, b, count, share, seed, radius) -> Bool[np.ndarray, "inserted_and_b h w"]:
    """Of each inserted frame and then of b."""
    stable = regions(a, b, radius).stable
    rng = np.random.default_rng(seed)
    return np.stack([inheritable(stable, share, rng) for _ in range(count)])


def _put_between(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """[F, ...] and [inserted, F - 1, ...] to [(F - 1) (inserted + 1) + 1, ...] in time order."""
    steps = np.concatenate([known[None, :-1], new])  # [inserted + 1, F - 1, ...]
    ordered = steps.swapaxes(0, 1).reshape(-1, *known.shape[1:])
    return np.concatenate([ordered, known[-1:]])
