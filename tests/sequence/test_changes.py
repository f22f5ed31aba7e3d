"""Frames as what changed: any video is coded exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.changes import bases, unchanged, whole
from fv_jax.sequence.nearby import neighbors
from fv_jax.sequence.packing import (
    given_order,
    given_serials,
    interpolation_serials,
    key_frame_serials,
    pack,
    pad_text,
)
from fv_jax.sequence.skipping import compact

CONFIG = SequenceConfig(
    text_tokens=2, frame_grid=(2, 3), text_vocabulary=5, frame_codes=4, serial_numbers=8
)
ORDERS = [
    (key_frame_serials(4), range(4)),
    (interpolation_serials(3), interpolation_serials(3)),
    (given_serials(5, 3), given_order(5, 3)),
]


def rows(frames, serials):
    text = np.broadcast_to(pad_text([1], CONFIG), (len(frames), 2))
    return pack(text, frames, serials, CONFIG)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(ORDERS))
def test_every_video_has_a_row_and_the_row_has_the_video(seed, share, order):
    serials, times = order
    rng = np.random.default_rng(seed)
    frames = rng.integers(4, size=(3, len(times), 6))
    same = rng.uniform(size=frames.shape) < share
    for block, base in enumerate(bases(times)):
        frames[:, block] = np.where(same[:, block], frames[:, base], frames[:, block])
    tokens = rows(frames, serials)
    left_out = unchanged(tokens, times, CONFIG)
    row = compact(tokens, left_out, int((~left_out).sum(1).max()))
    np.testing.assert_array_equal(whole(row, times, CONFIG), frames)
    ids_that_differ = sum(
        int((frames[:, block] != frames[:, base]).sum())
        for block, base in enumerate(bases(times))
        if base != block
    )
    always = len(frames) * (len(times) * CONFIG.header + CONFIG.frame_tokens)
    assert row.length.sum() == always + ids_that_differ


def test_a_frame_is_compared_with_the_nearest_that_is_not_inserted():
    assert bases(range(4)) == [0, 0, 1, 2]
    assert bases(interpolation_serials(3)) == [0, 0, 0, 0, 1]  # A, B, then one after the other
    assert bases(given_order(5, 3)) == [0, 0, 0, 0, 1, 1]  # 0, 4, 1, 2, 3, 8


@pytest.mark.parametrize("order", [[0, 1], [0, 2, 1], [0, 4, 1, 2, 3]])
def test_a_place_knows_what_precedes_it_of_its_own_frame(order):
    before = neighbors(order, CONFIG, changes=True)
    changed = neighbors(order, CONFIG, changes=True, decided=True)
    stride, base = CONFIG.stride, bases(order)
    for block in range(len(order)):
        part = slice(block * stride, (block + 1) * stride)
        differ = before[part] != changed[part]
        # Four of nine places of the first frame: those above, and the one to the left.
        assert not differ[:, 4:].any()
        moved = differ[:, :4]
        shift = (block - base[block]) * stride
        assert (changed[part][:, :4][moved] - before[part][:, :4][moved] == shift).all()
        assert moved.any() == (block > 0)
        at = np.arange(part.start, part.stop)[:, None]
        assert (changed[part][:, :4] < at).all()
