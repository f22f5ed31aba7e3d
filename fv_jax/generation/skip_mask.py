"""Which ids between two key frames need no generation (paper section 3.3, Fig. 4).

key frame A     key frame B       D different: the ids differ
1 1 1 1 1 1     1 1 1 1 1 1       u unstable: equal, within `radius` of a different one
1 1 1 1 1 1     1 1 1 1 1 1       . stable: the rest
1 7 1 1 1 1     1 1 1 1 1 1       + inheritable: a random share of the stable ones
                                      u u u . + .
Masks are boolean [h, w] grids.       u u u + . .   (an example: D is at row 2, column 1,
                                      u D u . . +    and the ring of u is cut at the edge)
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

HARMLESS = 0.005  # of the stable ids, copied wrongly


@dataclasses.dataclass(frozen=True)
class SkipMask:
    """The three regions; every id is in exactly one."""

    different: Bool[np.ndarray, "h w"]
    unstable: Bool[np.ndarray, "h w"]
    stable: Bool[np.ndarray, "h w"]


def regions(a: Int[np.ndarray, "h w"], b: Int[np.ndarray, "h w"], radius: int = 1) -> SkipMask:
    """Compare the id grids of two key frames.

    Args:
        a, b: ids.
        radius: width of the unstable ring, in ids, diagonals included (8-neighborhood at 1).

    Raises:
        ValueError: grids of different shapes, or a negative radius.
    """
    if a.shape != b.shape:
        raise ValueError(f"key frames must have the same grid, got {a.shape} and {b.shape}")
    if radius < 0:
        raise ValueError(f"radius must be >= 0, got {radius}")
    different = a != b
    padded = np.pad(different, radius)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
    near = np.asarray(windows.any(axis=(-2, -1)))
    return SkipMask(different, near & ~different, ~near)


def ring(reach: int, grid: tuple[int, int]) -> int:
    """Radius of the unstable ring: how far a patch's id may depend on the patches beside it.

    Where an id sees the whole frame (icetk) no ring is wide enough; the paper's is one id.

    Args:
        reach: of the frame tokenizer, in ids.
        grid: (h, w) ids of a frame.
    """
    return reach if 1 <= reach < max(grid) else 1


def inheritable(
    stable: Bool[np.ndarray, "h w"], share: float, rng: np.random.Generator
) -> Bool[np.ndarray, "h w"]:
    """A random `share` (0..1) of the stable ids, to the nearest whole number of them.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"inherit must be a share in [0, 1], got {share}")
    places = np.flatnonzero(stable)
    chosen = rng.permutation(places)[: round(share * len(places))]
    mask = np.zeros(stable.size, bool)
    mask[chosen] = True
    return mask.reshape(stable.shape)


def harmless_share(stable: int, wrong: int, limit: float = HARMLESS) -> float:
    """How large a share of the stable ids may be inherited, as those of clips held out tell.

    Which of them are inherited is drawn at random, so of the copies as large a part is wrong as of
    all stable ids. A share keeps what is copied wrongly below `limit` of the stable ids.

    Args:
        stable: how many ids were stable.
        wrong: how many of these were other ids in the frames between.
        limit: the largest part of the stable ids that may be copied wrongly.
    """
    return min(1.0, limit * stable / wrong) if wrong else float(stable > 0)
