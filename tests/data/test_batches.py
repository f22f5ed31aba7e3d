"""Batches whose order can be taken up again, whoever makes their rows."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
from tiny_rows import CAPTION, CHANGES, SKIP, Moving, rows_of

from fv_jax.data.batches import training_batches
from fv_jax.data.rows import Kind, blocks_of_a_row, kinds
from fv_jax.sequence.vocab import Vocab


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


def test_every_clip_is_seen_once_an_epoch_and_epochs_differ():
    iterator = batches(batch_size=5)
    epochs = [np.concatenate([clips_of(next(iterator)) for _ in range(2)]) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


def test_a_batch_is_of_one_task_and_length_as_often_as_the_shares_say():
    stride = tiny.sequence().stride
    choices = {kind: share for share, kind in kinds(rows_of(**SKIP).experiment, tiny.sequence())}
    assert choices == {
        Kind(0): 0.5,
        Kind(1, 3 * stride): pytest.approx(0.5 * 2 / 5 / 2),
        Kind(1, 2 * stride + 10 + 8): pytest.approx(0.5 * 2 / 5 / 2),  # half of 16 ids
        Kind(3, 5 * stride): pytest.approx(0.5 * 3 / 5 / 2),
        Kind(3, 2 * stride + 3 * 10 + 24): pytest.approx(0.5 * 3 / 5 / 2),
    }
    maker = rows_of(**SKIP)
    drawn = [maker.kind(np.random.default_rng(i)) for i in range(2000)]
    for kind, share in choices.items():
        assert drawn.count(kind) / 2000 == pytest.approx(share, abs=0.045)
    iterator = training_batches(Moving(), maker, seed=0, batch_size=4)
    shapes = {next(iterator)["tokens"].shape for _ in range(60)}
    assert shapes == {(4, kind.length or 5 * stride) for kind in choices}


def test_batches_of_one_length_are_resumed_and_shared_like_others():
    make = lambda **how: training_batches(Moving(), rows_of(**SKIP), seed=5, batch_size=4, **how)
    plain, part, resumed = make(), make(own=range(1, 3)), make()
    resumed.set_state({"batches": 4})
    for number in range(12):
        want, got = next(plain), next(part)
        assert want.keys() == got.keys()
        for name in want:
            np.testing.assert_array_equal(got[name], want[name][1:3])
        if number >= 4:
            again = next(resumed)
            for name in want:
                np.testing.assert_array_equal(again[name], want[name])


def test_rows_of_changes_lack_more_than_rows_of_all_ids():
    maker = rows_of(**CHANGES)
    shapes = {
        next(batches)["tokens"].shape[1]
        for batches in [training_batches(Moving(), maker, seed=0, batch_size=2)]
        for _ in range(40)
    }
    assert shapes <= {kind.length for _, kind in kinds(maker.experiment, tiny.sequence())}
    assert min(shapes) < blocks_of_a_row(maker.experiment) * tiny.sequence().stride


def test_batches_of_changes_are_functions_of_their_number_whoever_makes_them():
    maker = rows_of(**CHANGES)
    made = lambda **how: training_batches(
        Moving(), maker, seed=3, **{"batch_size": 4, **how}
    )  # fmt: skip
    in_turn = made()
    want = [next(in_turn) for _ in range(20)]
    assert {batch["tokens"].shape for batch in want[:8]} != {want[0]["tokens"].shape}
    resumed, part = made(), made(own=[1, 3], threads=3)
    resumed.set_state({"batches": 17})
    np.testing.assert_equal(next(resumed), want[17])
    for batch in want:
        np.testing.assert_equal(next(part), {name: x[[1, 3]] for name, x in batch.items()})
