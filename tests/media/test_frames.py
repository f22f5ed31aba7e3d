"""Clips: which frames are seen at a rate, where windows lie, and how frames are scaled."""

import dataclasses
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tiny

from fv_jax.media.frames import (
    Window,
    at_even_times,
    fit,
    frame_numbers,
    latest_start,
    read,
    read_centered,
    read_frames,
    read_pieces,
    read_random,
)
from fv_jax.media.readers import Array, ClipError

SLACK = 1.1e-3  # s


@dataclasses.dataclass
class Numbered:
    """A reader whose frames show their number in every pixel."""

    times: np.ndarray
    size: tuple[int, int] = (4, 6)
    asked: list = dataclasses.field(default_factory=list)
    notes: tuple = ()

    def each(self, indices):
        self.asked.append(list(indices))
        for index in indices:
            yield np.full((*self.size, 3), index, np.uint8)

    def frames(self, indices):
        return np.stack(list(self.each(indices)))


def even(count=50, fps=25.0):
    return Numbered(np.arange(count) / fps)


def on_screen(times, moment):
    """Plainly: the last frame that has appeared."""
    shown = 0
    for number, time in enumerate(times):
        if time <= moment + SLACK:
            shown = number
    return shown


@st.composite
def uneven(draw):
    gaps = draw(st.lists(st.floats(0.005, 2), min_size=1, max_size=40))
    return Numbered(np.concatenate([[0], np.cumsum(gaps)]))


@hypothesis.given(uneven(), st.floats(0.2, 60), st.floats(0, 1))
def test_frames_are_those_on_the_screen(reader, fps, share):
    start = share * float(reader.times[-1])
    moments = (float(reader.times[-1]) + SLACK - start) * fps
    hypothesis.assume(abs(moments - round(moments)) > 1e-6)  # no moment at the very end
    expected, k = [], 0
    while start + k / fps <= reader.times[-1] + SLACK:
        expected.append(on_screen(reader.times, start + k / fps))
        k += 1
    got = frame_numbers(reader, fps, start).tolist()
    assert got == expected
    for count in range(1, min(len(got), 5)):
        assert frame_numbers(reader, fps, start, count).tolist() == got[:count]
    with pytest.raises(ClipError, match=f"too short: {len(got)} frames at"):
        frame_numbers(reader, fps, start, len(got) + 1)


@hypothesis.given(uneven(), st.floats(0, 1))
def test_without_a_rate_every_frame_comes_once(reader, share):
    start = share * float(reader.times[-1])
    first = on_screen(reader.times, start)
    numbers = frame_numbers(reader, 0, start)
    assert numbers.tolist() == list(range(first, len(reader.times)))
    assert frame_numbers(reader, 0, start, 1).tolist() == [first]
    with pytest.raises(ClipError, match="too short"):
        frame_numbers(reader, 0, start, len(numbers) + 1)


@pytest.mark.parametrize("fps", [23.976, 24, 25, 29.97, 30, 50, 59.94, 60])
@pytest.mark.parametrize("tick", [None, 1e-3, 1 / 90000])
def test_at_its_own_rate_a_clip_comes_as_it_is(fps, tick):
    times = np.arange(400) / fps
    if tick:  # containers round
        times = np.round((times + 0.0123) / tick) * tick
        times -= times[0]
    assert frame_numbers(Numbered(times), fps).tolist() == list(range(400))


