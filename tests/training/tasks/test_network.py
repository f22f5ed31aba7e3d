"""Training the network: from clips to a model folder that generates."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig
from fv_jax.data.rows import kinds
from fv_jax.generation.generator import Generator
from fv_jax.sequence.packing import unpack
from fv_jax.sequence.vocab import Vocab
from fv_jax.training.loop import train
from fv_jax.training.mesh import make_layout, place_batch
from fv_jax.training.program import build_program
from fv_jax.training.tasks import network_data
from fv_jax.training.tasks.network import network_task

STEPS = 60
NETWORK = dataclasses.replace(tiny.NETWORK, layers=1)  # half the time to compile


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.safetensors"
    tiny.frames().save(path)
    return NetworkExperiment(
        "tiny",
        tokenizer=str(path),
        model=NETWORK,
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5),
        run=RunConfig(
            steps=STEPS, batch_size=4, log_every=1, sample_every=STEPS, checkpoint_every=STEPS
        ),
        text_tokens=9,
        serial_numbers=5,
        key_frames=3,
        insertions=((4, 3),),
        data="shapes,split=train,count=6",
        valid="shapes,split=valid,count=4",
    )


@pytest.fixture(scope="module")
def task(config, tmp_path_factory):
    return network_task(config, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def folder(task, config, tmp_path_factory):
    """A finished run's folder."""
    home = tmp_path_factory.mktemp("run")
    assert train(task, config, home) == home / "model"
    return home


def test_batches_are_rows_of_the_tasks_sequence(task):
    batch = next(task.data(range(4)))
    assert batch["tokens"].shape == (4, 5 * task.sequence.stride)
    assert batch["weight"].shape == (4, 5)
    assert task.tokens_per_step == batch["tokens"].size
    used = batch["tokens"][:1, : 3 * task.sequence.stride]
    assert unpack(used, task.sequence)[1][0] == 1


