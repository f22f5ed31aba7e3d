"""Pairs of frames: neighbors of one clip at one place, decoded once.

Red tells clip and frame number, green rises to the right and blue downwards, so that a pair
shows where it is from.
"""

import dataclasses

import numpy as np
import pytest
import tiny

from fv_jax.data.pairs import ShapePairs, VideoPairs, varied
from fv_jax.data.skips import Skips
from fv_jax.media.readers import ClipError

LENGTHS = (12, 3, 9, 12, 12)
SHAPE, SIZE, COUNT = (48, 64), 16, 130
BROKEN = ClipError("not a video")


def clip(number):
    frames = np.empty((LENGTHS[number], *SHAPE, 3), np.uint8)
    frames[..., 0] = 20 * number + np.arange(LENGTHS[number])[:, None, None]
    frames[..., 1] = 3 * np.arange(SHAPE[1])
    frames[..., 2] = 5 * np.arange(SHAPE[0])[:, None]
    return frames


def entries(broken=()):
    source = tiny.ListSource([BROKEN if i in broken else clip(i) for i in range(len(LENGTHS))])
    return [source[i] for i in range(len(source))]


def pairs(folder, clips=None, *, count=COUNT, size=SIZE, strict=False):
    skips = Skips(folder / "left_out", strict=strict)
    clips = entries() if clips is None else clips
    return VideoPairs(clips, count=count, size=size, folder=folder, skips=skips)


def clip_numbers(pixels):
    return pixels[:, 0, 0, 0, 0] // 20


def files(folder):
    return sorted(path.name for path in folder.glob("**/*") if path.is_file())


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """All pairs, as wide integers."""
    made = pairs(tmp_path_factory.mktemp("pairs")).pixels
    assert (made.shape, made.dtype) == ((COUNT, 2, SIZE, SIZE, 3), np.uint8)
    return made.astype(int)


