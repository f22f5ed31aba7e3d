"""Shares of the skip mask and of drafts, on grids small enough to count."""

import numpy as np
import pytest

from experiments.benches.skip_mask import _shares
from experiments.benches.video_tokenizer import _pooled


def test_a_still_video_is_stable_and_every_draft_holds():
    assert _shares(np.zeros((9, 5, 5), int), 4, 1) == {
        "Different": 0.0, "Unstable": 0.0, "Stable": 1.0,
        "draft, key frame": 1.0, "draft, nearer key frame": 1.0, "draft, frame beside": 1.0,
    }  # fmt: skip


def test_one_id_that_changes_half_way_between_key_frames():
    ids = np.zeros((5, 5, 5), int)
    ids[2:, 2, 2] = 1  # frames 0 and 4 are key frames; 2 is as near to both, and counts as A's
    shares = _shares(ids, 4, 1)
    assert shares["Different"] == pytest.approx(1 / 25)
    assert shares["Unstable"] == pytest.approx(8 / 25)
    assert shares["Stable"] == pytest.approx(16 / 25)
    assert shares["draft, key frame"] == pytest.approx(24 / 25)
    # Of three frames between, one has an id that its nearer key frame, or the one before, has not.
    assert shares["draft, nearer key frame"] == pytest.approx(1 - 1 / 75)
    assert shares["draft, frame beside"] == pytest.approx(1 - 1 / 75)


def test_shares_of_clips_are_pooled_by_their_patches():
    part = {f"{name}_share": 0.5 for name in ("equal", "still", "quiet", "moved")}
    keys = ("same_where_equal", "same_where_still", "same_where_quiet", "changed_where_moved")
    one = part | dict.fromkeys(keys, 1.0)
    other = {name: 0.0 for name in part} | dict.fromkeys(keys, float("nan"))
    third = part | dict.fromkeys(keys, 0.5)
    values = _pooled([one, other, third], [10, 10, 30])
    assert values["same_where_still"] == pytest.approx((5 + 15 * 0.5) / 20)
    assert values["still_share"] == pytest.approx(20 / 50)
