"""The skip mask: three regions, and a random share of the stable one."""

import inspect

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fv_jax.generation.skip_mask import harmless_share, inheritable, regions, ring

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
GRIDS = SHAPES.flatmap(
    lambda shape: st.tuples(
        *[hnp.arrays(np.int32, shape, elements=st.integers(0, 5), fill=st.just(1))] * 2
    )
)
RADII = st.integers(0, 3)


@hypothesis.given(GRIDS, RADII)
def test_every_id_is_in_exactly_one_region(grids, radius):
    mask = regions(*grids, radius)
    count = mask.different.astype(int) + mask.unstable + mask.stable
    assert (count == 1).all()


@hypothesis.given(GRIDS, RADII)
def test_regions_are_what_the_paper_says(grids, radius):
    a, b = grids
    mask = regions(a, b, radius)
    rows, columns = a.shape
    for i in range(rows):
        for j in range(columns):
            ring = (slice(max(i - radius, 0), i + radius + 1),
                    slice(max(j - radius, 0), j + radius + 1))  # fmt: skip
            near = (a[ring] != b[ring]).any()
            assert mask.different[i, j] == (a[i, j] != b[i, j])
            assert mask.unstable[i, j] == (near and a[i, j] == b[i, j])
            assert mask.stable[i, j] == (not near)


@hypothesis.given(GRIDS)
def test_swapping_the_key_frames_changes_nothing(grids):
    a, b = grids
    one, other = regions(a, b), regions(b, a)
    np.testing.assert_array_equal(one.stable, other.stable)
    np.testing.assert_array_equal(one.different, other.different)


def test_figure_4_by_hand():
    a = np.ones((5, 6), int)
    b = a.copy()
    b[4, 1] = 7
    mask = regions(a, b)
    drawn = np.select([mask.different, mask.unstable, mask.stable], ["D", "u", "."], "?")
    assert ["".join(row) for row in drawn] == [
        "......",
        "......",
        "......",
        "uuu...",
        "uDu...",
    ]


def test_equal_frames_are_all_stable_and_radius_0_has_no_ring():
    a = np.arange(12).reshape(3, 4)
    assert regions(a, a).stable.all()
    assert not regions(a, a + 1, radius=0).unstable.any()


@hypothesis.given(GRIDS, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_inherited_ids_are_stable_and_as_many_as_the_share_says(grids, share, seed):
    stable = regions(*grids).stable
    chosen = inheritable(stable, share, np.random.default_rng(seed))
    assert not (chosen & ~stable).any()
    assert abs(chosen.sum() - share * stable.sum()) <= 0.5


@hypothesis.given(GRIDS, st.integers(0, 99))
def test_share_0_inherits_nothing_and_share_1_all_that_is_stable(grids, seed):
    stable = regions(*grids).stable
    rng = np.random.default_rng(seed)
    assert not inheritable(stable, 0.0, rng).any()
    np.testing.assert_array_equal(inheritable(stable, 1.0, rng), stable)


def test_every_stable_id_is_equally_likely_to_be_inherited():
    stable = np.array([[True, True, False], [True, True, True]])
    rng = np.random.default_rng(0)
    draws = [inheritable(stable, 0.4, rng) for _ in range(5000)]
    frequency = np.mean(draws, axis=0)
    np.testing.assert_allclose(frequency[stable], 0.4, atol=0.03)  # 4 standard deviations
    assert frequency[~stable].max() == 0


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match=rf"share in \[0, 1\], got {share}"):
        inheritable(np.ones((2, 2), bool), share, np.random.default_rng(0))


def test_grids_of_different_shapes_are_refused():
    unchecked = inspect.unwrap(regions)  # the tests' own check of annotations would come first
    with pytest.raises(ValueError, match=r"same grid, got \(2, 2\) and \(2, 3\)"):
        unchecked(np.ones((2, 2), int), np.ones((2, 3), int))


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="radius must be >= 0, got -1"):
        regions(np.ones((2, 2), int), np.ones((2, 2), int), radius=-1)


def test_the_ring_covers_what_a_patch_sees_unless_it_sees_the_whole_frame():
    for reach, radius in ((0, 1), (1, 1), (3, 3), (4, 1), (99, 1)):
        assert ring(reach, (4, 3)) == radius


@hypothesis.given(st.integers(0, 10_000), st.floats(0, 1), st.floats(1e-4, 0.1))
def test_a_share_keeps_wrong_copies_below_the_limit_and_is_no_smaller_than_that(
    stable, part, limit
):
    wrong = round(stable * part)
    share = harmless_share(stable, wrong, limit)
    assert 0 <= share <= 1
    assert share * wrong <= limit * stable * (1 + 1e-9)
    assert share == 1 or stable == 0 or share * wrong >= limit * stable * (1 - 1e-9)