def test_training_learns(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == STEPS
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    (valid,) = [line for line in lines if "valid_loss" in line]
    assert valid["valid_loss"] < losses[0]
    assert 0 < valid["valid_accuracy"] <= 1


def test_the_exported_model_generates_with_the_options_it_was_trained_for(folder, config):
    generator = Generator.load(str(folder / "model"))
    made = generator.model.config
    network = dataclasses.replace(NETWORK, slots=26, code_levels=(4, 3, 3))
    assert (made.network, made.key_frames, made.insertions) == (network, 3, ((4, 3),))
    assert (made.key_frame_fps, made.key_frame_stride) == (2.0, 4)
    (clip,) = generator.generate(tiny.PROMPTS[:1])
    assert clip.frames.shape == (9, 64, 64, 3)
    record = json.loads((folder / "model" / "training.json").read_text())
    assert record["steps"] == STEPS
    assert record["config"]["name"] == config.name


@pytest.fixture(scope="module")
def skipping(config, tmp_path_factory):
    """Settings of a network that is trained on several gaps, and to do without stable ids."""
    more = dict(
        insertions=((4, 3), (2, 1), (8, 1)), gaps=(2, 4, 8), skip=(1.0, 0.5), workers=0,
        run=dataclasses.replace(
            config.run, steps=24, batch_size=2, sample_every=24, checkpoint_every=8,
            keep_checkpoints=3,
        ),
    )  # fmt: skip
    return dataclasses.replace(config, **more)


@pytest.fixture(scope="module")
def whole_run(skipping, tmp_path_factory):
    home = tmp_path_factory.mktemp("skipping")
    train(network_task(skipping, home / "tokens"), skipping, home / "run")
    return home / "run"


def losses(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_network_learns_to_do_without_stable_ids_and_says_so(whole_run, skipping):
    made = Generator.load(str(whole_run / "model")).model.config
    assert (made.skip, made.sequence.gaps, made.insertions) == (2, (2, 4, 8), skipping.insertions)
    # More may be inherited in shorter gaps: less happens there.
    gaps, shares = zip(*made.inherit)
    assert gaps == (2, 4, 8)
    assert 1 >= shares[0] >= shares[1] >= shares[2] > 0
    (valid,) = [
        line for line in map(json.loads, (whole_run / "log.jsonl").read_text().splitlines())
        if "valid_loss" in line
    ]  # fmt: skip
    assert 0 < valid["valid_loss"] < 4
    seen = losses(whole_run)
    assert np.mean([seen[step] for step in range(17, 25)]) < np.mean([seen[s] for s in range(1, 9)])


def test_a_run_of_batches_of_several_lengths_is_taken_up_where_it_was(
    whole_run, skipping, tmp_path
):
    again = tmp_path / "run"
    shutil.copytree(whole_run, again)
    for later in (16, 24):
        shutil.rmtree(again / "checkpoints" / str(later))
    train(network_task(skipping, tmp_path / "tokens"), skipping, again)
    assert len(losses(again)) == 24
    assert losses(again) == losses(whole_run)


def test_a_step_is_compiled_once_for_every_length(skipping, tmp_path):
    task = network_task(skipping, tmp_path)
    layout = make_layout(skipping.run.mesh, jax.devices()[:1])
    program, data = build_program(task, skipping.run, skipping.optimizer, layout), task.data([0, 1])
    state, shapes = program.begin(0, None), set()
    for _ in range(60):
        batch = next(data)
        shapes.add(tuple((name, value.shape) for name, value in batch.items()))
        state, _ = program.step(state, place_batch(layout, batch, [0, 1], 2), {})
    # Key frames, and one and three inserted frames of two lengths each.
    assert len(shapes) == len(kinds(skipping, task.sequence)) == 5
    assert program.step._cache_size() == 5


def test_samples_are_pictures(folder):
    (picture,) = (folder / "samples").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_slot_and_level_embeddings_can_be_left_out(config, tmp_path):
    bare = dataclasses.replace(config, slot_embeddings=False, level_embeddings=False)
    network = network_task(bare, tmp_path).network
    assert (network.slots, network.code_levels) == (0, ())


def test_text_slots_follow_from_the_longest_text_where_they_are_not_given(config, tmp_path):
    task = network_task(dataclasses.replace(config, text_tokens=0), tmp_path)
    assert task.sequence.text_tokens == len(tiny.PROMPTS[0].split()) == 8


def test_a_text_that_is_too_long_is_refused_before_training(config, tmp_path):
    with pytest.raises(ValueError, match=r"'a .* moves .*' has 8 tokens; give --text-tokens 8 or"):
        network_task(dataclasses.replace(config, text_tokens=7), tmp_path)


def test_a_text_model_may_be_given(config, tmp_path):
    path = tmp_path / "text.model"
    path.write_bytes(tiny.text().model)
    task = network_task(dataclasses.replace(config, text=str(path)), tmp_path / "tokens")
    assert task.text == tiny.text()


def test_a_new_training_reads_words_as_the_model_it_starts_from(folder, config, tmp_path):
    other = dataclasses.replace(
        config, start=str(folder / "model"), data="shapes,split=test,count=3"
    )
    task = network_task(other, tmp_path)
    assert task.text == Generator.load(str(folder / "model")).model.text


def test_a_memory_shorter_than_two_blocks_is_warned_of(config, tmp_path):
    short = dataclasses.replace(tiny.NETWORK, memory_tokens=(2.0, 51.0))
    with pytest.warns(UserWarning, match="halves every 51 tokens, less than two blocks of 26"):
        network_task(dataclasses.replace(config, model=short), tmp_path)


def test_an_unknown_tokenizer_is_refused(config, tmp_path):
    wrong = dataclasses.replace(config, tokenizer="nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer 'nowhere\.safetensors'"):
        network_task(wrong, tmp_path)


def test_a_training_starts_from_the_weights_of_a_model(folder, config, tmp_path):
    images = dataclasses.replace(config, start=str(folder / "model"), key_frames=1, insertions=())
    task = network_task(images, tmp_path)
    assert next(task.data(range(4)))["tokens"].shape == (4, task.sequence.stride)
    started = task.start
    wanted = Generator.load(str(folder / "model")).model.params
    assert jax.tree.all(jax.tree.map(np.array_equal, started, wanted))


def test_a_training_whose_blocks_name_gaps_starts_from_a_model_whose_blocks_do_not(
    folder, config, tmp_path
):
    gaps = dataclasses.replace(config, start=str(folder / "model"), text_tokens=8, gaps=(2, 4))
    task = network_task(gaps, tmp_path)
    vocab, before = Vocab(task.sequence), Generator.load(str(folder / "model")).model
    assert task.sequence.stride == before.config.sequence.stride
    embedding, old = task.start["embedding"], before.params["embedding"]
    rows = range(vocab.gap_start, vocab.frame_start)
    np.testing.assert_array_equal(np.delete(embedding, rows, axis=0), old)
    serials = old[vocab.serial_start : vocab.gap_start]
    np.testing.assert_array_equal(embedding[vocab.gap(4)], serials.mean(0))
    np.testing.assert_array_equal(task.start["head"], before.params["head"])


def test_a_training_whose_network_reads_ids_nearby_starts_from_one_that_does_not(
    folder, config, tmp_path
):
    model = dataclasses.replace(config.model, nearby=3)
    task = network_task(
        dataclasses.replace(config, start=str(folder / "model"), model=model), tmp_path
    )
    before = Generator.load(str(folder / "model")).model.params
    started = dict(task.start)
    assert not started.pop("nearby")["pointer"].any()
    assert jax.tree.all(jax.tree.map(np.array_equal, started, before))
    batch = jax.tree.map(jnp.asarray, next(task.data(range(4))))
    loss, _ = task.loss(task.start, batch, jax.random.key(0))
    plain = network_task(dataclasses.replace(config, start=str(folder / "model")), tmp_path)
    del batch["nearby"]
    assert loss == pytest.approx(float(plain.loss(before, batch, jax.random.key(0))[0]), rel=1e-6)


@pytest.fixture(scope="module")
def changing(folder, config):
    """Settings of a network of changes that starts from one of all ids."""
    return dataclasses.replace(
        config, start=str(folder / "model"), changes=True, skip=(0.5,),
        model=dataclasses.replace(config.model, nearby=3),
        run=dataclasses.replace(
            config.run, steps=16, batch_size=2, sample_every=16, checkpoint_every=8,
        ),
    )  # fmt: skip


def test_a_training_of_changes_starts_from_a_model_of_all_ids(folder, changing, tmp_path):
    task = network_task(changing, tmp_path)
    before = Generator.load(str(folder / "model")).model.params
    started = dict(task.start)
    assert task.network.places == task.sequence.frame_tokens
    assert not started.pop("nearby")["pointer"].any()
    assert not started.pop("places")["place"].any()
    assert jax.tree.all(jax.tree.map(np.array_equal, started, before))
    shapes = {name: tuple(x.shape[1:]) for name, x in task.batch_shapes().items()}
    batches, found = task.data(range(2)), []
    for _ in range(20):
        found.append({name: x.shape[1:] for name, x in next(batches).items()})
    assert max(found, key=lambda shape: shape["tokens"]) == shapes


def test_a_training_of_changes_learns_makes_videos_and_is_taken_up_where_it_was(changing, tmp_path):
    home, again = tmp_path / "run", tmp_path / "again"
    train(network_task(changing, tmp_path / "tokens"), changing, home)
    shutil.copytree(home, again)
    shutil.rmtree(again / "checkpoints" / "16")
    train(network_task(changing, tmp_path / "tokens"), changing, again)
    seen = losses(home)
    assert losses(again) == seen
    assert len(seen) == 16
    assert np.mean([seen[s] for s in range(9, 17)]) < np.mean([seen[s] for s in range(1, 9)])
    generator = Generator.load(str(home / "model"))
    assert generator.model.config.skip == 0
    (clip,) = generator.generate(tiny.PROMPTS[:1])
    assert clip.frames.shape == (9, 64, 64, 3)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ({"skip": ()}, r"changes needs skip.* and model.nearby .*, got \(\) and 3"),
        ({"model": NETWORK}, "changes needs skip.*, got .* and 0"),
        ({"key_frames": 1}, "changes needs key_frames above 1"),
        ({"skip_given": True}, "skip_given has no meaning with changes"),
    ],
)
def test_what_changes_cannot_do_without_is_said(changing, without, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(changing, **without)


@pytest.fixture
def unread(monkeypatch):
    """No source may be opened, nor tokens."""

    def opened(*args, **more):
        raise AssertionError("data was opened")

    monkeypatch.setattr(network_data, "open_source", opened)
    monkeypatch.setattr(network_data, "open_split", opened)
    monkeypatch.setattr(network_data, "TokenFolder", opened)


@pytest.mark.usefixtures("unread")
def test_a_start_that_is_not_there_says_what_to_do_before_any_clip_is_read(config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train it first .* --start ''"):
        network_task(dataclasses.replace(config, start="nowhere/model"), tmp_path)


@pytest.mark.usefixtures("unread")
def test_a_damaged_start_is_refused_before_any_clip_is_read(folder, config, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    weights = tmp_path / "model" / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="its checksum is not the one in config"):
        network_task(dataclasses.replace(config, start=str(tmp_path / "model")), tmp_path)


def test_the_record_of_a_model_holds_that_of_its_start(folder, config, tmp_path):
    again = dataclasses.replace(config, start=str(folder / "model"))
    task = network_task(again, tmp_path / "tokens")
    task.export(task.init(jax.random.key(0)), tmp_path / "model", {"steps": 0})
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert (record["steps"], record["start"]["steps"]) == (0, STEPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": dataclasses.replace(NETWORK, hidden=24)}, "network has hidden 20 instead of 24"),
        ({"serial_numbers": 6}, "sequence has serial_numbers 5 instead of 6"),
        ({"text_tokens": 10}, "network has slots 26 instead of 27"),
        ({"level_embeddings": False}, r"network has code_levels \(4, 3, 3\) instead of \(\)"),
        ({"live": True, "size": 32}, "network has slots 26 instead of 14"),
    ],
)
@pytest.mark.usefixtures("unread")
def test_a_start_that_does_not_fit_is_refused_before_any_clip_is_read(
    folder, config, tmp_path, change, message
):
    other = dataclasses.replace(config, start=str(folder / "model"), **change)
    with pytest.raises(ValueError, match=message):
        network_task(other, tmp_path)


def test_a_start_with_other_text_slots_than_the_longest_text_needs_is_refused(
    folder, config, tmp_path
):
    other = dataclasses.replace(config, start=str(folder / "model"), text_tokens=0)
    with pytest.raises(ValueError, match="network has slots 26 instead of 25"):
        network_task(other, tmp_path)
