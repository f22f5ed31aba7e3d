"""`shapes`: the grammar and the numbers of the set, and pixels that are what they claim."""

import dataclasses
import itertools

import numpy as np
import pytest

from fv_jax.shapes import scenes
from fv_jax.shapes.scenes import ShapeClip

SPLITS = ("train", "valid", "test", "heldout")
HELD_OUT = {("cyan", "triangle"), ("orange", "square"), ("purple", "circle")}
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 210, 40),
    "purple": (160, 60, 200),
    "cyan": (40, 200, 220),
    "orange": (240, 130, 30),
    "white": (240, 240, 240),
}
COUNT = 400  # clips looked at, of each split
# Half of width and height, in radii.
BOXES = {"circle": (1, 1), "square": (0.9, 0.9), "triangle": (1.08, 0.9)}
AREAS = {"circle": np.pi, "square": 1.8**2, "triangle": 1.8 * 2.16 / 2}  # in radii squared


def clips(*splits):
    return [scenes.clip(split, i) for split in splits or SPLITS for i in range(COUNT)]


def still(shape="circle", colour="white", background="black", radius=13.0, at=(32.0, 32.0)):
    """A clip whose object does not move."""
    return ShapeClip("large", colour, shape, "right", background, radius, at, 0.0)


def coverage(spec, frame=0):
    """How much of every pixel the object covers; `spec` is white on black."""
    return scenes.render(spec, np.asarray([frame]))[0, :, :, 0] / 240.0


def test_the_grammar_has_768_captions():
    words = (
        ("small", "large"), COLOURS, ("circle", "square", "triangle"),
        ("left", "right", "up", "down"), ("black", "gray", "stripes", "checks"),
    )  # fmt: skip
    expected = {
        f"a {size} {colour} {shape} moves {direction} over {background}"
        for size, colour, shape, direction, background in itertools.product(*words)
    }
    assert len(expected) == 768
    assert set(scenes.all_captions()) == expected
    assert len(scenes.all_captions()) == 768


def test_held_out_captions_are_an_eighth_and_the_rest_is_the_rest():
    held_out, trained = scenes.all_captions(True), scenes.all_captions(False)
    assert (len(held_out), len(trained)) == (96, 672)
    assert set(held_out) | set(trained) == set(scenes.all_captions())


def test_captions_say_what_the_clip_shows():
    captions = set(scenes.all_captions())
    for spec in clips():
        assert spec.caption == (
            f"a {spec.size} {spec.colour} {spec.shape} moves {spec.direction} "
            f"over {spec.background}"
        )
        assert spec.caption in captions


def test_held_out_pairs_are_in_the_heldout_split_and_in_no_other():
    pairs = {split: {(spec.colour, spec.shape) for spec in clips(split)} for split in SPLITS}
    assert pairs["heldout"] == HELD_OUT
    for split in ("train", "valid", "test"):
        assert not pairs[split] & HELD_OUT
        assert len(pairs[split]) == 8 * 3 - 3


def test_every_word_is_equally_likely():
    specs = clips("train", "valid", "test")
    for field, options in [("size", 2), ("direction", 4), ("background", 4)]:
        values, counts = np.unique([getattr(s, field) for s in specs], return_counts=True)
        assert len(values) == options
        expected = len(specs) / options
        assert (np.abs(counts - expected) < 5 * expected**0.5).all()


def test_a_clip_is_a_function_of_split_and_index():
    assert scenes.clip("valid", 7) == scenes.clip("valid", 7)
    first = scenes.render(scenes.clip("valid", 7))
    np.testing.assert_array_equal(first, scenes.render(scenes.clip("valid", 7)))
    assert len({dataclasses.astuple(spec) for spec in clips()}) == COUNT * len(SPLITS)


def test_a_clip_known_by_heart():
    # The set must never change: checkpoints and published numbers refer to it.
    spec = scenes.clip("train", 0)
    assert spec.caption == "a small red circle moves right over stripes"
    assert spec.radius == pytest.approx(7.83484, abs=1e-5)
    assert int(scenes.render(spec).astype(np.int64).sum()) == 8_880_132


def test_sizes_and_travel_are_in_range():
    for spec in clips():
        low, high = {"small": (6, 8), "large": (12, 14)}[spec.size]
        assert low <= spec.radius <= high
        assert spec.travel <= 36
        axis = 0 if spec.direction in ("left", "right") else 1
        room = 64 - 2 * BOXES[spec.shape][axis] * spec.radius
        assert spec.travel >= min(16, room) - 1e-9


def test_travel_fills_its_range():
    travel = np.asarray([spec.travel for spec in clips() if spec.size == "small"])
    assert travel.min() < 17
    assert travel.max() > 35
    assert travel.mean() == pytest.approx(26, abs=0.7)


