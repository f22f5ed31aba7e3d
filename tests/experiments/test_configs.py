"""Every training of experiments/ has settings that can be built, and a record in its docstring."""

import pytest

from fv_jax import experiment


@pytest.mark.parametrize("name", experiment.names())
def test_every_training_has_settings_and_a_record(name):
    module = experiment.load(name)
    assert module.get_config().name.startswith(name)  # a stage's name comes after it
    for line in ("command", "cost", "size"):
        assert f"\n    {line}" in (module.__doc__ or ""), line
