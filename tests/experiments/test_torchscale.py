"""What the bench against torchscale claims, as far as it can be checked without torch."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from places import FIXTURES
from safetensors.numpy import load_file

from experiments.benches import torchscale
from experiments.timing import parameters
from fv_jax.cli.main import main
from fv_jax.config.model import RetNetConfig
from fv_jax.interop.torchscale import TorchscaleConfig
from fv_jax.models.retnet import RetNet
from fv_jax.sequence.vocab import Vocab

DATA = FIXTURES / "torchscale"


def test_without_torchscale_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchscale", None)  # where it is installed, too
    for name in torchscale._NOT_CALLED:  # what the import puts there goes with the test
        monkeypatch.setitem(sys.modules, name, sys)
    assert main(["bench", "torchscale", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("fv: this bench needs torch and torchscale")
    assert "is missing" in line
    assert "pip install --no-deps torchscale==0.3.0" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", torchscale.cases())
def test_both_sides_have_the_same_parameters(name):
    case = torchscale.cases()[name]
    size, codes = Vocab(case.sequence).size, case.sequence.frame_codes
    make = lambda: RetNet(case.network, size, codes, rngs=nnx.Rngs(0))
    ours = parameters(nnx.state(nnx.eval_shape(make), nnx.Param))
    shapes = TorchscaleConfig(**torchscale.their_options(case)).shapes()
    shapes["output_projection.weight"] = (codes, case.network.width)
    theirs = sum(np.prod(s) for n, s in shapes.items() if not n.startswith("retnet_rel_pos"))
    assert ours == theirs
    if name == "middle":
        assert ours == pytest.approx(6e6, rel=0.05)


def test_the_network_that_is_timed_computes_torchscales_function():
    options = TorchscaleConfig(**json.loads((DATA / "a_main.json").read_text())["config"])
    config = RetNetConfig(
        width=options.decoder_embed_dim, layers=options.decoder_layers,
        heads=options.decoder_retention_heads, value_width=options.decoder_value_embed_dim,
        hidden=options.decoder_ffn_embed_dim, memory_tokens=None,
    )  # fmt: skip
    params = torchscale.from_torchscale(load_file(DATA / "a_main.safetensors"), config)
    graph = torchscale.graph_of(config, options.vocab_size, options.vocab_size)
    vectors = np.load(DATA / "a_main.npz")
    got = torchscale.network(params, jnp.asarray(vectors["L37/tokens"]), graph=graph)
    expected = vectors["L37/recurrent_logits_f32"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-5)