def test_half_and_double_the_rate():
    assert frame_numbers(even(), 12.5).tolist() == list(range(0, 50, 2))
    doubled = frame_numbers(even(), 50).tolist()
    assert doubled == [number // 2 for number in range(99)]


@pytest.mark.parametrize("fps", [0, 8])
def test_starts_outside_the_clip(fps):
    with pytest.raises(ValueError, match="start must be >= 0, got -1"):
        frame_numbers(even(), fps, -1)
    with pytest.raises(ClipError, match="it ends before 5 s"):
        frame_numbers(even(), fps, 5)
    assert frame_numbers(even(), fps, 49 / 25).tolist() == [49]


@pytest.mark.parametrize(
    "bad", [{"fps": -1}, {"fps": math.nan}, {"fps": math.inf}, {"size": 0}, {"count": -1}]
)
def test_windows_that_make_no_sense(bad):
    with pytest.raises(ValueError, match="fps and count must be >= 0, size >= 1"):
        Window(**{"fps": 8.0, "size": 4, "count": 3} | bad)


@hypothesis.given(uneven(), st.sampled_from([0, 0.5, 3, 7.3, 24]), st.integers(1, 12))
def test_the_latest_window_fits_and_a_later_one_does_not(reader, fps, count):
    window = Window(fps, 4, count)
    try:
        start = latest_start(reader, window)
    except ClipError:
        with pytest.raises(ClipError, match="too short"):
            frame_numbers(reader, fps, 0, count)
        return
    numbers = frame_numbers(reader, fps, start, count)
    assert len(numbers) == count
    assert numbers[-1] == len(reader.times) - 1 or start == 0
    gap = 1 / fps if fps else 2.1
    with pytest.raises(ClipError):
        frame_numbers(reader, fps, start + gap + 0.01, count)


def test_random_windows_reach_every_part_of_the_clip():
    rng, window = np.random.default_rng(0), Window(5.0, 4, 4)
    seen = [read_random(even(), window, rng)[:, 0, 0, 0] for _ in range(400)]
    assert {int(row[0]) for row in seen} == set(range(35))
    assert {int(row[-1]) for row in seen} == set(range(15, 50))
    assert all((np.diff(row) == 5).all() for row in seen)
    again = [read_random(even(), window, np.random.default_rng(3))[0, 0, 0, 0] for _ in range(2)]
    assert again[0] == again[1]


def test_a_clip_that_just_fits_has_one_window():
    window = Window(25.0, 4, 50)
    for frames in (
        read_random(even(), window, np.random.default_rng(0)),
        read_centered(even(), window),
    ):
        assert frames[:, 0, 0, 0].tolist() == list(range(50))
    with pytest.raises(ClipError, match="50 frames at 25 fps of the 51 wanted"):
        read_random(even(), Window(25.0, 4, 51), np.random.default_rng(0))


def test_the_centred_window_leaves_as_much_on_both_sides():
    frames = read_centered(even(51), Window(25.0, 4, 11))[:, 0, 0, 0]
    assert frames.tolist() == list(range(20, 31))
    assert read_centered(even(51), Window(5.0, 4, 3))[:, 0, 0, 0].tolist() == [20, 25, 30]


def test_a_frame_may_be_wanted_twice_and_is_decoded_once():
    reader = even()
    frames = read_frames(reader, np.asarray([3, 7, 7, 9]), 4)
    assert frames[:, 0, 0, 0].tolist() == [3, 7, 7, 9]
    assert read(reader, Window(100.0, 4, 5), 1.0)[:, 0, 0, 0].tolist() == [25, 25, 25, 25, 26]
    pieces = read_pieces(reader, [np.asarray([1, 1, 2]), np.asarray([2, 5])], 4)
    assert [piece[:, 0, 0, 0].tolist() for piece in pieces] == [[1, 1, 2], [2, 5]]
    assert reader.asked == [[3, 7, 7, 9], [25, 25, 25, 25, 26], [1, 1, 2, 2, 5]]


def test_frames_of_the_right_size_are_left_alone():
    frames = tiny.video(3)
    np.testing.assert_array_equal(fit(frames, (64, 64)), frames)
    reader = Array(lambda: frames, 8.0, count=3, size=(64, 64))
    np.testing.assert_array_equal(read(reader, Window(0, 64)), frames)


def test_the_middle_is_cut_out_of_a_longer_side():
    for axis in (1, 2):
        shape = [2, 64, 64, 3]
        shape[axis] = 100
        long = np.zeros(shape, np.uint8)
        long[(slice(None),) * axis + (slice(18, 82),)] = tiny.video(2)
        np.testing.assert_array_equal(fit(long, (64, 64)), tiny.video(2))


@pytest.mark.parametrize("shape", [(128, 128), (32, 32), (240, 426), (50, 33), (1080, 1920)])
def test_scaling_keeps_the_middle_and_adds_no_edge(shape):
    gradient = np.linspace(0, 255, shape[1]).astype(np.uint8)
    frames = np.ascontiguousarray(np.broadcast_to(gradient[:, None], (2, *shape, 3)))
    fitted = fit(frames, (64, 64))
    assert (fitted.shape, fitted.dtype) == ((2, 64, 64, 3), np.uint8)
    assert fitted[:, :, 28:36].astype(float).mean() == pytest.approx(127, abs=4)
    slope = 255 * 64 * max(64 / shape[0], 64 / shape[1]) ** -1 / shape[1] / 64
    assert np.diff(fitted[0, 32, 4:60, 0].astype(float)).mean() == pytest.approx(slope, rel=0.1)


@hypothesis.given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_any_size_covers_any_other(height, width, to_height, to_width):
    frames = np.full((2, height, width, 3), 77, np.uint8)
    fitted = fit(frames, (to_height, to_width))
    assert fitted.shape == (2, to_height, to_width, 3)
    assert (fitted == 77).all()  # no black edge, no overshoot


def test_fine_patterns_become_gray_and_not_stripes():
    """Without antialias one pixel in four would be taken: all white."""
    lines = np.zeros((1, 256, 256, 3), np.uint8)
    lines[:, ::2] = 255
    fitted = fit(lines, (64, 64))
    assert np.abs(fitted[0, 4:-4].astype(float) - 127.5).max() <= 3
    wide = np.zeros((1, 256, 256, 3), np.uint8)
    wide[:, :, :128] = 255
    edge = fit(wide, (64, 64))[0, 32, :, 0]
    assert edge[:29].min() >= 250  # a wide edge stays one
    assert edge[35:].max() <= 5


def test_even_clips_come_as_they_are_at_their_mean_rate():
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, 90)
    for times in (np.arange(90) / 29.97, np.sort(np.arange(90) / 30 + jitter), np.arange(2) / 7.0):
        numbers, fps, notes = at_even_times(Numbered(times - times[0]))
        assert numbers.tolist() == list(range(len(times)))
        assert (len(times) - 1) / fps == pytest.approx(float(times[-1] - times[0]))
        assert not notes


@hypothesis.given(uneven())
def test_uneven_clips_last_as_long(reader):
    numbers, fps, notes = at_even_times(reader)
    assert (len(numbers) - 1) / fps == pytest.approx(float(reader.times[-1]), abs=0.51 / fps)
    assert (np.diff(numbers) >= 0).all()
    moments = np.arange(len(numbers)) / fps
    if notes:
        assert all(number == on_screen(reader.times, m) for number, m in zip(numbers, moments))


def test_a_pause_of_hours_is_not_filled_with_frames():
    times = np.concatenate([np.arange(50) / 25, 7200 + np.arange(50) / 25])
    with pytest.raises(ClipError, match="more than 50000; cut the pauses out"):
        at_even_times(Numbered(times))
