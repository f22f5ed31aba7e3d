"""Sets of videos: names, pairs, and what is refused."""

import numpy as np
import pytest

from fv_jax.metrics.videos import Checker, NamedClip, named, pairs


def clip(*shape, dtype=np.uint8):
    return np.zeros((*shape, 3), dtype)


def test_clips_have_their_own_names_or_their_numbers():
    with_frames = type("Clip", (), {"frames": clip(2, 4, 4)})()
    items = [clip(2, 4, 4), NamedClip("b.mp4", clip(2, 4, 4)), with_frames]
    assert [c.name for c in named(items, "fake")] == ["fake[0]", "b.mp4", "fake[2]"]
    assert all(c.frames.shape == (2, 4, 4, 3) for c in named(items, "fake"))
    assert [c.name for c in named(np.zeros((2, 2, 4, 4, 3)), "real")] == ["real[0]", "real[1]"]


def one_by_one(items):
    yield from items


@pytest.mark.parametrize("kind", [list, one_by_one])
def test_sets_of_other_lengths_are_no_pairs(kind):
    two, three = [clip(2, 4, 4)] * 2, [NamedClip(f"{n}.mp4", clip(2, 4, 4)) for n in "abc"]
    assert len(list(pairs(kind(two), kind(three[:2])))) == 2
    with pytest.raises(ValueError, match=r"in pairs: real has 2, fake has (3|more .*c\.mp4)"):
        list(pairs(kind(two), kind(three)))
    with pytest.raises(ValueError, match=r"in pairs: (real has 3, fake has 2|fake has 2.*c\.mp4)"):
        list(pairs(kind(three), kind(two)))


@pytest.mark.parametrize("kind", [list, one_by_one])
def test_a_set_without_clips_is_refused(kind):
    with pytest.raises(ValueError, match="no clips in real"):
        list(pairs(kind([]), kind([clip(2, 4, 4)])))
    with pytest.raises(ValueError, match="no clips in fake"):
        list(pairs(kind([clip(2, 4, 4)]), kind([])))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (clip(4, 4), r"a\.mp4 must be \[F, Y, X, 3\] with at least one frame, got \[4, 4, 3\]"),
        (clip(0, 4, 4), r"got \[0, 4, 4, 3\]"),
        (clip(2, 4, 4)[..., :1], r"got \[2, 4, 4, 1\]"),
        (clip(1, 4, 4), r"a metric needs clips of at least 2 frames, a\.mp4 has 1"),
        (clip(2, 4, 3), r"at least 4x4 px, got 4x3 in a\.mp4"),
        (clip(2, 4, 4, dtype=np.int64), r"uint8, or floats in \[0, 1\], got int64 in a\.mp4"),
        (clip(2, 4, 4, dtype=bool), "got bool"),
        (clip(2, 4, 4, dtype=float) - 1, r"in \[0, 1\], got -1 to -1 in a\.mp4"),
        (clip(2, 4, 4, dtype=np.float16) + 255, r"got 255 to 255 in a\.mp4"),
        (clip(2, 4, 4, dtype=float) * np.nan, r"got nan to nan in a\.mp4"),
    ],
)
def test_an_unfit_clip_is_refused_by_name(frames, message):
    with pytest.raises(ValueError, match=message):
        Checker(least_frames=2, least_size=4)(NamedClip("a.mp4", frames))


def test_all_clips_of_both_sets_have_the_shape_of_the_first():
    check = Checker()
    check(NamedClip("a", clip(2, 4, 4)))
    check(NamedClip("b", clip(2, 4, 4)))
    other = Checker(like=check)
    for checker in (check, other):
        for shape in ((3, 4, 4), (2, 5, 4)):
            with pytest.raises(ValueError, match=r"c: got .*, want 2 frames of 4x4 px as a has"):
                checker(NamedClip("c", clip(*shape)))
    other(NamedClip("d", clip(2, 4, 4, dtype=float)))  # floats against bytes are fine
    with pytest.raises(ValueError, match="all uint8 or all floats, got uint8 in e after float32"):
        other(NamedClip("e", clip(2, 4, 4)))


def test_floats_become_float32():
    for dtype in (np.float16, np.float32, np.float64):
        assert Checker()(NamedClip("a", clip(2, 4, 4, dtype=dtype))).frames.dtype == np.float32
