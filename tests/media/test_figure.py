"""Fig. 5: ours above ground truth, given frames marked; clips that a browser plays."""

import numpy as np
import pytest
import videos

from fv_jax.media.figure import figure, write_playable

REAL, FAKE = np.full((9, 20, 30, 3), 50, np.uint8), np.full((9, 20, 30, 3), 90, np.uint8)
YELLOW = (240, 190, 60)


def test_ours_is_above_and_given_frames_have_a_border():
    picture = figure([("a text", REAL, FAKE)], given=2)
    ours = np.argwhere((picture == 90).all(-1))
    real = np.argwhere((picture == 50).all(-1))
    assert ours[:, 0].max() < real[:, 0].min()
    assert len(ours) == len(real) == 9 * 20 * 30
    border = (picture == YELLOW).all(-1)
    assert border.sum() == 2 * 2 * (26 * 36 - 20 * 30)
    assert np.argwhere(border)[:, 1].max() < ours[:, 1].min() + 2 * 36 + 3


def test_pairs_of_other_widths_fit_into_one_picture():
    picture = figure([("a", REAL, FAKE), ("b", REAL[:3], FAKE[:3])], given=0)
    assert not (picture == YELLOW).all(-1).any()
    assert (picture == 90).all(-1).sum() == 12 * 20 * 30


@pytest.mark.parametrize(("shape", "suffix"), [((32, 48), ".mp4"), ((31, 48), ".gif")])
def test_odd_sides_become_a_gif(shape, suffix, tmp_path):
    path = write_playable(videos.noise(5, shape), 8.0, tmp_path / "00-real")
    assert path.suffix == suffix
    assert videos.read(path)[0].shape == (5, *shape, 3)
