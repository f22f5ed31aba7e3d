"""What a training would need, told without running it."""

import dataclasses

import jax
import pytest
from eight_devices import EXPERIMENT

from fv_jax.config.training import MeshConfig, RunConfig, TokenizerExperiment
from fv_jax.planning import estimate as planning
from fv_jax.planning.costs import step_costs
from fv_jax.planning.estimate import estimate
from fv_jax.training.tasks.network_loss import of_expected_data

RUN = RunConfig(steps=50, batch_size=8, mesh=MeshConfig())
NETWORK = dataclasses.replace(EXPERIMENT, run=RUN)


@pytest.fixture(scope="module")
def costs():
    task = of_expected_data(NETWORK, 1)
    return step_costs(task, RUN, NETWORK.optimizer, jax.devices()[:1])


def test_costs_of_one_device_are_those_of_the_whole(costs):
    params = jax.eval_shape(of_expected_data(NETWORK, 1).init, jax.random.key(0))
    assert costs.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert costs.weights == costs.average == 4 * costs.parameters
    assert costs.optimizer == pytest.approx(8 * costs.parameters, rel=0.01)
    assert costs.temporary > 0
    assert costs.collectives == {}
    assert costs.seconds is None  # no CPU compiler says so


def test_accumulation_needs_less_memory_and_the_same_flops(costs):
    parts = dataclasses.replace(RUN, accumulate=8)
    task = of_expected_data(dataclasses.replace(NETWORK, run=parts), 1)
    less = step_costs(task, parts, NETWORK.optimizer, jax.devices()[:1])
    assert less.flops == costs.flops
    assert less.temporary < costs.temporary


def test_the_estimate_names_everything_that_is_asked_of_it(capsys, costs, monkeypatch):
    monkeypatch.setattr(planning, "step_costs", lambda *_: costs)  # compiled once is enough
    estimate(NETWORK, devices=1, topology=None)
    text = capsys.readouterr().out
    assert f"{costs.parameters / 1e6:.1f} M" in text
    assert "data as expected" in text
    row = 8 * (3 + 1 + 4)
    assert f"100 clips, {100 * row:,} tokens, 12 steps" in text  # an epoch
    assert "50 steps, 4.0 epochs" in text
    for word in ("weights", "average", "optimizer", "activations", "device-hours", "40% MFU"):
        assert word in text
    for device in ("A100-80GB", "H100 SXM", "TPU v5e"):
        assert device in text


def test_a_tokenizer_needs_no_data_either(capsys):
    small = TokenizerExperiment("small", run=RunConfig(batch_size=2), crop=2)
    estimate(small, devices=None, topology=None)
    assert "from the settings alone" in capsys.readouterr().out


def test_what_cannot_be_estimated_is_refused():
    unknown = dataclasses.replace(NETWORK, expected=None, data="nowhere")
    with pytest.raises(
        ValueError, match="`fv tokenize nowhere --out FOLDER`, and give --data FOLDER"
    ):
        estimate(unknown, devices=1, topology=None)
    with pytest.raises(ValueError, match="--devices or --topology, not both"):
        estimate(NETWORK, devices=1, topology="v5e:2x2")
    with pytest.raises(ValueError, match="must be >= 1, got 0"):
        estimate(NETWORK, devices=0, topology=None)
    three = dataclasses.replace(NETWORK, run=dataclasses.replace(RUN, mesh=MeshConfig(data=3)))
    with pytest.raises(ValueError, match="does not make up 1 devices"):
        estimate(three, devices=1, topology=None)