def test_objects_never_leave_the_frame():
    for spec in clips():
        half = np.asarray(BOXES[spec.shape]) * spec.radius
        assert (spec.centers() - half >= -1e-9).all()
        assert (spec.centers() + half <= 64 + 1e-9).all()


def test_motion_is_straight_and_of_constant_speed():
    ways = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    for spec in clips():
        steps = np.diff(spec.centers(), axis=0)
        assert len(steps) == 16
        expected = np.asarray(ways[spec.direction]) * spec.travel / 16
        np.testing.assert_allclose(steps, np.broadcast_to(expected, (16, 2)), atol=1e-9)


@pytest.mark.parametrize("spec", clips("valid")[:12], ids=lambda spec: spec.caption)
def test_pixels_move_as_the_clip_says(spec):
    white = dataclasses.replace(spec, colour="white", background="black")
    weight = scenes.render(white)[..., 0] / 240.0
    y, x = np.mgrid[:64, :64] + 0.5
    centroid = np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], axis=1)
    centroid /= weight.sum((1, 2))[:, None]
    # A triangle's centre of mass lies a third of its height above its base.
    middle = (0, 0.3 * spec.radius) if spec.shape == "triangle" else (0, 0)
    np.testing.assert_allclose(centroid, spec.centers() + middle, atol=0.08)


def test_frames_are_17_at_8_fps_and_64_px_square():
    frames = scenes.render(scenes.clip("test", 3))
    assert (frames.shape, frames.dtype) == ((17, 64, 64, 3), np.uint8)
    assert (scenes.FRAME_SIZE, scenes.NUM_FRAMES, scenes.FPS) == (64, 17, 8)


def test_chosen_frames_are_those_of_the_whole_clip():
    spec = scenes.clip("train", 5)
    some = scenes.render(spec, np.asarray([16, 0, 8]))
    np.testing.assert_array_equal(some, scenes.render(spec)[[16, 0, 8]])


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", BOXES)
def test_the_inside_has_exactly_the_colour(colour, shape):
    frame = scenes.render(still(shape, colour, "checks"))[0]
    assert (frame[28:36, 28:36] == COLOURS[colour]).all()


@pytest.mark.parametrize("background", ["black", "gray", "stripes", "checks"])
def test_backgrounds_are_dark_static_and_untouched_outside_the_object(background):
    plain = scenes.background(background)
    assert plain.max() <= 72
    assert (plain == np.round(plain)).all()
    spec = dataclasses.replace(scenes.clip("train", 1), background=background)
    frames = scenes.render(spec)
    x, y = spec.centers().T
    rows, columns = np.mgrid[:64, :64] + 0.5
    reach = 1.5 * spec.radius + 2
    for frame, cx, cy in zip(frames, x, y):
        far = np.hypot(columns - cx, rows - cy) > reach
        np.testing.assert_array_equal(frame[far], plain[far])


def test_backgrounds_differ():
    names = ("black", "gray", "stripes", "checks")
    for a, b in itertools.combinations(names, 2):
        assert (scenes.background(a) != scenes.background(b)).any()


@pytest.mark.parametrize("shape", BOXES)
@pytest.mark.parametrize("radius", [6.3, 13.7])
@pytest.mark.parametrize("at", [(32.0, 32.0), (31.5, 30.2), (24.77, 38.31)])
def test_anti_aliased_area_is_the_true_area(shape, radius, at):
    area = coverage(still(shape, radius=radius, at=at)).sum()
    assert area == pytest.approx(AREAS[shape] * radius**2, rel=0.015)


@pytest.mark.parametrize("shape", BOXES)
def test_edges_are_soft_and_one_pixel_wide(shape):
    cover = coverage(still(shape, radius=13.3, at=(31.8, 32.3)))
    soft = (cover > 0) & (cover < 1)
    assert soft.any()
    width, height = 2 * 13.3 * np.asarray(BOXES[shape])
    assert soft.sum() < 2.2 * (width + height)
    rows, columns = np.nonzero(cover > 0.5)
    assert np.ptp(columns) + 1 == pytest.approx(width, abs=1.1 if shape != "triangle" else 2.2)
    assert np.ptp(rows) + 1 == pytest.approx(height, abs=1.1 if shape != "triangle" else 2.2)


def test_triangles_stand_upright():
    cover = coverage(still("triangle"))
    widths = (cover > 0.5).sum(1)
    inside = widths[widths > 0]
    assert (np.diff(inside) >= 0).all()
    assert inside[0] <= 2
    assert inside[-1] >= 26


@pytest.mark.parametrize(
    ("split", "index", "message"),
    [("training", 0, "split: no 'training'; did you mean 'train'?"), ("train", -1, ">= 0")],
)
def test_unknown_clips_are_refused(split, index, message):
    with pytest.raises(ValueError, match=message):
        scenes.clip(split, index)


def test_an_unknown_background_is_refused():
    with pytest.raises(ValueError, match="background: no 'grey'"):
        scenes.background("grey")
