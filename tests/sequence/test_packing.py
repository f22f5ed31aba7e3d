"""The packed sequence: Fig. 3 by hand, round trips, and errors that name what is wrong."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.packing import (
    given_order,
    given_serials,
    header,
    interpolation_serials,
    key_frame_serials,
    key_frames_after,
    pack,
    pad_text,
    unpack,
)
from fv_jax.sequence.vocab import PAD, Vocab

# ids: 0 padding, 1..5 text, 6..11 serial numbers, 12..18 frame codes
CONFIG = SequenceConfig(
    text_tokens=3, frame_grid=(1, 2), text_vocabulary=5, frame_codes=7, serial_numbers=6
)


def random_batch(rows, blocks, seed=0):
    rng = np.random.default_rng(seed)
    texts = [pad_text(rng.integers(5, size=rng.integers(4)).tolist(), CONFIG) for _ in range(rows)]
    return np.stack(texts), rng.integers(7, size=(rows, blocks, 2), dtype=np.int32)


def test_key_frames_are_packed_as_in_figure_3_left():
    text = pad_text([4, 0], CONFIG)[None]
    frames = np.array([[[0, 1], [2, 3], [6, 5]]])
    packed = pack(text, frames, key_frame_serials(3), CONFIG)
    # fmt: off
    assert packed.tolist() == [[
        5, 1, 0, 6, 12, 13,  # text, padding, SN_1, frame 1
        5, 1, 0, 7, 14, 15,  # text, padding, SN_2, frame 2
        5, 1, 0, 8, 18, 17,
    ]]
    # fmt: on


def test_interpolation_is_packed_as_in_figure_3_right():
    text = pad_text([1, 2, 3], CONFIG)[None]
    a, b, first, second, third = [0, 0], [6, 6], [1, 2], [3, 3], [4, 5]
    frames = np.array([[a, b, first, second, third]])
    packed = pack(text, frames, interpolation_serials(3), CONFIG)
    # fmt: off
    assert packed.tolist() == [[
        2, 3, 4,  6, 12, 12,  # SN_1, A
        2, 3, 4, 10, 18, 18,  # SN_5, B: it will be last
        2, 3, 4,  7, 13, 14,  # SN_2, the inserted frames
        2, 3, 4,  8, 15, 15,
        2, 3, 4,  9, 16, 17,
    ]]
    # fmt: on


def test_five_given_frames_are_packed_as_interpolation_packs_them_and_key_frames_follow():
    text = pad_text([1, 2, 3], CONFIG)[None]
    clip = np.arange(17)[:, None].repeat(2, axis=1) % 7  # frame t has the ids t
    order, serials = given_order(5, 4), given_serials(5, 4)
    assert order == [0, 4, 1, 2, 3, 8, 12]
    packed = pack(text, clip[order][None], serials, CONFIG)
    # fmt: off
    assert packed.tolist() == [[
        2, 3, 4,  6, 12, 12,  # SN_1, frame 1, the first key frame
        2, 3, 4, 10, 16, 16,  # SN_5, frame 5, the second
        2, 3, 4,  7, 13, 13,  # SN_2 to SN_4, the frames between
        2, 3, 4,  8, 14, 14,
        2, 3, 4,  9, 15, 15,
        2, 3, 4,  8, 13, 13,  # SN_3, frame 9, the third key frame: the first that is generated
        2, 3, 4,  9, 17, 17,  # SN_4, frame 13
    ]]
    # fmt: on


def test_blocks_of_a_network_that_knows_several_gaps_name_theirs():
    config = dataclasses.replace(CONFIG, gaps=(4, 16))  # ids 12 and 13; frame codes from 14 on
    text = pad_text([4, 0], config)[None]
    frames = np.array([[[0, 1], [6, 5], [2, 3]]])
    packed = pack(text, frames, interpolation_serials(1), config, gap=16)
    # fmt: off
    assert packed.tolist() == [[
        5, 1, 0, 13, 6, 14, 15,  # text, padding, 16 frames, SN_1, A
        5, 1, 0, 13, 8, 20, 19,
        5, 1, 0, 13, 7, 16, 17,
    ]]
    # fmt: on
    assert unpack(packed, config)[1] == [1, 3, 2]
    np.testing.assert_array_equal(unpack(packed, config)[2], frames)
    with pytest.raises(ValueError, match=r"one of \(4, 16\) frames, got 0"):
        pack(text, frames, interpolation_serials(1), config)


@pytest.mark.parametrize(
    ("given", "trained", "key_frames"), [(5, 16, 13), (5, 8, 5), (5, 3, 3), (3, 4, 3)]
)
def test_rows_with_given_frames_are_no_longer_but_for_one_key_frame_after_them(
    given, trained, key_frames
):
    assert key_frames_after(given, trained) == key_frames
    blocks = len(given_serials(given, key_frames))
    assert blocks == len(given_order(given, key_frames)) == max(trained, given + 1)


def test_serial_numbers_of_both_tasks():
    assert key_frame_serials(4) == [1, 2, 3, 4]
    assert interpolation_serials(3) == [1, 5, 2, 3, 4]
    assert interpolation_serials(1) == [1, 3, 2]


@pytest.mark.parametrize("inserted", [1, 2, 3, 7])
def test_the_order_of_serial_numbers_puts_the_inserted_frames_between_their_neighbors(inserted):
    serials = interpolation_serials(inserted)
    packed = ["A", "B", *range(inserted)]
    assert [packed[i] for i in np.argsort(serials)] == ["A", *range(inserted), "B"]
    assert [serials[i] for i in np.argsort(serials)] == key_frame_serials(inserted + 2)


@hypothesis.given(
    rows=st.integers(1, 3), blocks=st.integers(3, 6), seed=st.integers(0, 99), between=st.booleans()
)
def test_unpack_undoes_pack_for_both_tasks(rows, blocks, seed, between):
    text, frames = random_batch(rows, blocks, seed)
    serials = interpolation_serials(blocks - 2) if between else key_frame_serials(blocks)
    packed = pack(text, frames, serials, CONFIG)
    assert packed.dtype == np.int32
    got_text, got_serials, got_frames = unpack(packed, CONFIG)
    np.testing.assert_array_equal(got_text, text)
    assert got_serials == serials
    np.testing.assert_array_equal(got_frames, frames)


@pytest.mark.parametrize("words", [0, 1, 3])
def test_blocks_have_one_length_however_short_the_text(words):
    _, frames = random_batch(1, 4)
    packed = pack(pad_text([2] * words, CONFIG)[None], frames, key_frame_serials(4), CONFIG)
    assert packed.shape == (1, 4 * CONFIG.stride)
    at_frames = np.flatnonzero(packed[0] >= Vocab(CONFIG).frame_start)
    np.testing.assert_array_equal(at_frames, [s * 6 + o for s in range(4) for o in (4, 5)])


def test_text_is_padded_at_the_end_and_never_cut():
    assert pad_text([4], CONFIG).tolist() == [5, PAD, PAD]
    assert pad_text([], CONFIG).tolist() == [PAD] * 3
    assert pad_text([0, 1, 2], CONFIG).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="4 tokens, but a block holds 3"):
        pad_text([0, 1, 2, 3], CONFIG)


@pytest.mark.parametrize("ids", [[5], [0, -1]])
def test_text_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(ValueError, match=r"0\.\.4, got"):
        pad_text(ids, CONFIG)


def test_header_is_what_pack_puts_before_a_frame():
    text, frames = random_batch(2, 3)
    packed = pack(text, frames, key_frame_serials(3), CONFIG)
    np.testing.assert_array_equal(header(text, 2, Vocab(CONFIG)), packed[:, 6:10])


@pytest.mark.parametrize(
    ("frames", "serials", "message"),
    [
        (np.zeros((1, 3, 2), int), [1, 2], "3 frames but 2 serial numbers"),
        (np.zeros((1, 1, 5), int), [1], "must have 2 ids, got 5"),
        (np.full((1, 1, 2), 7), [1], r"0\.\.6 or -1, got 7\.\.7"),
        (np.full((1, 1, 2), -2), [1], r"0\.\.6 or -1, got -2\.\.-2"),
        (np.zeros((1, 1, 2), int), [7], r"1\.\.6, got 7"),
    ],
)
def test_pack_says_what_it_got_and_what_it_wants(frames, serials, message):
    with pytest.raises(ValueError, match=message):
        pack(pad_text([0], CONFIG)[None], frames, serials, CONFIG)


def test_pack_refuses_text_that_was_not_padded():
    with pytest.raises(ValueError, match=r"shape \(1, 3\), got \(1, 2\)"):
        pack(np.ones((1, 2), np.int32), np.zeros((1, 1, 2), int), [1], CONFIG)


def test_unpack_refuses_a_broken_length():
    with pytest.raises(ValueError, match="multiple of stride 6, got 13"):
        unpack(np.zeros((1, 13), np.int32), CONFIG)
