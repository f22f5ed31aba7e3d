"""Changes are the whole video, and batches of them are the same clips."""

from types import SimpleNamespace

import numpy as np
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.changes.rows import SortedBatches, coded, decoded
from fv_jax.config.model import SequenceConfig

GRID = SequenceConfig(text_tokens=20, frame_grid=(2, 3), text_vocabulary=40, frame_codes=9)


def video(seed: int, rows: int, frames: int, places: int, codes: int, stays: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = rng.integers(codes, size=(rows, frames, places))
    for frame in range(1, frames):
        same = rng.uniform(size=(rows, places)) < stays
        made[:, frame] = np.where(same, made[:, frame - 1], made[:, frame])
    return made.astype(np.int32)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 5), st.integers(1, 3),
    st.integers(1, 4), st.integers(2, 4), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.booleans(),
)  # fmt: skip
def test_any_video_comes_back(seed, rows, frames, height, width, codes, stays, few_lengths):
    sequence = SequenceConfig(
        text_tokens=2, frame_grid=(height, width), text_vocabulary=3, frame_codes=codes
    )
    made = video(seed, rows, frames, height * width, codes, stays)
    row = coded(np.ones((rows, 2), np.int32), made, sequence, few_lengths=few_lengths)
    np.testing.assert_array_equal(decoded(row, frames, sequence), made)
    changes = (made[:, 1:] != made[:, :-1]).sum((1, 2))
    np.testing.assert_array_equal(row.length, frames * 3 + height * width + changes)


class Videos:
    frames = video(1, 40, 9, 6, 9, 0.7)

    def __len__(self):
        return len(self.frames)

    def draw(self, index, rng):
        del rng
        return "red circle" if index % 2 else "red", self.frames[index]


def batches(changes: bool, seed: int = 0) -> SortedBatches:
    return SortedBatches(
        Videos(), tiny.text(), GRID, key_frames=3, stride=2, changes=changes, seed=seed,
        batch_size=2, count=100,
    )  # fmt: skip


def test_a_batch_is_a_function_of_its_number_and_ways_see_the_same_clips():
    dense, changes = batches(False), batches(True)
    in_turn = [changes[i] for i in range(20)]
    for i in (17, 3):
        for name, values in batches(True)[i].items():
            np.testing.assert_array_equal(values, in_turn[i][name])
        np.testing.assert_array_equal(dense[i]["frames"], in_turn[i]["frames"])
        row = SimpleNamespace(
            tokens=in_turn[i]["tokens"], positions=in_turn[i]["positions"],
            real=np.arange(in_turn[i]["tokens"].shape[1]) < in_turn[i]["length"][:, None],
        )  # fmt: skip
        np.testing.assert_array_equal(decoded(row, 3, GRID), in_turn[i]["frames"])
    assert any((batches(True, 1)[0]["frames"] != in_turn[0]["frames"]).flat)


def test_rows_of_a_batch_have_about_one_length():
    lengths = np.stack([batches(True)[i]["length"] for i in range(8)])
    within, among = np.ptp(lengths, axis=1).max(), np.ptp(lengths)
    assert within < among / 2
