"""The Fréchet distance: the reference values, and its definition by eigenvalues."""

import inspect

import numpy as np
import pytest
import reference_metrics

from fv_jax.metrics import frechet_distance
from fv_jax.metrics.frechet import Moments


def features(seed, count, width=7, rank=None):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((rank or width, width))
    return rng.standard_normal((count, rank or width)) @ mixing + 3 * rng.standard_normal(width)


def by_eigenvalues(a, b):
    """The definition, from covariances: tr sqrt(S1 S2) is the sum of the roots of eigenvalues."""
    one, other = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return apart + np.trace(one) + np.trace(other) - 2 * shared


@pytest.fixture(scope="module")
def reference():
    with np.load(reference_metrics.VECTORS / "features.npz") as file:
        return reference_metrics.expected("frechet_features"), file["x"], file["y"]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("512_vs_512", 512, 512),
        ("512_vs_first300", 512, 300),
        ("first64_vs_first64_rank_deficient", 64, 64),
        ("first4_vs_first4", 4, 4),
        ("first1_vs_first1", 1, 1),
    ],
)
def test_distances_are_the_references(reference, name, first, second):
    expected, x, y = reference
    value = frechet_distance(x[:first], y[:second])
    assert isinstance(value, float)
    assert value == pytest.approx(expected[name]["exact_float64"], rel=1e-9)  # allowed: 1e-6


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("counts", [(30, 50), (8, 8), (5, 40), (2, 2), (3, 200)])
def test_the_nuclear_norm_is_the_definition(counts, rank):
    a, b = features(0, counts[0], rank=rank), features(1, counts[1], rank=rank)
    assert frechet_distance(a, b) == pytest.approx(by_eigenvalues(a, b), rel=1e-6)


def test_one_vector_has_a_place_and_no_spread():
    a, b = features(0, 1), features(1, 1)
    assert frechet_distance(a, b) == pytest.approx(((a - b) ** 2).sum(), rel=1e-12)
    many = features(2, 9)
    expected = ((a[0] - many.mean(0)) ** 2).sum() + np.trace(np.cov(many.T))
    assert frechet_distance(a, many) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [1, 4, 7, 50])
def test_a_set_is_at_distance_0_from_itself(count):
    a = features(0, count)
    assert 0 <= frechet_distance(a, a) < 1e-11
    assert 0 <= frechet_distance(a, a[::-1].astype(np.float32)) < 1e-4


def test_a_shift_counts_by_its_square():
    a = features(0, 40)
    assert frechet_distance(a, a + 2) == pytest.approx(7 * 4, rel=1e-12)


def test_order_of_vectors_and_sets_does_not_matter():
    a, b = features(0, 30), features(1, 20)
    value = frechet_distance(a, b)
    shuffled = np.random.default_rng(2).permutation(a)
    assert frechet_distance(shuffled, b) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("rank", [2, 7])
def test_moments_are_mean_and_covariance(rank):
    whole = features(0, 60, rank=rank)
    moments = Moments.of(whole)
    assert (moments.count, moments.factor.shape) == (60, (7, 7))  # no more room than a triangle
    np.testing.assert_allclose(moments.mean, whole.mean(0), rtol=1e-12)
    covariance = moments.spread.T @ moments.spread
    np.testing.assert_allclose(covariance, np.cov(whole.T), rtol=0, atol=1e-11)


def test_a_large_mean_costs_no_digits():
    a, b = features(0, 100), features(1, 100)
    value = frechet_distance(a, b)
    assert frechet_distance(a + 1e6, b + 1e6) == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (features(0, 3), features(0, 3, width=6), "of one length, got 7 and 6"),
        (features(0, 0), features(0, 3), "need features, got 0 and 3"),
        (features(0, 3), np.full((3, 7), np.nan), "features_b must be finite, .* row 0"),
    ],
)
def test_unfit_features_are_refused(a, b, message):
    unchecked = inspect.unwrap(frechet_distance)
    with pytest.raises(ValueError, match=message):
        unchecked(a, b)


def test_a_single_vector_is_no_set():
    unchecked = inspect.unwrap(Moments.of.__func__)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"rows must be \[N, C\], got \[7\]"):
        unchecked(Moments, features(0, 3)[0], "rows")
