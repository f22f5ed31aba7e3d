"""A run that is stopped and taken up is the run; one that is done may go on."""

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
    training.trained("tiny", "images", 0, 2)
    scored, left = training.KeyFrameTask.sample, [1, 2, 3]

    def sample(*given):
        left.pop()  # fails at the fourth
        return scored(*given)

    with monkeypatch.context() as stopped:
        stopped.setattr(training.KeyFrameTask, "sample", sample)
        with pytest.raises(IndexError):
            training.trained("tiny", way, 0, 6)
    again = training.trained("tiny", way, 0, 6)
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    assert again.curve == whole.curve
    assert list(again.curve) == [1, 2, 3, 4, 5, 6]

    longer = training.trained("tiny", way, 0, 8)
    assert longer.curve.items() >= again.curve.items()
    assert max(longer.curve) == 8
    monkeypatch.setattr(training, "train", None)  # it must not be called again
    assert training.trained("tiny", way, 0, 8).curve == longer.curve
