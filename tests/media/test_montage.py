"""Pictures of clips: every frame where it belongs, and what is said of it."""

import dataclasses
import hashlib

import numpy as np
import pytest
import tiny
import videos
from PIL import Image

from fv_jax.media.clip import Clip
from fv_jax.media.montage import contact_sheet, figure, montage, save_png

YELLOW = (240, 190, 60)
GREEN, ORANGE, WHITE = (60, 170, 90), (230, 140, 40), (235, 235, 235)
REAL, FAKE = np.full((9, 20, 30, 3), 50, np.uint8), np.full((9, 20, 30, 3), 90, np.uint8)
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
    centers = origins[:, 8::16, 8::16]
    expected = np.empty((3, 4, 4, 3))
    expected[:] = np.asarray([WHITE, ORANGE, WHITE])[:, None, None]
    expected[1, 0, 1] = GREEN
    np.testing.assert_array_equal(centers, expected)


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


def test_a_sheet_shows_every_clip_and_shortens_long_words():
    red, blue = (np.full((3, 40, 60, 3), 0, np.uint8) for _ in range(2))
    red[..., 0] = blue[..., 2] = 255
    sheet = contact_sheet([("a" * 500, "b " * 500, red), ("c", "d", blue)], 2)
    assert sheet.shape[1] < 900
    for color in (red, blue):
        assert (sheet == color[0, 0, 0]).all(axis=-1).sum() == 3 * 132 * 88
    tall = contact_sheet([("a", "b", np.zeros((3, 400, 20, 3), np.uint8))], 1)
    assert tall.shape[0] < 200


def _pairs():
    return [
        (text, *(videos.noise(count, size, seed=seed) for seed in (0, 1)))
        for text, count, size in (("a text", 9, (20, 30)), ("b", 12, (32, 48)))
    ]


def _sheet(*clips):
    return contact_sheet(clips, len(clips))


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda: montage([clip(), clip(5)]), "51651e3f5e2c0082"),
        (lambda: montage([dataclasses.replace(clip(), prompt="")]), "e84b86cd96c5720a"),
        (lambda: figure(_pairs(), given=2), "9d3feb8a99ab8577"),
        (
            lambda: _sheet(
                *(
                    (f"name {i} gjpqy", "words " * i**2, videos.noise(3, (40 + 30 * i, 60)))
                    for i in range(5)
                )
            ),
            "ceef78fd07484357",
        ),
        (lambda: _sheet(("a", "b\u00e9\u4f60", videos.noise(3, (400, 20)))), "de846ca5aa1b0b38"),
        (lambda: _sheet(("W" * 500, "b " * 500, videos.noise(3, (40, 600)))), "3ff8de1b47cc340f"),
    ],
)  # fmt: skip
def test_pictures_are_those_of_before(draw, expected):
    """Letters are drawn by Pillow: where only another version of it draws others, take its hash."""
    picture = np.ascontiguousarray(draw())
    assert hashlib.sha256(picture.tobytes()).hexdigest()[:16] == expected
