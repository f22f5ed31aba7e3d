"""Stability of ids, by hand: one row of patches of 2 px, each a kind of change."""

import math

import numpy as np
import pytest

from fv_jax.metrics.token_stability import stability

# Added to the 12 numbers of a patch from one frame to the next.
EQUAL = [0] * 12
STILL = [2] * 12  # every pixel moves by two levels
QUIET = [20] + [0] * 11  # one number moves far, the mean is below 2
MIDDLE = [8] * 12  # neither still nor moved
MOVED = [9] * 12


def clip(*patches):
    """One clip of two frames, uint8 [1, 2, 2, 2 * patches, 3]."""
    change = np.asarray(patches).reshape(-1, 2, 2, 3).transpose(1, 0, 2, 3).reshape(2, -1, 3)
    first = np.full(change.shape, 100)
    return np.stack([first, first + change])[None].astype(np.uint8)


def ids(*changed):
    first = np.arange(len(changed))
    return np.stack([first, first + 10 * np.asarray(changed)])[None, :, None]


def test_each_kind_of_patch_counts_where_it_belongs():
    frames = clip(EQUAL, STILL, QUIET, MIDDLE, MOVED, MOVED, MOVED, EQUAL)
    values = stability(frames, ids(0, 1, 0, 1, 1, 1, 0, 0), 2)
    assert values == pytest.approx(
        {
            "same_where_equal": 1.0,
            "equal_share": 2 / 8,
            "same_where_still": 2 / 3,
            "still_share": 3 / 8,
            "same_where_quiet": 1.0,
            "quiet_share": 3 / 8,
            "changed_where_moved": 2 / 3,
            "moved_share": 3 / 8,
        }
    )


def test_darkening_counts_like_brightening():
    kinds = (EQUAL, STILL, QUIET, MOVED)
    frames = clip(*kinds)
    assert stability(frames[:, ::-1], ids(0, 1, 0, 1), 2) == stability(frames, ids(0, 1, 0, 1), 2)


def test_only_neighboring_frames_of_the_same_clip_are_compared():
    still, moved = clip(EQUAL), clip(MOVED)
    frames = np.concatenate([np.concatenate([still, moved], 1), np.concatenate([moved, still], 1)])
    grids = np.asarray([[0, 0, 0, 1], [5, 6, 0, 0]])[:, :, None, None]
    values = stability(frames, grids, 2)
    # Changes: none, none, 9 levels; 9 levels, -9, none.
    assert (values["same_where_equal"], values["equal_share"]) == (1.0, 0.5)
    assert (values["changed_where_moved"], values["moved_share"]) == (1.0, 0.5)


def test_constant_ids_are_stable_and_not_sensitive():
    values = stability(clip(EQUAL, STILL, MOVED), ids(0, 0, 0), 2)
    assert (values["same_where_still"], values["changed_where_moved"]) == (1.0, 0.0)


def test_what_no_patch_shows_is_nan():
    values = stability(clip(MIDDLE), ids(1), 2)
    assert {name for name, value in values.items() if math.isnan(value)} == {
        "same_where_equal",
        "same_where_still",
        "same_where_quiet",
        "changed_where_moved",
    }
    assert [value for name, value in values.items() if name.endswith("_share")] == [0.0] * 4
