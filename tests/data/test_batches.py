"""Training rows of both tasks, and batches whose order can be taken up again."""

import dataclasses
import json

import numpy as np
import pytest
import tiny

from fv_jax.config.training import NetworkExperiment
from fv_jax.data.batches import RowMaker, blocks_of_a_row, training_batches
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.vocab import PAD, Vocab

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
    changed = dataclasses.replace(EXPERIMENT, **changes)
    return RowMaker(changed, tiny.sequence(), tiny.text(), blocks_of_a_row(changed))


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
    serials, frames = taken(row)
    assert serials == [1, 2, 3, 4]
    assert np.diff(frames).tolist() == [4, 4, 4]
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


def test_some_key_frame_rows_begin_with_given_frames_and_learn_what_follows():
    maker = rows_of(key_frame_share=1.0, given_frames=5, given_share=0.25)
    assert maker.blocks == 6
    rows = many(maker, 1000)
    kinds = [tuple(taken(row)[0]) for row in rows]
    assert set(kinds) == {(1, 2, 3, 4), (1, 5, 2, 3, 4, 3)}
    assert kinds.count((1, 5, 2, 3, 4, 3)) / 1000 == pytest.approx(0.25, abs=0.055)
    row = rows[kinds.index((1, 5, 2, 3, 4, 3))]
    first = taken(row)[1][0]
    assert (np.asarray(taken(row)[1]) - first).tolist() == [0, 4, 1, 2, 3, 8]
    assert row["weight"].tolist() == [0, 0, 0, 0, 0, 1]
    assert {taken(r)[1][0] for r, kind in zip(rows, kinds) if len(kind) == 6} == set(range(9))


def test_the_paper_s_rows_are_no_longer_for_given_frames():
    changes = dict(key_frames=16, serial_numbers=16)
    assert rows_of(**changes).blocks == rows_of(**changes, given_frames=5).blocks == 16


def test_text_is_dropped_from_the_share_of_rows_asked_for():
    texts = [row["tokens"][:9] for row in many(rows_of(), 2000)]
    dropped = np.mean([(text == PAD).all() for text in texts])
    assert dropped == pytest.approx(0.25, abs=0.04)
    kept = next(text for text in texts if (text != PAD).any())
    np.testing.assert_array_equal(kept[:8], np.asarray(tiny.text().encode(CAPTION)) + 1)


def dropped_shares(maker):
    """Shares of the key-frame and of the interpolation rows that have no text."""
    rows = [(taken(row)[0][1] == 2, (row["tokens"][:9] == PAD).all()) for row in many(maker, 2000)]
    return [np.mean([none for key, none in rows if key is kind]) for kind in (True, False)]


def test_interpolation_rows_have_a_share_without_text_of_their_own():
    plain, own = rows_of(text_drop=0.1), rows_of(text_drop=0.1, interpolation_text_drop=0.5)
    assert dropped_shares(plain) == pytest.approx([0.1, 0.1], abs=0.04)
    assert dropped_shares(own) == pytest.approx([0.1, 0.5], abs=0.06)
    assert dropped_shares(rows_of(interpolation_text_drop=0.0))[1] == 0
    # Nothing else is drawn otherwise, and rows of key frames are the same rows.
    for a, b in zip(many(plain), many(own)):
        assert taken(a) == taken(b)
        np.testing.assert_array_equal(a["weight"], b["weight"])
        if taken(a)[0][1] == 2:
            np.testing.assert_array_equal(a["tokens"], b["tokens"])


@dataclasses.dataclass(frozen=True)
class Numbered:
    """Clips whose ids are their own number, 4x4 of them a frame."""

    count: int

    def __len__(self):
        return self.count

    def draw(self, index, rng):
        return CAPTION, np.full((17, 16), index, np.uint16)


TOKENS = Numbered(10)


def batches(seed=0, batch_size=4, **changes):
    return training_batches(TOKENS, rows_of(), seed=seed, batch_size=batch_size, **changes)


def assert_same(a, b):
    for name in ("tokens", "weight"):
        np.testing.assert_array_equal(a[name], b[name])


def clips_of(batch):
    """The number of each row's clip."""
    first = tiny.sequence().text_tokens + 1
    return batch["tokens"][:, first] - Vocab(tiny.sequence()).frame_start


def test_order_and_draws_follow_from_the_seed():
    one, again, other = batches(), batches(), batches(seed=1)
    first = next(one)
    assert first["tokens"].shape == (4, 5 * tiny.sequence().stride)
    assert_same(first, next(again))
    assert (first["tokens"] != next(other)["tokens"]).any()


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0)])
def test_an_iterators_state_resumes_exactly_whatever_the_number_of_workers(before, after):
    plain = batches()
    expected = [next(plain) for _ in range(9)]  # into the fourth epoch
    iterator = batches(workers=before)
    for want in expected[:3]:
        assert_same(next(iterator), want)
    resumed = batches(workers=after)
    resumed.set_state(json.loads(json.dumps(iterator.get_state())))
    for want in expected[3:]:
        assert_same(next(resumed), want)


def test_a_batch_may_be_a_single_row():
    four, ones = next(batches()), batches(batch_size=1)
    np.testing.assert_array_equal(
        np.concatenate([next(ones)["tokens"] for _ in range(4)]), four["tokens"]
    )


def test_threads_keep_the_order():
    one, four = batches(), batches(threads=4)
    for _ in range(8):
        assert_same(next(one), next(four))


def test_processes_make_their_own_rows_of_the_same_batches():
    whole, parts = batches(), [batches(own=range(2 * p, 2 * p + 2)) for p in range(2)]
    for _ in range(6):
        want = next(whole)
        for p, part in enumerate(parts):
            got = next(part)
            for name in ("tokens", "weight"):
                np.testing.assert_array_equal(got[name], want[name][2 * p : 2 * p + 2])


def test_a_position_means_the_same_to_any_number_of_processes():
    whole, part = batches(), batches(own=range(1, 3))
    for _ in range(3):
        next(whole)
    part.set_state(whole.get_state())
    np.testing.assert_array_equal(next(part)["tokens"], next(whole)["tokens"][1:3])


def test_rows_have_as_many_blocks_as_can_be_cut():
    assert blocks_of_a_row(EXPERIMENT) == 5
    assert blocks_of_a_row(EXPERIMENT, parts=2) == 6
    row = RowMaker(EXPERIMENT, tiny.sequence(), tiny.text(), blocks=6)(
        clip(), np.random.default_rng(0)
    )
    assert row["tokens"].shape == (6 * tiny.sequence().stride,)
    assert row["weight"].shape == (6,)
    assert row["weight"][5] == 0


def test_every_clip_is_seen_once_an_epoch_and_epochs_differ():
    iterator = batches(batch_size=5)
    epochs = [np.concatenate([clips_of(next(iterator)) for _ in range(2)]) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


def test_longer_clips_are_entered_anywhere():
    maker = rows_of(key_frame_share=1.0)
    frames = np.arange(20, dtype=np.uint16)[:, None].repeat(16, axis=1)
    rows = [maker((CAPTION, frames), np.random.default_rng(i)) for i in range(200)]
    firsts = {taken(row)[1][0] for row in rows}
    assert firsts == set(range(20 - 12))
    assert all(np.diff(taken(row)[1]).tolist() == [4, 4, 4] for row in rows)
