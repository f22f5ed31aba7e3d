"""Compiled calls of the sampler: one for a shape, and the width that suits the device."""

import json

import jax
import numpy as np
import pytest
import tiny

from fv_jax.files import user_cache
from fv_jax.generation.engine import Engine
from fv_jax.generation.policies import Sampling
from fv_jax.generation.sampler import decode
from fv_jax.generation.stats import Stats
from fv_jax.generation.window_size import StepTime
from fv_jax.sequence.packing import pack, unpack
from fv_jax.sequence.vocab import FREE, PAD


def test_what_a_step_takes_is_measured_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = Engine(tiny.model())
    step = engine.step_time
    assert step(1) > 0
    assert step.b >= 0
    (path,) = (user_cache() / "step-times").iterdir()
    assert json.loads(path.read_text())["step"] == {"a": step.a, "b": step.b}
    monkeypatch.setattr(Engine, "_measured", None)  # it must not be called again
    assert Engine(tiny.model()).step_time == step


def test_a_damaged_measurement_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Engine, "_measured", lambda self: StepTime(1.0, 2.0))
    assert Engine(tiny.model()).step_time == StepTime(1.0, 2.0)
    (path,) = (user_cache() / "step-times").iterdir()
    path.write_text(path.read_text()[:9])
    assert Engine(tiny.model()).step_time == StepTime(1.0, 2.0)
    assert json.loads(path.read_text())["step"] == {"a": 1.0, "b": 2.0}


def test_a_window_is_as_asked_for_or_as_the_device_wants_it_and_never_wider_than_a_block():
    stride = tiny.sequence().stride
    slow, fast = StepTime(0.0, 1.0), StepTime(1.0, 0.0)
    width = lambda step, **more: Engine(tiny.model(), step).sampler(Sampling(), 1, **more).window
    assert width(slow) == 1
    assert width(fast) == stride
    assert width(slow, window=5) == 5
    assert width(slow, window=500) == stride
    assert width(fast, kept=None) < stride  # nothing is guessed beyond the header


def test_a_shape_is_compiled_once():
    engine, stats = Engine(tiny.model(), StepTime(0.0, 1.0)), Stats()
    sampler = engine.sampler(Sampling(), 1)
    tokens = np.ones((1, tiny.sequence().stride), np.int32)
    for seed in range(2):
        engine.decode(
            engine.start(sampler, [(seed,)]), sampler, stats,
            tokens=tokens, guesses=np.full(tokens.shape[1], -1, np.int32), order=(0, 1),
        )  # fmt: skip
    assert len(engine._compiled) == 1
    assert stats.summary(1)["forced"] == 2 * tokens.size


def test_what_stands_before_the_first_id_to_be_sampled_is_read_at_once():
    engine, sequence = Engine(tiny.model(), StepTime(0.0, 1.0)), tiny.sequence()
    sampler, rng, rows = engine.sampler(Sampling(), 2), np.random.default_rng(0), 2
    texts = np.full((rows, sequence.text_tokens), PAD, np.int32)
    codes = rng.integers(0, sequence.frame_codes, (rows, 3, sequence.frame_tokens))
    codes[:, 2] = FREE
    codes[1, 1, 3:] = FREE  # the first one of all rows counts
    tokens = pack(texts, codes, [1, 2, 3], sequence)
    guesses, seeds, stats = np.full(tokens.shape[1], -1, np.int32), [(0,), (1,)], Stats()
    made, _ = engine.decode(
        engine.start(sampler, seeds), sampler, stats, tokens=tokens, guesses=guesses, order=(0, 1)
    )
    first = sequence.stride + sequence.header + 3
    assert stats.summary(1)["steps"] == tokens.shape[1] - (first - 1)
    whole, _, _ = decode(
        engine.model.params, engine.start(sampler, seeds), tokens, guesses,
        graph=engine.model.graph, sampler=sampler,
    )  # fmt: skip
    np.testing.assert_array_equal(made, unpack(np.asarray(whole), sequence)[2])


@pytest.mark.parametrize("model", [tiny.model, tiny.model_of_changes])
def test_rows_that_are_decoded_in_groups_are_as_together(model):
    sequence, rng, rows = tiny.sequence(), np.random.default_rng(0), 8
    texts = np.full((rows, sequence.text_tokens), PAD, np.int32)
    codes = rng.integers(0, sequence.frame_codes, (rows, 3, sequence.frame_tokens))
    left_out = (
        rng.uniform(size=codes[:, 2].shape)
        < np.linspace(0, 1, rows)[[3, 0, 4, 6, 1, 5, 2, 7], None]
    )
    codes[:, 2] = np.where(left_out, codes[:, 0], FREE)
    tokens = pack(texts, codes, [1, 3, 2], sequence)
    lacks = np.zeros((rows, 3, sequence.stride), bool)
    lacks[:, 2, sequence.header :] = left_out
    results = []
    for step in (StepTime(1.0, 0.0), StepTime(0.0, 1.0)):
        engine, stats = Engine(model(), step), Stats()
        sampler = engine.sampler(Sampling(), rows, window=2)
        made, state = engine.decode(
            engine.start(sampler, [(7, row) for row in range(rows)]), sampler, stats,
            tokens=tokens, guesses=np.full(tokens.shape[1], -1, np.int32), order=(1, 3, 2),
            left_out=lacks.reshape(rows, -1),
        )  # fmt: skip
        results.append((made, state, stats.summary(1)))
    (together, state, whole), (apart, other, parts) = results
    np.testing.assert_array_equal(apart, together)
    np.testing.assert_array_equal(other.net.position, state.net.position)
    tiny.assert_close(other.net.retention, state.net.retention, "float32")
    assert (jax.random.key_data(other.keys) == jax.random.key_data(state.keys)).all()
    assert parts["steps"] > whole["steps"]
    for same in ("fed", "sampled", "forced"):
        assert parts[same] == whole[same]
    assert whole["sampled"] >= rows
