"""Folders of tokens: random access, and refusal of what is not whole."""

import json
import os

import numpy as np
import pytest
import tiny

from fv_jax.config.model import TokenSettings
from fv_jax.data.token_cache import Chosen, Manifest, TokenFolder, shard_path
from fv_jax.data.tokenize import tokenize

SETTINGS = TokenSettings(fps=8.0, size=64, shard_clips=2)
VIDEOS = [tiny.video(3 + i, seed=i) for i in range(5)]


@pytest.fixture
def folder(tmp_path):
    tokenize(tiny.ListSource(VIDEOS), tiny.MeanTokenizer(), tmp_path, SETTINGS)
    return tmp_path


def test_clips_are_read_in_any_order(folder):
    tokens = TokenFolder(folder)
    for i in (4, 0, 3, 3, 1):
        text, ids = tokens.draw(i, np.random.default_rng(0))
        assert (text, ids.shape) == (f"clip {i}", (3 + i, 16))
        np.testing.assert_array_equal(ids, tiny.MeanTokenizer().encode(VIDEOS[i]).reshape(-1, 16))
    assert tokens.texts == [f"clip {i}" for i in range(5)]


def test_a_choice_of_clips_keeps_their_texts_and_ids(folder):
    tokens = TokenFolder(folder)
    chosen = Chosen(tokens, [4, 1])
    assert (len(chosen), chosen.texts) == (2, ["clip 4", "clip 1"])
    text, ids = chosen.draw(0, np.random.default_rng(0))
    assert text == "clip 4"
    np.testing.assert_array_equal(ids, tokens[4][1])


def test_the_manifest_comes_back_as_it_was_written(folder):
    manifest = Manifest.read(folder)
    manifest.write(folder)
    assert Manifest.read(folder) == manifest
    assert manifest.complete


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="fv tokenize SOURCE --out"):
        TokenFolder(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 3}', '{"source": "x"}'])
def test_another_json_file_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="no manifest of tokens"):
        TokenFolder(tmp_path)


def test_another_format_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "fv-jax tokens 9"}))
    with pytest.raises(ValueError, match="has format 'fv-jax tokens 9', want 'fv-jax tokens 1'"):
        TokenFolder(folder)


def test_a_missing_shard_is_named(folder):
    shard_path(folder, 1).unlink()
    with pytest.raises(FileNotFoundError, match=r"00001\.array_record is missing"):
        TokenFolder(folder)


def test_a_shard_of_another_folder_is_noticed(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    tokenize(tiny.ListSource(VIDEOS[:1]), tiny.MeanTokenizer(), other, SETTINGS)
    shard_path(folder, 1).write_bytes(shard_path(other, 0).read_bytes())
    with pytest.raises(ValueError, match="holds 4 clips, its manifest says 5"):
        TokenFolder(folder)


def test_a_truncated_shard_is_refused(folder):
    path = shard_path(folder, 0)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        TokenFolder(folder)


def test_no_file_stays_open_however_many_shards_there_are(folder):
    tokens = TokenFolder(folder)
    before = len(os.listdir("/proc/self/fd"))
    for i in range(len(tokens)):
        tokens[i]
    assert len(os.listdir("/proc/self/fd")) == before
