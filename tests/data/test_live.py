"""Tokenizing while training: new windows at every draw, and no gap where a clip is unreadable."""

import collections

import numpy as np
import pytest
import tiny

from fv_jax.data.live import LiveClips
from fv_jax.data.skips import Skips
from fv_jax.media.frames import Window
from fv_jax.media.readers import ClipError

WINDOW = Window(fps=8.0, size=64, count=3)
BROKEN = ClipError("not a video")


def gradient(count=8, level=0):
    """Frames that get brighter over time, and from left to right."""
    frames = np.zeros((count, 64, 64, 3), np.uint8)
    frames += np.arange(count, dtype=np.uint8)[:, None, None, None] * 24
    frames[:, :, 32:] += 8
    return frames + np.uint8(level)


def live(folder, videos, *, strict=False, **options):
    source = tiny.ListSource(videos)
    entries = [source[i] for i in range(len(videos))]
    skips = Skips(folder, strict=strict)
    return LiveClips(entries, tiny.MeanTokenizer(), WINDOW, skips=skips, **options)


def draws(clips, index, count=60):
    return [clips.draw(index, np.random.default_rng(seed)) for seed in range(count)]


def test_every_window_of_a_clip_comes_and_nothing_else(tmp_path):
    firsts = collections.Counter()
    for text, ids in draws(live(tmp_path, [gradient()]), 0):
        assert (text, ids.shape, ids.dtype) == ("clip 0", (3, 16), np.uint16)
        assert (np.diff(ids[:, 0].astype(int)) == 3).all()  # 24 levels a frame, 8 levels an id
        firsts[int(ids[0, 0]) // 3] += 1
    assert set(firsts) == set(range(6))


def test_evaluation_always_reads_the_middle(tmp_path):
    firsts = {ids[0, 0] // 3 for _, ids in draws(live(tmp_path, [gradient(9)], centered=True), 0)}
    assert firsts == {3}  # frames 3, 4, 5 of 0 .. 8


def test_half_of_the_draws_are_mirrored_where_asked(tmp_path):
    def brighter_right(ids):
        grid = ids[0].reshape(4, 4).astype(int)
        return grid[0, 3] > grid[0, 0]

    plain = [brighter_right(ids) for _, ids in draws(live(tmp_path, [gradient()]), 0)]
    mirrored = draws(live(tmp_path, [gradient()], mirror=True), 0, 200)
    assert all(plain)
    assert np.mean([brighter_right(ids) for _, ids in mirrored]) == pytest.approx(0.5, abs=0.15)


def test_a_draw_follows_from_index_and_generator(tmp_path):
    clips, again = (live(tmp_path, [gradient(), gradient(level=3)], mirror=True) for _ in range(2))
    for seed in range(5):
        one = clips.draw(1, np.random.default_rng(seed))
        other = again.draw(1, np.random.default_rng(seed))
        np.testing.assert_array_equal(one[1], other[1])


def test_the_next_clip_takes_the_place_of_an_unreadable_one_whenever_that_is_found(tmp_path):
    videos = [gradient(), BROKEN, gradient(2), gradient(level=64)]  # the third is too short
    fresh = live(tmp_path / "fresh", videos)
    first = fresh.draw(1, np.random.default_rng(7))
    known = fresh.draw(1, np.random.default_rng(7))
    assert first[0] == known[0] == "clip 3"
    np.testing.assert_array_equal(first[1], known[1])
    reasons = [problem.reason for problem in fresh.skips.problems()]
    assert "not a video" in reasons
    assert any("too short: 2 frames at 8 fps of the 3 wanted" in reason for reason in reasons)
    assert len(fresh) == 4


def test_nothing_readable_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="none of 2 clips can be read"):
        live(tmp_path, [BROKEN, BROKEN]).draw(0, np.random.default_rng(0))


def test_strict_stops_at_an_unreadable_clip(tmp_path):
    with pytest.raises(ValueError, match="clip/0: not a video"):
        live(tmp_path, [BROKEN, gradient()], strict=True).draw(0, np.random.default_rng(0))
