"""One id space: four ranges that never overlap."""

import hypothesis
import pytest
from hypothesis import strategies as st

from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.vocab import PAD, Vocab

SIZES = st.builds(
    SequenceConfig,
    text_vocabulary=st.integers(1, 40),
    serial_numbers=st.integers(1, 20),
    frame_codes=st.integers(2, 60),
)


@hypothesis.given(SIZES)
def test_the_four_ranges_cover_every_id_once(config):
    vocab = Vocab(config)
    ids = [PAD]
    ids += [vocab.text_start + i for i in range(config.text_vocabulary)]
    ids += [vocab.serial(n) for n in range(1, config.serial_numbers + 1)]
    ids += [vocab.frame_start + i for i in range(config.frame_codes)]
    assert ids == list(range(vocab.size))


@pytest.mark.parametrize("number", [0, -1, 6])
def test_an_unknown_serial_number_is_refused(number):
    with pytest.raises(ValueError, match=rf"1\.\.5, got {number}"):
        Vocab(SequenceConfig(serial_numbers=5)).serial(number)
