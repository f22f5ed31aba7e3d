"""What the bench of small tokenizers measures: its folders, and its counts."""

import dataclasses

import numpy as np
import pytest
import tiny

from experiments.benches import own_tokenizer
from experiments.own_tokenizer import get_config
from fv_jax.data.sources.base import open_source


@pytest.mark.parametrize("name", ["plain", "dark", "bright", "gray"])
def test_folders_look_as_they_are_called(tmp_path, monkeypatch, name):
    monkeypatch.setattr(own_tokenizer, "_CLIPS", 3)
    low, high = own_tokenizer._LEVELS[name]
    source = open_source(str(own_tokenizer._drawn(tmp_path / name, name)))
    assert len(source) == 3
    for entry in (source[i] for i in range(3)):
        frames = entry.open().frames([0, 12]).astype(int)
        assert low - 12 <= frames.min() <= frames.max() <= high + 12  # as lossy as mp4 is
        assert (frames[0] != frames[1]).any()
        if name == "gray":
            assert np.ptp(frames, axis=-1).max() <= 12


def test_a_tokenizer_with_one_code_has_it_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(own_tokenizer, "_CLIPS", 2)
    folder = str(own_tokenizer._drawn(tmp_path / "plain", "plain"))
    config = dataclasses.replace(get_config(), data=folder)
    living = own_tokenizer._use(tiny.MeanTokenizer(), config)
    assert living["most"] < 0.6
    assert 1 < living["perplexity"] <= living["codes_used"] <= living["codebook"] == 32
    monkeypatch.setattr(tiny.MeanTokenizer, "encode", lambda self, x: np.zeros((len(x), 6, 6), int))
    dead = own_tokenizer._use(tiny.MeanTokenizer(), config)
    assert (dead["codes_used"], dead["most"], dead["perplexity"]) == (1, 1.0, 1.0)
