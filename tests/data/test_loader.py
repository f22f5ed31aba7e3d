"""Training rows of both tasks, and batches whose order can be taken up again."""

import dataclasses

import numpy as np
import pytest
import tiny

from fv_jax.config import NetworkExperiment
from fv_jax.data.loader import RowMaker, training_batches
from fv_jax.data.token_cache import ShapesTokens
from fv_jax.sequence import unpack
from fv_jax.vocab import PAD

EXPERIMENT = NetworkExperiment(
    "tiny",
    text_tokens=9,
    serial_numbers=6,
    key_frames=4,
    key_frame_stride=4,
    insertions=((4, 3), (2, 1)),
    key_frame_share=0.5,
    text_drop=0.25,
)
CAPTION = tiny.PROMPTS[0]


def rows_of(**changes):
    return RowMaker(dataclasses.replace(EXPERIMENT, **changes), tiny.sequence(), tiny.text())


def clip():
    """Frame t holds nothing but the id t, so that rows show which frames they took."""
    return CAPTION, np.arange(17, dtype=np.uint16)[:, None].repeat(16, axis=1)


def taken(row):
    """Serial numbers and frame numbers of a row's blocks, without its padding."""
    used = int((row["tokens"] != PAD).any() and np.flatnonzero(row["tokens"])[-1] + 1)
    _, serials, frames = unpack(row["tokens"][None, :used], tiny.sequence())
    assert (frames == frames[:, :, :1]).all()
    return serials, frames[0, :, 0].tolist()


def many(maker, count=400):
    return [maker(clip(), np.random.default_rng(i)) for i in range(count)]


def test_key_frame_rows_take_every_fourth_frame_and_learn_all_of_them():
    row = rows_of(key_frame_share=1.0)(clip(), np.random.default_rng(0))
    assert taken(row) == ([1, 2, 3, 4], [0, 4, 8, 12])
    assert row["weight"].tolist() == [1, 1, 1, 1, 0]


def test_interpolation_rows_learn_the_inserted_frames_only():
    maker = rows_of(key_frame_share=0.0, insertions=((4, 3),))
    for row in many(maker, 100):
        serials, frames = taken(row)
        first = frames[0]
        assert serials == [1, 5, 2, 3, 4]
        assert frames == [first, first + 4, first + 1, first + 2, first + 3]
        assert row["weight"].tolist() == [0, 0, 1, 1, 1]


def test_a_wide_gap_is_divided_evenly():
    maker = rows_of(key_frame_share=0.0, insertions=((8, 3),))
    _, frames = taken(maker(clip(), np.random.default_rng(0)))
    assert np.diff(frames).tolist() == [8, -6, 2, 2]


def test_interpolation_starts_anywhere_in_the_clip():
    maker = rows_of(key_frame_share=0.0, insertions=((4, 3),))
    assert {taken(row)[1][0] for row in many(maker)} == set(range(13))


def test_tasks_are_mixed_as_the_shares_say():
    serials = [tuple(taken(row)[0]) for row in many(rows_of(), 2000)]
    shares = {kind: serials.count(kind) / 2000 for kind in set(serials)}
    # Insertions in proportion to their frames, 3 to 1; four standard deviations.
    assert shares[(1, 2, 3, 4)] == pytest.approx(0.5, abs=0.045)
    assert shares[(1, 5, 2, 3, 4)] == pytest.approx(0.375, abs=0.045)
    assert shares[(1, 3, 2)] == pytest.approx(0.125, abs=0.03)
    assert len(shares) == 3


def test_all_rows_have_the_length_of_the_longest_and_weight_only_on_real_blocks():
    stride = tiny.sequence().stride
    for row in many(rows_of(), 60):
        assert (row["tokens"].shape, row["tokens"].dtype) == ((5 * stride,), np.int32)
        assert (row["weight"].shape, row["weight"].dtype) == ((5,), np.float32)
        serials, _ = taken(row)
        assert (row["tokens"][len(serials) * stride :] == PAD).all()
        assert (row["weight"][len(serials) :] == 0).all()
        assert row["weight"].sum() == (4 if serials[1] == 2 else len(serials) - 2)


def test_without_insertions_every_row_is_of_key_frames():
    maker = rows_of(insertions=(), key_frame_share=0.0)
    assert maker.blocks == 4
    assert {tuple(taken(row)[0]) for row in many(maker, 20)} == {(1, 2, 3, 4)}


def test_text_is_dropped_from_the_share_of_rows_asked_for():
    texts = [row["tokens"][:9] for row in many(rows_of(), 2000)]
    dropped = np.mean([(text == PAD).all() for text in texts])
    assert dropped == pytest.approx(0.25, abs=0.04)
    kept = next(text for text in texts if (text != PAD).any())
    np.testing.assert_array_equal(kept[:8], np.asarray(tiny.text().encode(CAPTION)) + 1)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return ShapesTokens("train", 10, tiny.frames(), tmp_path_factory.mktemp("tokens"))


def batches(tokens, seed=0):
    return training_batches(tokens, rows_of(), seed=seed, batch_size=4)


def assert_same(a, b):
    for name in ("tokens", "weight"):
        np.testing.assert_array_equal(a[name], b[name])


def test_order_and_draws_follow_from_the_seed(tokens):
    one, again, other = batches(tokens), batches(tokens), batches(tokens, seed=1)
    first = next(one)
    assert first["tokens"].shape == (4, 5 * tiny.sequence().stride)
    assert_same(first, next(again))
    assert (first["tokens"] != next(other)["tokens"]).any()


def test_an_iterators_state_resumes_exactly(tokens):
    iterator = batches(tokens)
    for _ in range(3):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(6)]  # into the third epoch
    resumed = batches(tokens)
    resumed.set_state(state)
    for want in expected:
        assert_same(next(resumed), want)


def test_every_clip_is_seen_once_an_epoch_and_epochs_differ(tokens):
    iterator = training_batches(
        tokens, rows_of(text_drop=0.0, key_frame_share=1.0), seed=0, batch_size=5
    )
    epochs = [
        [row.tobytes() for _ in range(2) for row in next(iterator)["tokens"]] for _ in range(2)
    ]
    maker = rows_of(text_drop=0.0, key_frame_share=1.0)
    expected = sorted(
        maker(tokens[i], np.random.default_rng(0))["tokens"].tobytes() for i in range(10)
    )
    assert sorted(epochs[0]) == sorted(epochs[1]) == expected
    assert epochs[0] != epochs[1]
