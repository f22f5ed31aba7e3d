"""Numbers found again by a clip's pixels, whatever happened to the process that computed them."""

import numpy as np
import pytest
import videos

from fv_jax.evaluation.feature_cache import FeatureCache, clip_hash

A, B = (clip_hash(videos.noise(4, seed=seed)) for seed in range(2))


def test_numbers_outlive_the_process_and_a_torn_end(tmp_path):
    cache = FeatureCache(tmp_path, "a network", 3)
    cache[A], cache[B] = np.arange(3.0), np.full(3, 0.1)
    cache.close()
    path = next(tmp_path.rglob("numbers.bin"))
    path.write_bytes(path.read_bytes()[:-5])
    again = FeatureCache(tmp_path, "a network", 3)
    np.testing.assert_array_equal(again[A], [0, 1, 2])
    assert B not in again
    again[B] = np.ones(3)
    again.close()
    last = FeatureCache(tmp_path, "a network", 3)
    assert A in last
    assert B in last
    last.close()


def test_another_network_has_another_cache(tmp_path):
    cache, other = FeatureCache(tmp_path, "a network", 1), FeatureCache(tmp_path, "another", 1)
    cache[A] = np.ones(1)
    assert A not in other
    cache.close()
    other.close()


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [1.0, 2.0]])
def test_what_is_no_feature_is_not_kept(values, tmp_path):
    cache = FeatureCache(tmp_path, "a network", 1)
    with pytest.raises(ValueError, match="want 1 finite"):
        cache[A] = np.asarray(values)
    cache.close()


def test_the_hash_sees_shape_and_order():
    frames = videos.noise(4, (16, 16))
    assert clip_hash(frames) == clip_hash(frames.copy())
    assert len({clip_hash(f) for f in (frames, frames[::-1], frames.reshape(2, 32, 16, 3))}) == 3
    np.testing.assert_equal(clip_hash(frames[:, ::2]), clip_hash(frames[:, ::2].copy()))
