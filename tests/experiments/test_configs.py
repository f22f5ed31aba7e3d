"""Every training of experiments/ has settings that can be built, and a record in its docstring."""

import pytest

from fv_jax.training import experiments


@pytest.mark.parametrize("name", experiments.names())
def test_every_training_has_settings_and_a_record(name):
    module = experiments.load_training(name)
    assert module.get_config().name.startswith(name)  # a stage's name comes after it
    for line in ("command", "cost", "size"):
        assert f"\n    {line}" in (module.__doc__ or ""), line
