"""Training the tokenizer: crops where something moves, and an export that encodes."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

from fv_jax.config.training import OptimizerConfig, RunConfig, TokenizerExperiment
from fv_jax.data.split import held_out
from fv_jax.media.writers import write_mp4
from fv_jax.metrics.lpips import LPIPS
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.training.loop import train
from fv_jax.training.tasks import tokenizer as module
from fv_jax.training.tasks.tokenizer import TokenizerTask

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
TASK = TokenizerTask(CONFIG, folder=Path("not used by shapes"))
NAMES = ("a.mp4", "b.mp4", "c.mp4")
PARAMS = {"autoencoder": tiny.frames().params}


@pytest.fixture(scope="module")
def batches():
    data = TASK.data(range(4))
    return [next(data) for _ in range(STEPS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("run")
    train(TASK, CONFIG, home)
    return home


def test_batches_are_pairs_of_crops(batches):
    for batch in batches:
        assert (batch["frames"].shape, batch["frames"].dtype) == ((4, 2, 32, 32, 3), np.uint8)
        assert (batch["changed"].shape, batch["changed"].dtype) == ((4, 2, 2, 2), bool)
    assert TASK.tokens_per_step == batches[0]["changed"].size


def test_changed_patches_are_those_where_the_pair_differs(batches):
    frames = np.concatenate([b["frames"].reshape(-1, 32, 32, 3) for b in batches]).astype(int)
    changed = np.concatenate([b["changed"].reshape(-1, 2, 2) for b in batches])
    patches = frames.reshape(-1, 2, 16, 2, 16, 3)
    difference = np.abs(patches[0::2] - patches[1::2]).max((2, 4, 5))
    np.testing.assert_array_equal(changed[0::2], difference > 8)
    np.testing.assert_array_equal(changed[0::2], changed[1::2])


def test_crops_lie_where_something_moves_and_never_repeat(batches):
    assert all(batch["changed"].reshape(4, -1).any(1).all() for batch in batches)
    crops = [crop.tobytes() for batch in batches for crop in batch["frames"].reshape(8, -1)]
    assert len(set(crops)) > 0.95 * len(crops)


def test_data_is_a_function_of_the_seed(batches):
    again = TASK.data(range(4))
    np.testing.assert_array_equal(next(again)["frames"], batches[0]["frames"])
    assert (batches[0]["frames"] != batches[1]["frames"]).any()


def test_errors_in_changed_patches_weigh_more(batches):
    loss = jax.jit(TASK.loss)
    frames = jnp.asarray(batches[0]["frames"])
    black_left = frames.at[:, :, :16].set(0)
    left = jnp.zeros((4, 2, 2, 2), bool).at[:, :, 0].set(True)
    key = jax.random.key(0)
    at_left, _ = loss(PARAMS, {"frames": black_left, "changed": left}, key)
    at_right, _ = loss(PARAMS, {"frames": black_left, "changed": ~left}, key)
    plain, _ = loss(PARAMS, {"frames": black_left, "changed": jnp.zeros_like(left)}, key)
    high, low = CONFIG.changed_weight, CONFIG.plain_weight
    # Both are weighted means of the same two halves; together they are the plain mean.
    assert float(at_left + at_right) == pytest.approx(2 * float(plain), rel=1e-4)
    assert high > low
    assert float(at_left) != pytest.approx(float(at_right), rel=1e-3)


def test_training_learns(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])  # it starts as a codec
    (valid,) = [line for line in lines if "valid_psnr" in line]
    assert valid["valid_psnr"] > 10
    assert 1 <= valid["valid_codes_used"] <= 36


def test_the_export_is_a_tokenizer_with_its_record(folder):
    tokenizer = FSQTokenizer.load(folder / "model" / "tokenizer.safetensors")
    assert tokenizer.config == tiny.TOKENIZER
    assert tokenizer.encode(tiny.video(2)).shape == (2, 4, 4)
    record = json.loads((folder / "model" / "tokenizer_training.json").read_text())
    assert (record["steps"], record["config"]["name"]) == (STEPS, "tiny")


def write_videos(folder, levels, count=12):
    """A video of blocks that come and go for each level of brightness, 0 to 2; its folder."""
    folder.mkdir()
    for name, level in zip(NAMES, levels):
        write_mp4(tiny.video(count, seed=level) // 5 + np.uint8(20 + 80 * level), 8, folder / name)
    return str(folder)


def levels(frames):
    """Brightness of frames, as `write_videos` has it."""
    means = np.mean(np.asarray(frames, float), (-3, -2, -1))
    return set(np.round((means - 45) / 80).astype(int).ravel().tolist())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos") / "clips", (0, 1, 2))


def video_task(data, folder, **changes):
    settings = {"pairs": 12, "evaluation_clips": 2, "data": data}
    return TokenizerTask(dataclasses.replace(CONFIG, **(settings | changes)), folder)


def shown(task, folder):
    """What `sample` says, and the brightness of the clips in its upper row."""
    values = task.sample(PARAMS, folder / "sample.png")
    with Image.open(folder / "sample.png") as picture:
        top = np.asarray(picture)[:64]
    return values, levels(np.split(top, top.shape[1] // 64, axis=1))


def test_videos_give_pairs_of_crops_too(videos, tmp_path):
    batch = next(video_task(videos, tmp_path, crop=3).data(range(4)))
    assert (batch["frames"].shape, batch["frames"].dtype) == ((4, 2, 48, 48, 3), np.uint8)
    assert (batch["changed"].shape, batch["changed"].dtype) == ((4, 2, 3, 3), bool)
    assert batch["changed"].any()
    assert not batch["changed"].all()


def test_held_out_videos_are_looked_at_and_not_trained_on(videos, tmp_path):
    (kept,) = (NAMES.index(name) for name in held_out(NAMES, 0.1))
    task = video_task(videos, tmp_path, augment=False)
    data = task.data(range(4))
    trained = set().union(*(levels(next(data)["frames"]) for _ in range(10)))
    assert trained == {0, 1, 2} - {kept}
    assert shown(task, tmp_path)[1] == {kept}


def test_another_source_for_evaluation_leaves_all_videos_to_train_on(videos, tmp_path):
    other = write_videos(tmp_path / "other", (2,))
    task = video_task(videos, tmp_path / "pixels", valid=other, augment=False)
    data = task.data(range(4))
    assert set().union(*(levels(next(data)["frames"]) for _ in range(10))) == {0, 1, 2}
    assert shown(task, tmp_path)[1] == {2}


def test_samples_of_videos_tell_how_stable_ids_are(videos, tmp_path):
    values, _ = shown(video_task(videos, tmp_path), tmp_path)
    for name in ("same_where_still", "same_where_quiet", "changed_where_moved", "quiet_share"):
        assert 0 <= values[name] <= 1
    assert values["moved_share"] > 0
    assert {"psnr", "codes_used"} < set(values)


def test_samples_are_plain_json_even_where_nothing_moves(videos, tmp_path):
    (tmp_path / "still").mkdir()
    write_mp4(np.full((12, 64, 64, 3), 90, np.uint8), 8, tmp_path / "still" / "a.mp4")
    values, _ = shown(video_task(videos, tmp_path, valid=str(tmp_path / "still")), tmp_path)
    assert "changed_where_moved" not in values
    assert values["same_where_equal"] == values["equal_share"] == 1
    assert json.dumps(values, allow_nan=False)


def test_pixels_are_read_once_for_each_source(videos, tmp_path):
    first = next(video_task(videos, tmp_path, augment=False).data(range(4)))["frames"]
    files = sorted(tmp_path.glob("**/*.npy"))
    np.testing.assert_array_equal(
        next(video_task(videos, tmp_path, augment=False).data(range(4)))["frames"], first
    )
    assert sorted(tmp_path.glob("**/*.npy")) == files
    same_names = write_videos(tmp_path / "others", (2, 2, 2))
    assert levels(
        next(video_task(same_names, tmp_path, augment=False).data(range(4)))["frames"]
    ) == {2}
    assert len(files) == 1


def test_of_one_video_the_last_frames_are_looked_at_and_not_trained_on(tmp_path, capfd):
    (tmp_path / "clips").mkdir()
    parts = [
        tiny.video(count) // 5 + np.uint8(20 + 80 * level) for count, level in ((16, 0), (8, 2))
    ]
    write_mp4(np.concatenate(parts), 8, tmp_path / "clips" / "a.mp4")
    task = video_task(str(tmp_path / "clips"), tmp_path, augment=False)
    data = task.data(range(4))
    assert set().union(*(levels(next(data)["frames"]) for _ in range(10))) == {0}
    assert shown(task, tmp_path)[1] == {2}
    assert "is one clip: its last third is held out" in capfd.readouterr().err


def test_half_of_the_pairs_of_few_videos_are_shown_in_other_colors(videos, tmp_path, monkeypatch):
    def unlike(task):
        """Share of examples whose pixels are not those of `plain`."""
        one, other = (t._example for t in (task, plain))
        return np.mean([(one(i)["frames"] != other(i)["frames"]).any() for i in range(40)])

    plain = video_task(videos, tmp_path, augment=False)
    assert 0.25 < unlike(video_task(videos, tmp_path)) < 0.75
    monkeypatch.setattr(module, "_FEW_CLIPS", 2)
    assert unlike(video_task(videos, tmp_path)) == 0


def test_a_dead_tokenizer_is_told_of_and_a_living_one_is_not(videos, tmp_path):
    task = video_task(videos, tmp_path)
    dead = {"autoencoder": jax.tree.map(np.zeros_like, PARAMS["autoencoder"])}
    task.export(dead, tmp_path / "dead", {})
    assert "dead tokenizer" in task.warning(tmp_path / "dead")
    assert "1 of 36 codes in use, perplexity 1 (want 1 and 4)" in task.warning(tmp_path / "dead")
    task.export(task.start, tmp_path / "living", {})
    assert task.warning(tmp_path / "living") == ""
    values, _ = shown(task, tmp_path)
    assert 1 <= values["perplexity"] <= values["codes_used"] <= 36


def test_a_run_taken_up_again_starts_from_its_checkpoint_alone(tmp_path, monkeypatch):
    run = CONFIG.run

    def go(home, steps):
        config = dataclasses.replace(CONFIG, run=dataclasses.replace(run, steps=steps))
        train(TokenizerTask(config, tmp_path), config, home)
        return (home / "model" / "tokenizer.safetensors").read_bytes()

    begun = [go(tmp_path / name, 1) for name in "ab"]
    assert begun[0] == begun[1]
    first = go(tmp_path / "a", 2)
    nothing = lambda config, params, frames: jax.tree.map(np.zeros_like, params)
    monkeypatch.setattr(module, "codec_start", nothing)
    assert go(tmp_path / "b", 2) == first != begun[0]


def test_unreadable_videos_are_left_out_or_stop_it(videos, tmp_path, capfd):
    broken = write_videos(tmp_path / "broken", (0, 1, 2))
    (tmp_path / "broken" / "d.mp4").write_bytes(b"not a video" * 100)
    assert "d.mp4" not in held_out([*NAMES, "d.mp4"], 0.1)
    video_task(broken, tmp_path)
    assert capfd.readouterr().err.count("fv: left out d.mp4: ") == 1
    with pytest.raises(ValueError, match=r"d\.mp4: .*without --strict"):
        video_task(broken, tmp_path / "strict", strict=True)


def test_videos_too_short_to_look_at_say_so(videos, tmp_path, capfd):
    short = write_videos(tmp_path / "short", (0, 1), count=8)
    with pytest.raises(ValueError, match="none of 2 clips for evaluation can be read"):
        video_task(videos, tmp_path, valid=short)
    assert "left out b.mp4: too short: 8 frames of the 9 wanted" in capfd.readouterr().err


def test_a_training_starts_from_an_exported_tokenizer(tmp_path):
    TASK.export(PARAMS, tmp_path, {})
    path = tmp_path / "tokenizer.safetensors"
    task = TokenizerTask(dataclasses.replace(CONFIG, start=str(tmp_path)), tmp_path)
    params = task.start
    expected = FSQTokenizer.load(path)
    frames = tiny.video(2)
    actual = FSQTokenizer(tiny.TOKENIZER, params["autoencoder"])
    np.testing.assert_array_equal(actual.encode(frames), expected.encode(frames))
    # The steps of a run donate their weights: another run may start from the same ones.
    for home in (tmp_path / "one", tmp_path / "two"):
        train(task, dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, steps=1)), home)


def test_weights_to_start_from_keep_their_order_beyond_ten_blocks(tmp_path):
    deep = dataclasses.replace(tiny.TOKENIZER, encoder_depth=12)
    tiny.frames(deep).save(tmp_path / "deep.safetensors")
    config = dataclasses.replace(CONFIG, tokenizer=deep, start=str(tmp_path / "deep.safetensors"))
    task = TokenizerTask(config, tmp_path)
    want, got = tiny.frames(deep).params, task.start["autoencoder"]
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for leaf, expected in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        np.testing.assert_allclose(leaf, expected, rtol=2**-8)  # files hold bfloat16


def test_a_tokenizer_of_another_config_is_no_start(tmp_path):
    tiny.frames().save(tmp_path / "tiny.safetensors")
    other = dataclasses.replace(tiny.TOKENIZER, width=16)
    config = dataclasses.replace(CONFIG, tokenizer=other, start=str(tmp_path / "tiny.safetensors"))
    with pytest.raises(ValueError, match=r"cannot start from .*'width': 12.* instead of .*16"):
        TokenizerTask(config, tmp_path)


def test_the_discriminator_has_weights_where_it_is_used_and_is_not_exported(tmp_path):
    task = TokenizerTask(dataclasses.replace(CONFIG, adversarial_weight=0.1), tmp_path)
    assert set(jax.eval_shape(task.init, jax.random.key(0))) == {"autoencoder", "discriminator"}
    assert set(jax.eval_shape(TASK.init, jax.random.key(0))) == {"autoencoder"}
    task.export(PARAMS | {"discriminator": {"w": np.zeros(3)}}, tmp_path, {"steps": 1})
    assert FSQTokenizer.load(tmp_path / "tokenizer.safetensors").config == tiny.TOKENIZER


def test_the_weights_of_lpips_go_with_every_batch_where_they_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(LPIPS, "load", lambda *files: files)
    config = dataclasses.replace(CONFIG, lpips_weight=1, lpips_trunk="t", lpips_heads="h")
    assert TokenizerTask(config, tmp_path).frozen == {"lpips": ("t", "h")}
    assert TASK.frozen == {}
