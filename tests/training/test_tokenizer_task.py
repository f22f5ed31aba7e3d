"""Training the tokenizer: crops where something moves, and an export that encodes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fv_jax.config import OptimizerConfig, RunConfig, TokenizerExperiment
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.training.loop import fit
from fv_jax.training.tokenizer_task import TokenizerTask

STEPS = 40
CONFIG = TokenizerExperiment(
    "tiny",
    tokenizer=tiny.TOKENIZER,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5),
    run=RunConfig(
        steps=STEPS, batch_size=4, log_every=1, sample_every=STEPS, checkpoint_every=STEPS
    ),
    crop=2,
    evaluation_clips=4,
)
TASK = TokenizerTask(CONFIG)


@pytest.fixture(scope="module")
def batches():
    data = TASK.data()
    return [next(data) for _ in range(STEPS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("run")
    fit(TASK, CONFIG, home)
    return home


def test_batches_are_pairs_of_crops(batches):
    for batch in batches:
        assert (batch["frames"].shape, batch["frames"].dtype) == ((8, 32, 32, 3), np.uint8)
        assert (batch["changed"].shape, batch["changed"].dtype) == ((8, 2, 2), bool)
    assert TASK.tokens_per_step == batches[0]["changed"].size


def test_changed_patches_are_those_where_the_pair_differs(batches):
    frames = np.concatenate([b["frames"] for b in batches]).astype(int)
    changed = np.concatenate([b["changed"] for b in batches])
    patches = frames.reshape(-1, 2, 16, 2, 16, 3)
    difference = np.abs(patches[0::2] - patches[1::2]).max((2, 4, 5))
    np.testing.assert_array_equal(changed[0::2], difference > 8)
    np.testing.assert_array_equal(changed[0::2], changed[1::2])


def test_crops_lie_where_something_moves_and_never_repeat(batches):
    assert all(batch["changed"].reshape(4, -1).any(1).all() for batch in batches)
    crops = [crop.tobytes() for batch in batches for crop in batch["frames"]]
    assert len(set(crops)) > 0.95 * len(crops)


def test_data_is_a_function_of_the_seed(batches):
    again = TASK.data()
    np.testing.assert_array_equal(next(again)["frames"], batches[0]["frames"])
    assert (batches[0]["frames"] != batches[1]["frames"]).any()


def test_errors_in_changed_patches_weigh_more(batches):
    params = tiny.frames().params
    loss = jax.jit(TASK.loss)
    frames = jnp.asarray(batches[0]["frames"])
    black_left = frames.at[:, :, :16].set(0)
    left = jnp.zeros((8, 2, 2), bool).at[:, :, 0].set(True)
    key = jax.random.key(0)
    at_left, _ = loss(params, {"frames": black_left, "changed": left}, key)
    at_right, _ = loss(params, {"frames": black_left, "changed": ~left}, key)
    plain, _ = loss(params, {"frames": black_left, "changed": jnp.zeros_like(left)}, key)
    high, low = CONFIG.changed_weight, CONFIG.plain_weight
    # Both are weighted means of the same two halves; together they are the plain mean.
    assert float(at_left + at_right) == pytest.approx(2 * float(plain), rel=1e-4)
    assert high > low
    assert float(at_left) != pytest.approx(float(at_right), rel=1e-3)


def test_training_learns(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    (valid,) = [line for line in lines if "valid_psnr" in line]
    assert valid["valid_psnr"] > 10
    assert 1 <= valid["valid_codes_used"] <= 36


def test_the_export_is_a_tokenizer_with_its_record(folder):
    tokenizer = FSQTokenizer.load(folder / "model" / "tokenizer.safetensors")
    assert tokenizer.config == tiny.TOKENIZER
    assert tokenizer.encode(tiny.video(2)).shape == (2, 4, 4)
    record = json.loads((folder / "model" / "tokenizer_training.json").read_text())
    assert (record["steps"], record["config"]["name"]) == (STEPS, "tiny")
