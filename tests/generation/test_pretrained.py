"""Model folders: what is saved is what is loaded, and damage is reported by file name."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fv_jax.generation import pretrained

FILES = ("network.safetensors", "tokenizer.safetensors", "text.model")


def save(folder, config=None):
    model = tiny.model()
    config = model.config if config is None else config
    pretrained.save(folder, config, model.params, model.frames, model.text, {"steps": 3})
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def edit_config(folder, **changes):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | changes))


def test_round_trip_keeps_config_tokenizers_and_weights_to_bfloat16(saved):
    model, loaded = tiny.model(), pretrained.load(str(saved))
    assert (loaded.name, loaded.config, loaded.text) == ("tiny", model.config, model.text)
    assert loaded.frames.config == model.frames.config
    assert loaded.frame_size == (64, 64)
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), model.params)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(model.params)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, rounded)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {np.dtype(np.float32)}


def test_a_loaded_model_saved_again_has_the_same_files(saved, tmp_path):
    m = pretrained.load(str(saved))
    pretrained.save(tmp_path, m.config, m.params, m.frames, m.text, {"steps": 3})
    for name in (*FILES, "config.json", "training.json"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_the_record_of_the_training_goes_along(saved):
    assert json.loads((saved / "training.json").read_text()) == {"steps": 3}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        pretrained.load(str(copy))


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_in_half_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        pretrained.load(str(copy))


@pytest.mark.parametrize("name", FILES)
def test_one_wrong_byte_is_found(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        pretrained.load(str(copy))


def test_weights_of_another_config_are_refused_by_name(copy):
    # The checksums are right, the sizes are not.
    wider = dataclasses.replace(tiny.model_config().network, hidden=24)
    edit_config(copy, network=dataclasses.asdict(wider))
    with pytest.raises(ValueError, match=r"network\.safetensors does not fit its config") as caught:
        pretrained.load(str(copy))
    assert "blocks.glu" in str(caught.value)


def test_a_file_of_another_model_is_refused(copy, tmp_path):
    other = save(tmp_path / "other", dataclasses.replace(tiny.model_config(), key_frames=2))
    (other / "network.safetensors").write_bytes(b"x")
    shutil.copy(other / "network.safetensors", copy)
    with pytest.raises(ValueError, match=r"network\.safetensors is damaged or was changed"):
        pretrained.load(str(copy))


@pytest.mark.parametrize(
    "content",
    ["", "no json", "[]", "3", "{}", '{"sha256": {}}', '{"sha256": {}, "wat": 1}', "\x80abc"],
)
def test_a_broken_config_is_refused(copy, content):
    (copy / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"copy/config\.json is no model config"):
        pretrained.load(str(copy))


def test_a_config_with_impossible_sizes_is_refused(copy):
    edit_config(copy, network={"heads": 7})
    with pytest.raises(ValueError, match=r"RetNetConfig\.width must be divisible by heads=7"):
        pretrained.load(str(copy))


def test_an_unknown_model_is_refused_and_the_shipped_ones_are_listed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model named 'shaeps'.*did you mean 'shapes'"):
        pretrained.load("shaeps")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        pretrained.load(str(tmp_path))


def test_config_json_comes_last_so_that_a_stopped_save_is_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_sha256", lambda path: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        save(tmp_path / "m")
    assert not (tmp_path / "m" / "config.json").exists()


@pytest.mark.parametrize("name", pretrained.shipped_models())
def test_shipped_models_load_and_their_parts_fit_together(name):
    model = pretrained.load(name)
    sequence = model.config.sequence
    assert sequence.frame_codes == model.frames.codebook_size
    assert sequence.text_vocabulary == model.text.size
    assert sequence.serial_numbers >= model.config.key_frames
    assert all(n + 2 <= sequence.serial_numbers for _, n in model.config.insertions)
    size = sum(path.stat().st_size for path in (pretrained.SHIPPED / name).iterdir())
    assert size <= 20 * 2**20


def test_the_default_model_is_shipped():
    assert pretrained.DEFAULT in pretrained.shipped_models()


def test_the_structure_of_a_network_is_made_once(saved):
    """Every call of the sampler asks for it."""
    model = pretrained.load(str(saved))
    assert model.graph is pretrained.load(str(saved)).graph
    longer = dataclasses.replace(model.config.network, layers=model.config.network.layers + 1)
    config = dataclasses.replace(model.config, network=longer)
    assert dataclasses.replace(model, config=config).graph != model.graph
