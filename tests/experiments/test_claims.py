"""The claims' variants: changed sequences, a trained transformer that decodes, runs taken up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.baselines import sizes
from experiments.claims import changes, runs
from experiments.claims.scores import in_order, keeps_its_way, spread
from experiments.claims.transformer import EmbeddedTransformer, folded
from fv_jax.config.model import RetNetConfig, SequenceConfig
from fv_jax.models.retnet import RetNet
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, pack, unpack
from fv_jax.sequence.vocab import PAD, Vocab

LAYOUT = SequenceConfig(
    text_tokens=3, frame_grid=(2, 2), text_vocabulary=5, frame_codes=12, serial_numbers=5
)
SMALL = RetNetConfig(
    width=24, layers=2, heads=2, value_width=48, hidden=32, angles="even", slots=LAYOUT.stride,
    code_levels=(3, 4),
)  # fmt: skip
TEXT = np.full((2, 3), 2, np.int32)
CODES = np.arange(2 * 5 * 4).reshape(2, 5, 4) % 12


def test_serial_numbers_go_and_frames_stay():
    tokens = pack(TEXT, CODES, key_frame_serials(5), LAYOUT)
    _, serials, frames = unpack(changes.one_serial(tokens, LAYOUT), LAYOUT)
    assert serials == [1] * 5
    np.testing.assert_array_equal(frames, CODES)


def test_text_goes_from_all_blocks_but_the_first():
    tokens = pack(TEXT, CODES, key_frame_serials(5), LAYOUT)
    blocks = changes.neither(tokens, LAYOUT).reshape(2, 5, -1)
    assert (blocks[:, 0, :3] == TEXT).all()
    assert (blocks[:, 1:, :3] == PAD).all()
    assert (blocks[..., 3] == Vocab(LAYOUT).serial(1)).all()
    assert (tokens.reshape(2, 5, -1)[:, 1:, :3] == 2).all(), "the input was changed"


def test_left_to_right_puts_b_last():
    tokens = pack(TEXT, CODES, interpolation_serials(3), LAYOUT)
    _, serials, frames = unpack(changes.left_to_right(tokens, LAYOUT), LAYOUT)
    assert serials == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(frames, CODES[:, [0, 2, 3, 4, 1]])


def test_order_is_of_the_way_that_the_object_goes():
    left = np.stack([-np.arange(5.0), np.zeros(5)], axis=1)
    back = left[[0, 1, 2, 1, 0]]
    assert keeps_its_way(left) == in_order(left) == 1
    assert keeps_its_way(back) == 1 / 3
    assert in_order(left[[0, 3, 2, 1, 4]]) == 0
    assert in_order(left[[0, 1, 1, 2, 4]]) == pytest.approx(2.5 / 3)
    gone = left.copy()
    gone[3] = np.nan
    assert keeps_its_way(gone) == in_order(gone) == pytest.approx(1 / 3)
    assert spread([1.0, 2.0]) == "1.500 ± 0.707"


def test_order_of_frames_in_no_order_is_a_half():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(2000, 5, 2))
    assert np.mean([keeps_its_way(s.cumsum(0)) for s in steps]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([in_order(s) for s in steps]) == pytest.approx(0.5, abs=0.02)


def test_the_transformer_is_as_large_and_reads_alike_whole_and_cached():
    make = lambda kind: kind(SMALL, Vocab(LAYOUT).size, 12, rngs=nnx.Rngs(0))
    assert sizes.parameters(lambda: make(EmbeddedTransformer)) == sizes.parameters(
        lambda: make(RetNet)
    )
    model = make(EmbeddedTransformer)
    tokens = jnp.asarray(pack(TEXT, CODES, key_frame_serials(5), LAYOUT))
    whole, _ = model.chunkwise(tokens, model.init_state(2))
    params, graph = folded(
        nnx.to_pure_dict(nnx.state(model, nnx.Param)), SMALL, Vocab(LAYOUT).size, 12
    )
    plain = nnx.merge(graph, params)
    cache = plain.init_state(2, tokens.shape[1])
    cache = dataclasses.replace(cache, position=jnp.zeros((1,), jnp.int32))
    first, cache = plain.read(tokens[:, :9], cache)
    rest, _ = plain.read(tokens[:, 9:], cache)
    np.testing.assert_allclose(jnp.concatenate([first, rest], 1), whole, atol=2e-5)
    np.testing.assert_allclose(plain.logits(rest), model.logits(whole[:, 9:]), atol=2e-5)


@pytest.mark.slow
def test_a_run_is_trained_once_and_both_kinds_generate(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "OUT", tmp_path)
    for variant in (
        runs.Variant("neither", changes.neither),
        runs.Variant("transformer", transformer=True),
    ):
        first = runs.trained(variant, 0, "tiny")
        names = {path.name for path in (tmp_path / "claims" / "tiny").iterdir()}
        assert f"{variant.name}-0" in names
        monkeypatch.setattr(runs, "train", None)  # it must not be called again
        again = runs.trained(variant, 0, "tiny")
        monkeypatch.undo()
        monkeypatch.setattr(runs, "OUT", tmp_path)
        jax.tree.map(np.testing.assert_array_equal, again.params, first.params)
        generator = again.task.generator(again.params)
        prompt = "a small red circle moves left over stripes"
        clip = generator.generate([prompt], options=runs.OPTIONS)[0]
        assert clip.frames.shape == (17, 64, 64, 3)
        assert np.isfinite(again.task.validate(again.params)["loss"])