def test_a_pair_is_two_consecutive_frames_of_one_clip(pixels):
    red = pixels[..., 0]
    assert (red == red[:, :, :1, :1]).all()
    first, second = red[:, 0, 0, 0], red[:, 1, 0, 0]
    np.testing.assert_array_equal(second, first + 1)
    assert (second % 20 < np.asarray(LENGTHS)[second // 20]).all()


def test_both_frames_show_the_same_place(pixels):
    np.testing.assert_array_equal(pixels[:, 0, ..., 1:], pixels[:, 1, ..., 1:])
    places = {pair[0, ..., 1:].tobytes() for pair in pixels}
    assert len(places) > 0.9 * COUNT


def test_places_are_upright_squares_half_of_them_whole_half_mirrored(pixels):
    right = (pixels[:, 0, 8, 12, 1] - pixels[:, 0, 8, 4, 1]) / 8 / 3  # px of the clip per pixel
    down = (pixels[:, 0, 12, 8, 2] - pixels[:, 0, 4, 8, 2]) / 8 / 5
    np.testing.assert_allclose(np.abs(right), down, atol=0.1)
    assert down.min() >= 1 - 0.05
    assert down.max() <= SHAPE[0] / SIZE + 0.05
    assert np.mean(down > SHAPE[0] / SIZE - 0.05) == pytest.approx(0.5, abs=0.15)
    assert np.mean(right < 0) == pytest.approx(0.5, abs=0.15)


def test_places_lie_anywhere_in_the_frame(pixels):
    levels = pixels[:, 0, 8, 8]
    assert levels[:, 1].min() < 3 * SHAPE[1] / 3 < 3 * SHAPE[1] * 2 / 3 < levels[:, 1].max()
    assert levels[:, 2].min() < 5 * SHAPE[0] / 3 < 5 * SHAPE[0] * 2 / 3 < levels[:, 2].max()


def test_every_pair_of_a_clip_comes(pixels):
    firsts = {(red // 20, red % 20) for red in pixels[:, 0, 0, 0, 0].tolist()}
    assert firsts == {(i, t) for i, length in enumerate(LENGTHS) for t in range(length - 1)}


@pytest.mark.parametrize(("count", "shares"), [(5, [1, 2, 2]), (12, [4, 4, 4]), (25, [7, 9, 9])])
def test_clips_have_equal_shares_however_few_pairs_there_are(tmp_path, count, shares):
    long = [entry for entry, length in zip(entries(), LENGTHS) if length == 12]
    numbers, counts = np.unique(
        clip_numbers(pairs(tmp_path, long, count=count).pixels), return_counts=True
    )
    assert (numbers.tolist(), sorted(counts)) == ([0, 3, 4], shares)


def test_frames_smaller_than_the_pairs_are_enlarged_whole(tmp_path):
    made = pairs(tmp_path, entries()[:1], count=8, size=96).pixels
    edges = np.sort(made[:, 0, 48][:, [0, -1], 1].astype(int), axis=1)
    np.testing.assert_allclose(edges[:, 1] - edges[:, 0], 3 * (SHAPE[0] - 1), atol=3)


def test_the_same_arguments_find_the_same_file_and_decode_nothing(tmp_path):
    def refuse():
        raise AssertionError("opened")

    made = pairs(tmp_path, count=9).pixels
    closed = [dataclasses.replace(entry, open=refuse) for entry in entries()]
    np.testing.assert_array_equal(pairs(tmp_path, closed, count=9).pixels, made)
    assert len(files(tmp_path)) == 1
    for others in ({"count": 8}, {"size": 8, "count": 9}, {"clips": closed[1:], "count": 9}):
        with pytest.raises(AssertionError, match="opened"):
            pairs(tmp_path, **({"clips": closed} | others))


def test_pairs_follow_from_the_arguments(tmp_path):
    one, same = (pairs(tmp_path / name, count=20).pixels for name in ("one", "same"))
    np.testing.assert_array_equal(one, same)


def test_an_interrupted_build_leaves_no_file_and_the_next_one_is_whole(tmp_path):
    clips = entries()
    openings = []

    def interrupt():
        openings.append(1)
        raise KeyboardInterrupt

    stopped = [*clips[:4], dataclasses.replace(clips[4], open=interrupt)]
    with pytest.raises(KeyboardInterrupt):
        pairs(tmp_path, stopped, count=20)
    assert openings
    assert files(tmp_path) == []
    made = pairs(tmp_path, count=20).pixels
    np.testing.assert_array_equal(made, pairs(tmp_path / "other", count=20).pixels)


def test_an_unreadable_clip_is_reported_once_and_replaced(tmp_path, capfd):
    made = pairs(tmp_path, entries(broken=(1, 3)), count=100).pixels
    assert set(clip_numbers(made)) == {0, 2, 4}
    problems = Skips(tmp_path / "left_out").problems()
    assert [(p.id, p.reason) for p in problems] == [(f"clip/{i}", "not a video") for i in (1, 3)]
    assert capfd.readouterr().err.count("left out clip/3: not a video") == 1


def test_without_any_readable_clip_there_is_an_error_and_no_file(tmp_path):
    with pytest.raises(ValueError, match="no clip of 5 can be read"):
        pairs(tmp_path, entries(broken=range(5)))
    assert not list(tmp_path.glob("*.npy"))


def test_strict_stops_at_the_first_unreadable_clip(tmp_path):
    with pytest.raises(ValueError, match="clip/2: not a video"):
        pairs(tmp_path, entries(broken=(2,)), strict=True)
    assert files(tmp_path) == []


def test_draws_are_pairs_of_the_file_as_the_generator_says(tmp_path):
    made = pairs(tmp_path, count=6)
    drawn = [made.draw(np.random.default_rng(seed)).tobytes() for seed in range(40)]
    assert set(drawn) == {pair.tobytes() for pair in made.pixels}
    assert drawn == [made.draw(np.random.default_rng(seed)).tobytes() for seed in range(40)]


def test_pairs_of_shapes_are_two_frames_of_one_clip():
    draws = [ShapePairs().draw(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert (draws[0].shape, draws[0].dtype) == ((2, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    changed = (draws[0][0] != draws[0][1]).any(-1).mean()
    assert 0 < changed < 0.5  # the object moves, the background stays


def test_both_frames_are_varied_alike_and_what_is_equal_stays_equal():
    pair = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    pair[1, :4] = pair[0, :4]
    seen = set()
    for seed in range(40):
        one = varied(pair, np.random.default_rng(seed))
        assert (one.shape, one.dtype) == (pair.shape, np.uint8)
        same, kept = (pair[0] == pair[1]).all(-1), (one[0] == one[1]).all(-1)
        assert kept.sum() >= same.sum() == 32
        twice = varied(np.stack([pair[0], pair[0]]), np.random.default_rng(seed))
        np.testing.assert_array_equal(twice[0], one[0])
        np.testing.assert_array_equal(twice[0], twice[1])
        seen.add(one.tobytes())
    assert len(seen) == 40
