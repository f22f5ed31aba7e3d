"""A table of patches: exact where it can be, the nearest elsewhere, the same after a round trip."""

import inspect

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from fv_jax.tokenizers.codebook import MOST_SIDE, CodebookTokenizer, cut
from fv_jax.tokenizers.load import load_tokenizer


def table(codes=50, side=4, seed=0):
    rng = np.random.default_rng(seed)
    return CodebookTokenizer(rng.integers(0, 256, (codes, side, side, 3), np.uint8))


@hypothesis.given(st.integers(1, MOST_SIDE), st.integers(2, 40), st.integers(0, 99))
@hypothesis.settings(max_examples=15, deadline=None)
def test_frames_made_of_the_table_come_back_exactly(side, codes, seed):
    tokenizer = table(codes, side, seed)
    different = np.unique(tokenizer.patches.reshape(codes, -1), axis=0)
    hypothesis.assume(len(different) == codes)
    ids = np.random.default_rng(seed).integers(0, codes, (2, 3, 5))
    frames = tokenizer.decode(ids)
    assert frames.shape == (2, 3 * side, 5 * side, 3)
    np.testing.assert_array_equal(tokenizer.encode(frames), ids)


def test_an_id_is_the_first_of_the_nearest_patches():
    tokenizer = table(side=MOST_SIDE)
    tokenizer = CodebookTokenizer(np.concatenate([tokenizer.patches, tokenizer.patches[:5]]))
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (3, 2 * MOST_SIDE, 3 * MOST_SIDE, 3), np.uint8)
    patches = cut(frames, MOST_SIDE).astype(np.int64)
    rows = tokenizer.patches.reshape(55, -1).astype(np.int64)
    distances = ((patches[:, None] - rows) ** 2).sum(-1)
    np.testing.assert_array_equal(tokenizer.encode(frames).ravel(), distances.argmin(1))


def test_an_id_depends_on_its_patch_alone():
    tokenizer, rng = table(), np.random.default_rng(2)
    frames = rng.integers(0, 256, (1, 16, 16, 3), np.uint8)
    changed = frames.copy()
    changed[:, 4:8, 8:12] ^= 128
    differ = tokenizer.encode(frames) != tokenizer.encode(changed)
    assert tokenizer.reach == 0
    assert not np.delete(differ.ravel(), 6).any()


def test_a_saved_table_is_the_same(tmp_path):
    tokenizer = table()
    tokenizer.save(tmp_path / "tokenizer.safetensors")
    again = load_tokenizer(str(tmp_path))
    assert isinstance(again, CodebookTokenizer)
    np.testing.assert_array_equal(again.patches, tokenizer.patches)
    assert again.fingerprint() == tokenizer.fingerprint() != table(seed=1).fingerprint()
    assert (again.codebook_size, again.downsample) == (50, 4)


@pytest.mark.parametrize(
    ("patches", "says"),
    [
        (np.zeros((5, 4, 4, 3)), r"got float64 \[5, 4, 4, 3\]"),
        (np.zeros((5, 4, 3, 3), np.uint8), r"got uint8 \[5, 4, 3, 3\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got uint8 \[1, 4, 4, 3\]"),
        (np.zeros((5, 11, 11, 3), np.uint8), "1 to 10 px, got 11"),
    ],
)
def test_tables_of_a_wrong_kind_are_refused(patches, says):
    # Unwrapped: the tests' own check of annotations would come first.
    with pytest.raises(ValueError, match=says):
        inspect.unwrap(CodebookTokenizer.__init__)(table(), patches)


def test_frames_and_ids_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 4 px, got 4x6"):
        table().encode(np.zeros((1, 4, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=r"0\.\.49, got 50\.\.50"):
        table().decode(np.full((1, 2, 2), 50))
