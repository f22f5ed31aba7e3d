"""One id space: ranges that never overlap."""

import hypothesis
import pytest
from hypothesis import strategies as st

from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.vocab import PAD, Vocab

SIZES = st.fixed_dictionaries(
    dict(
        text_vocabulary=st.integers(1, 40),
        serial_numbers=st.integers(1, 20),
        frame_codes=st.integers(2, 60),
        gaps=st.sampled_from(((), (4,), (2, 4, 16))),
    )
)


@hypothesis.given(SIZES)
def test_the_ranges_cover_every_id_once(sizes):
    config = SequenceConfig(**sizes)
    vocab = Vocab(config)
    ids = [PAD]
    ids += [vocab.text_start + i for i in range(config.text_vocabulary)]
    ids += [vocab.serial(n) for n in range(1, config.serial_numbers + 1)]
    ids += [vocab.gap(frames) for frames in config.gaps]
    ids += [vocab.frame_start + i for i in range(config.frame_codes)]
    assert ids == list(range(vocab.size))


@pytest.mark.parametrize("number", [0, -1, 6])
def test_an_unknown_serial_number_is_refused(number):
    with pytest.raises(ValueError, match=rf"1\.\.5, got {number}"):
        Vocab(SequenceConfig(serial_numbers=5)).serial(number)


@pytest.mark.parametrize("gaps", [(), (2, 4)])
def test_a_gap_that_no_block_names_is_refused(gaps):
    with pytest.raises(ValueError, match=r"a gap must be one of \(.*\) frames, got 3"):
        Vocab(SequenceConfig(gaps=gaps)).gap(3)
