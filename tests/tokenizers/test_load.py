"""A tokenizer by name or file."""

import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import tiny
import tiny_icetk

import fv_jax.tokenizers
from fv_jax.generation import pretrained
from fv_jax.tokenizers import FSQTokenizer, IceTokenizer, load_tokenizer
from fv_jax.tokenizers.load import TOKENIZERS


def test_importing_the_package_does_not_import_jax():
    code = "import sys, fv_jax.tokenizers; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'VQTokenizer'"):
        fv_jax.tokenizers.VQTokenizer  # noqa: B018


def test_a_shipped_model_s_name_gives_its_tokenizer():
    tokenizer = load_tokenizer("shapes")
    assert isinstance(tokenizer, FSQTokenizer)
    assert tokenizer.fingerprint() == pretrained.load("shapes").frames.fingerprint()


def test_a_saved_tokenizer_is_of_the_kind_that_its_header_says(tmp_path):
    tiny.frames().save(tmp_path / "fsq.safetensors")
    tiny_icetk.tokenizer().save(tmp_path / "ice.safetensors")
    fsq = load_tokenizer(str(tmp_path / "fsq.safetensors"))
    assert isinstance(fsq, FSQTokenizer)
    assert fsq.config == tiny.TOKENIZER
    for name in (f"{tmp_path}/ice.safetensors", f"icetk:{tmp_path}/ice.safetensors"):
        ice = load_tokenizer(name)
        assert isinstance(ice, IceTokenizer)
        assert ice.fingerprint() == tiny_icetk.tokenizer().fingerprint()
        assert ice.text is None


def test_icetks_files_are_found_by_path_or_folder(tmp_path, monkeypatch):
    calls = []

    def record(weights, config=None, text_model=None):
        calls.append((weights, text_model))
        return tiny_icetk.tokenizer()

    monkeypatch.setattr(IceTokenizer, "load", record)
    weights, text = tmp_path / "ice_image.pt", tmp_path / "ice_text.model"
    weights.touch()
    for name in (str(weights), f"icetk:{weights}", f"icetk:{tmp_path}"):
        assert load_tokenizer(name) is tiny_icetk.tokenizer()
    text.touch()
    load_tokenizer(str(weights))
    assert calls == [(weights, None)] * 3 + [(weights, text)]
    monkeypatch.setenv("HOME", str(tmp_path))
    load_tokenizer("icetk:~")
    assert calls[-1] == (weights, text)


def test_names_of_nothing_list_what_is_possible(tmp_path):
    for name in ("shape", str(tmp_path / "no.safetensors"), "ice_image.pt"):
        with pytest.raises(FileNotFoundError, match=r"shipped model \(.*shapes.*icetk:PATH") as e:
            load_tokenizer(name)
        assert name in str(e.value)
    with pytest.raises(FileNotFoundError, match=r"\.icetk_models"):
        load_tokenizer(f"icetk:{tmp_path}")


def test_files_of_something_else_are_refused(tmp_path):
    other, text, broken = (tmp_path / n for n in ("other.safetensors", "a.npz", "b.safetensors"))
    safetensors.numpy.save_file({"a": np.zeros(3)}, other)
    text.touch()
    broken.write_bytes(b"<html>")
    for path, message in (
        (other, "its header has no entry 'tokenizer' or 'codebook' or 'icetk'.*icetk:PATH"),
        (text, r"must be .safetensors or .pt or .pth, got .*a.npz"),
        (broken, "b.safetensors is damaged or no safetensors file"),
    ):
        with pytest.raises(ValueError, match=message):
            load_tokenizer(str(path))


def test_a_kind_from_outside_is_found_by_its_name_its_suffix_and_its_header(tmp_path, monkeypatch):
    class Other(tiny.MeanTokenizer):
        header_key, suffixes, file_name = "other", (".means",), "usual.means"

        @classmethod
        def from_file(cls, path):
            return cls(path.name)

    monkeypatch.setattr(TOKENIZERS, "_things", {**TOKENIZERS._things, "other": Other})
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "a.safetensors", {"other": ""})
    (tmp_path / "b.means").touch()
    for name, file in (
        ("other:no/such/file", "file"),
        (f"other:{tmp_path}", "usual.means"),
        (f"{tmp_path}/b.means", "b.means"),
        (f"{tmp_path}/a.safetensors", "a.safetensors"),
    ):
        tokenizer = load_tokenizer(name)
        assert isinstance(tokenizer, Other)
        assert tokenizer.name == file
    with pytest.raises(FileNotFoundError, match="icetk:PATH or other:PATH"):
        load_tokenizer("another")
