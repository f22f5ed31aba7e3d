"""A run that is stopped and taken up is the run."""

import jax
import numpy as np
import pytest

from experiments.changes import training
from experiments.changes.network import WAYS


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_run_goes_on_where_it_was(way, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "WARM_UP", 2)
    monkeypatch.setattr(training, "OUT", tmp_path / "whole")
    whole = training.trained("tiny", way, 0, 6)
    monkeypatch.setattr(training, "OUT", tmp_path / "parts")
    part = training.trained("tiny", way, 0, 3)
    again = training.trained("tiny", way, 0, 6)
    assert max(part.curve) == 3
    assert max(again.curve) == 6
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    assert any(
        (a != b).any() for a, b in zip(jax.tree.leaves(part.params), jax.tree.leaves(again.params))
    )
    monkeypatch.setattr(training, "train", None)  # it must not be called again
    assert training.trained("tiny", way, 0, 6).curve == again.curve
