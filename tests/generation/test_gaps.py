"""The gaps of a level as data: order, counts, one batch a level, and ids that are copied."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fv_jax.generation.gaps import VideoIds, find_gaps, interleave
from fv_jax.generation.skip_mask import regions
from fv_jax.sequence.vocab import FREE

H, W = 5, 6
NEW = 1000  # what is put where there is a choice


def key_frames(count, seed=0):
    """Grids that keep most ids from frame to frame."""
    rng = np.random.default_rng(seed)
    grids = [rng.integers(0, 9, (H, W))]
    for _ in range(count - 1):
        changed = rng.uniform(size=(H, W)) < 0.06
        grids.append(np.where(changed, rng.integers(0, 9, (H, W)), grids[-1]))
    return VideoIds.of_key_frames(np.stack(grids))


def sampled(gaps):
    """Stands for the sampler: frame i of a gap of level l gets the number l00 + i."""
    numbers = NEW + 100 * gaps.level + np.arange(len(gaps.inherited))[:, None, None, None]
    return np.where(gaps.inserted == FREE, numbers, gaps.inserted)


def run(videos, *, insert=3, levels=1, inherit=0.5, seeds=None, radius=1):
    """Filled videos, and the gaps of every level."""
    seeds, every = list(range(len(videos))) if seeds is None else seeds, []
    for level in range(levels):
        gaps = find_gaps(
            videos, level=level, insert=insert, inherit=inherit, seeds=seeds, radius=radius
        )
        if gaps is None:
            break
        every.append(gaps)
        videos = interleave(videos, gaps, sampled(gaps))
    return videos, every


@pytest.mark.parametrize(("levels", "expected"), [
    (1, ["A", 1000, 1001, "B"]),
    (2, ["A", 1100, 1101, 1000, 1100, 1101, 1001, 1100, 1101, "B"]),
])  # fmt: skip
def test_inserted_frames_lie_in_time_order_between_their_neighbors(levels, expected):
    grids = np.stack([np.zeros((H, W), int), np.ones((H, W), int)])  # nothing is stable
    (video,), _ = run([VideoIds.of_key_frames(grids)], insert=2, levels=levels)
    names = {0: "A", 1: "B"}
    assert [names.get(int(frame[0, 0]), int(frame[0, 0])) for frame in video.ids] == expected


@hypothesis.given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 2)
)
def test_number_of_frames(counts, insert, levels):
    filled, calls = run([key_frames(n) for n in counts], insert=insert, levels=levels)
    for count, video in zip(counts, filled):
        assert len(video.ids) == (count - 1) * (insert + 1) ** levels + 1
        assert video.ids.shape == video.inherited.shape
        assert len(video.key_frame) == len(video.ids)
    assert len(calls) == (levels if max(counts) > 1 else 0)


@hypothesis.given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 2))
def test_key_frames_stay_where_they_were_and_as_they_were(count, insert, levels):
    before = key_frames(count)
    (video,), _ = run([before], insert=insert, levels=levels)
    places = np.flatnonzero(video.key_frame)
    np.testing.assert_array_equal(places, np.arange(count) * (insert + 1) ** levels)
    np.testing.assert_array_equal(video.ids[places], before.ids)
    assert not video.inherited[places].any()


def test_all_gaps_of_a_level_of_all_videos_are_one_batch():
    videos = [key_frames(3, 1), key_frames(1, 2), key_frames(2, 3)]
    filled, levels = run(videos, insert=1, levels=2)
    assert [(g.level, list(zip(g.video, g.number))) for g in levels] == [
        (0, [(0, 0), (0, 1), (2, 0)]),
        (1, [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 1)]),
    ]
    for i, (video, gap) in enumerate(zip(levels[0].video, levels[0].number)):
        np.testing.assert_array_equal(levels[0].a[i], videos[video].ids[gap])
        np.testing.assert_array_equal(levels[0].b[i], videos[video].ids[gap + 1])
    # The second level sees the frames of the first.
    np.testing.assert_array_equal(levels[1].b[0], filled[0].ids[2])


def test_parts_of_a_longer_video_number_their_gaps_from_where_they_begin():
    gaps = find_gaps([key_frames(3)], level=1, insert=2, inherit=0.5, seeds=[4], first=15)
    assert gaps.number == [15, 16]
    np.testing.assert_array_equal(
        find_gaps([key_frames(20, 7)], level=0, insert=1, inherit=0.5, seeds=[4]).inherited[:, 6:8],
        find_gaps(
            [VideoIds.of_key_frames(key_frames(20, 7).ids[6:9])], level=0, insert=1, inherit=0.5,
            seeds=[4], first=6,
        ).inherited,
    )  # fmt: skip


@hypothesis.given(st.integers(0, 999), st.floats(0, 1), st.integers(0, 2), st.integers(1, 3))
def test_inherited_ids_are_both_neighbors_and_never_sampled(seed, inherit, radius, insert):
    before = key_frames(3, seed)
    (video,), [gaps] = run([before], insert=insert, inherit=inherit, radius=radius, seeds=[seed])
    for gap in range(2):
        a, b = before.ids[gap : gap + 2]
        stable = regions(a, b, radius).stable
        for i in range(insert):
            frame = gap * (insert + 1) + 1 + i
            mask, ids = video.inherited[frame], video.ids[frame]
            assert not (mask & ~stable).any()
            assert (ids[mask] == a[mask]).all()
            assert (ids[mask] == b[mask]).all()
            assert (ids[~mask] >= NEW).all()
            # The sampler is told exactly this.
            np.testing.assert_array_equal(gaps.inserted[i, gap], np.where(mask, a, FREE))


@pytest.mark.parametrize("inherit", [0.0, 1.0])
def test_share_0_samples_every_id_and_share_1_no_stable_one(inherit):
    before = key_frames(2)
    (video,), _ = run([before], insert=2, inherit=inherit)
    stable = regions(*before.ids).stable
    assert 0 < stable.mean() < 1
    for frame in (1, 2):
        np.testing.assert_array_equal(video.inherited[frame], stable & (inherit == 1))


@hypothesis.given(st.integers(0, 999), st.floats(0, 1))
def test_what_b_repeats_of_a_is_as_large_a_share_of_what_is_stable(seed, inherit):
    videos = [key_frames(4, seed)]
    gaps = find_gaps(videos, level=0, insert=2, inherit=inherit, seeds=[seed])
    for gap in range(3):
        stable = regions(gaps.a[gap], gaps.b[gap]).stable
        assert not (gaps.repeated[gap] & ~stable).any()
        assert (
            gaps.repeated[gap].sum()
            == gaps.inherited[0, gap].sum()
            == round(inherit * int(stable.sum()))
        )


def test_inherited_places_differ_from_frame_to_frame_and_repeat_with_the_seed():
    before = key_frames(2)
    (one,), _ = run([before], seeds=[5])
    (again,), _ = run([before], seeds=[5])
    (other,), _ = run([before], seeds=[6])
    np.testing.assert_array_equal(one.inherited, again.inherited)
    assert (one.inherited != other.inherited).any()
    assert (one.inherited[1] != one.inherited[2]).any()


def test_inherited_places_do_not_depend_on_the_other_videos():
    alone, _ = run([key_frames(2, 4)], seeds=[9], levels=2)
    beside, _ = run([key_frames(3, 1), key_frames(2, 4)], seeds=[2, 9], levels=2)
    np.testing.assert_array_equal(alone[0].inherited, beside[1].inherited)
    np.testing.assert_array_equal(alone[0].ids, beside[1].ids)
