"""Do ids stay where the video stays, and change where it changes?

The skip mask copies ids that two key frames share, and a draft holds where the next frame
repeats an id, so this decides what both can save. A constant tokenizer would be perfectly
stable: `sensitivity` is there to tell.
"""

import numpy as np
from jaxtyping import Int, UInt8

STILL = 2  # levels of 255
MOVED = 8


def stability(
    frames: UInt8[np.ndarray, "N F Y X 3"], ids: Int[np.ndarray, "N F h w"], patch: int
) -> dict[str, float]:
    """Shares of ids that two consecutive frames have in common.

    Args:
        frames: consecutive frames of clips.
        ids: of these frames.
        patch: side of the square an id stands for, px.

    Returns:
        `same_where_equal`: where no pixel of the patch changes at all.
        `same_where_still`: where no pixel changes by more than 2 levels.
        `same_where_quiet`: where the mean absolute change is below 2 levels.
        `changed_where_moved`: share of ids that change where that mean is above 8 levels.
        Each is NaN where there are no such patches; `.._share` says how many there are.
    """
    n, t, height, width, _ = frames.shape
    change = np.abs(np.diff(frames.astype(np.int16), axis=1))
    shape = (n, t - 1, height // patch, patch, width // patch, patch, 3)
    patches = change.reshape(shape)
    most, mean = patches.max((3, 5, 6)), patches.mean((3, 5, 6), dtype=np.float32)
    same = np.diff(ids, axis=1) == 0
    regions = {
        "same_where_equal": (same, most == 0),
        "same_where_still": (same, most <= STILL),
        "same_where_quiet": (same, mean < STILL),
        "changed_where_moved": (~same, mean > MOVED),
    }
    values: dict[str, float] = {}
    for name, (what, where) in regions.items():
        values[name] = float(what[where].mean()) if where.any() else float("nan")
        values[f"{name.split('_where_')[1]}_share"] = float(where.mean())
    return values
