"""Reading a clip's attributes off its pixels: right on rendered clips, honest on broken ones."""

import numpy as np
import pytest

from fv_jax.shapes import scenes
from fv_jax.shapes.adherence import agreement, off_line, read


@pytest.mark.parametrize("split", ["test", "heldout"])
def test_rendered_clips_agree_with_their_captions(split):
    for index in range(60):
        clip = scenes.clip(split, index)
        found = agreement(read(scenes.render(clip)), clip.caption)
        assert found == dict.fromkeys(("size", "colour", "shape", "direction", "all"), True)


@pytest.mark.parametrize(
    ("word", "other", "attribute"),
    [
        ("small", "large", "size"),
        ("red", "blue", "colour"),
        ("circle", "square", "shape"),
        ("left", "right", "direction"),
    ],
)
def test_a_wrong_word_is_found_and_only_it(word, other, attribute):
    clip = scenes.ShapeClip("small", "red", "circle", "left", "checks", 7.0, (50.0, 32.0), 30.0)
    found = agreement(read(scenes.render(clip)), clip.caption.replace(word, other))
    assert [name for name, right in found.items() if not right] == [attribute, "all"]


def test_a_clip_without_an_object_agrees_with_nothing():
    empty = np.broadcast_to(scenes.background("gray"), (5, 64, 64, 3)).astype(np.uint8)
    reading = read(empty)
    assert (reading.size, reading.colour, reading.shape, reading.direction) == ("", "", "", "")
    assert np.isnan(reading.centroids).all()
    assert not any(agreement(reading, scenes.clip("test", 0).caption).values())


def test_an_object_that_vanishes_or_stands_still_has_no_direction():
    frames = scenes.render(scenes.clip("test", 0))
    gone = frames.copy()
    gone[-1] = 0
    assert read(gone).direction == ""
    assert read(frames[:1].repeat(5, axis=0)).direction == ""


def test_a_second_object_is_stray():
    clip = scenes.ShapeClip("large", "red", "square", "right", "black", 13.0, (20.0, 40.0), 20.0)
    frames = scenes.render(clip)
    assert read(frames).stray == 0
    frames[:, 2:8, 2:8] = 255
    assert read(frames).stray == pytest.approx(36 / (23**2 + 36), abs=0.01)


def test_distance_from_uniform_motion():
    time = np.arange(9.0)
    key = time % 4 == 0
    line = np.stack([3 + 2 * time, 50 - time], axis=1)
    assert off_line(line, key) == pytest.approx((0, 0), abs=1e-9)
    bent = line + np.where(key, 0, 1.5)[:, None] * [0, 1]
    assert off_line(bent, key) == pytest.approx((0, 1.5), abs=1e-9)
    assert np.isnan(off_line(line, np.ones(9, bool))[1])
