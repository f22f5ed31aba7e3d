"""The montage shows every frame where it belongs, and where its ids came from."""

import numpy as np
import pytest
import tiny
from PIL import Image

from fv_jax.media.clip import Clip
from fv_jax.media.montage import montage, save_png

GREEN, ORANGE, WHITE = (60, 170, 90), (230, 140, 40), (235, 235, 235)
STEP = 64 + 6  # a frame and its border


def clip(frames=3):
    inherited = np.zeros((frames, 4, 4), bool)
    inherited[1, 0, 1] = True
    return Clip(
        frames=tiny.video(frames),
        ids=np.zeros((frames, 4, 4), np.int32),
        key_frame=np.arange(frames) != 1,
        inherited=inherited,
        prompt="a sentence",
        seed=0,
        fps=8.0,
        stats={},
    )


def strips(picture):
    """Frames and origins, [M, 64, 64, 3] each, cut out of the montage of one clip."""
    top = next(
        row for row in range(len(picture)) if (picture[row + 3, 3:67] == clip().frames[0, 0]).all()
    )
    cut = lambda row, m: picture[row + 3 : row + 67, m * STEP + 3 : m * STEP + 67]
    return [np.stack([cut(row, m) for m in range(3)]) for row in (top, top + STEP)]


def test_frames_stand_side_by_side_unchanged():
    frames, _ = strips(montage([clip()]))
    np.testing.assert_array_equal(frames, clip().frames)


def test_origins_are_white_for_key_frames_orange_for_sampled_green_for_inherited_ids():
    _, origins = strips(montage([clip()]))
    centres = origins[:, 8::16, 8::16]
    expected = np.empty((3, 4, 4, 3))
    expected[:] = np.asarray([WHITE, ORANGE, WHITE])[:, None, None]
    expected[1, 0, 1] = GREEN
    np.testing.assert_array_equal(centres, expected)


def test_key_frames_have_a_white_border():
    picture = montage([clip()])
    row = int(np.argwhere((picture == WHITE).all(-1))[0, 0])
    line = (picture[row] == WHITE).all(-1)
    assert [line[m * STEP + 1 : (m + 1) * STEP - 1].all() for m in range(3)] == [True, False, True]


def test_clips_of_different_lengths_stand_below_each_other():
    one, both = montage([clip()]), montage([clip(), clip(5)])
    assert len(both) == 2 * len(one)
    assert both.shape[1] == 5 * STEP
    np.testing.assert_array_equal(both[: len(one), : one.shape[1]], one)


def test_a_clip_of_key_frames_only_has_a_montage():
    first = clip()
    only = Clip(first.frames[:1], first.ids[:1], first.key_frame[:1], first.inherited[:1],
                "", 0, 8.0, {})  # fmt: skip
    assert montage([only]).shape[1] >= STEP


@pytest.mark.parametrize("name", ["a.png", "deeper/a.png"])
def test_png_is_written_exactly(tmp_path, name):
    picture = montage([clip()])
    save_png(picture, tmp_path / name)
    with Image.open(tmp_path / name) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
