"""The token cache: the encoder's ids, made once, whole or not at all."""

import dataclasses

import numpy as np
import pytest
import tiny

from fv_jax.data import shapes, token_cache
from fv_jax.data.token_cache import ShapesTokens, fingerprint
from fv_jax.tokenizers.fsq import FSQTokenizer


def files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(token_cache, "_SHARD", 3)


def test_holds_captions_and_single_frame_ids_of_every_clip(tmp_path, small_shards):
    tokens = ShapesTokens("valid", 7, tiny.frames(), tmp_path)
    assert (len(tokens), tokens.frames.shape, tokens.frames.dtype) == (7, (7, 17, 16), np.uint16)
    for i in (0, 3, 6):  # in each of the three shards
        caption, ids = tokens[i]
        clip = shapes.clip("valid", i)
        assert caption == clip.caption
        expected = tiny.frames().encode(shapes.render(clip))
        np.testing.assert_array_equal(ids, expected.reshape(17, 16))


def test_a_second_time_reads_what_the_first_one_wrote(tmp_path, small_shards, monkeypatch):
    first = ShapesTokens("train", 4, tiny.frames(), tmp_path)
    monkeypatch.setattr(FSQTokenizer, "encode", None)  # calling it would fail
    second = ShapesTokens("train", 4, tiny.frames(), tmp_path)
    np.testing.assert_array_equal(second.frames, first.frames)


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path, small_shards, monkeypatch):
    encode, calls = FSQTokenizer.encode, []

    def stop_at_the_second_shard(self, frames):
        calls.append(len(frames))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, frames)

    monkeypatch.setattr(FSQTokenizer, "encode", stop_at_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        ShapesTokens("train", 8, tiny.frames(), tmp_path)
    before = files(tmp_path)
    assert len(before) == 1
    ShapesTokens("train", 8, tiny.frames(), tmp_path)
    assert calls == [51, 51, 51, 34]
    assert before.items() <= files(tmp_path).items()


def test_splits_and_tokenizers_do_not_mix(tmp_path):
    same = FSQTokenizer(tiny.TOKENIZER, tiny.frames().params)
    assert fingerprint(same) == fingerprint(tiny.frames())
    rougher = dataclasses.replace(tiny.TOKENIZER, levels=(3, 3, 3))
    shifted = dict(tiny.frames().params)
    shifted["embed"] = {**shifted["embed"], "bias": shifted["embed"]["bias"] + 1}
    prints = {
        fingerprint(tiny.frames()),
        fingerprint(FSQTokenizer(rougher, tiny.frames().params)),
        fingerprint(FSQTokenizer(tiny.TOKENIZER, shifted)),
    }
    assert len(prints) == 3
    ShapesTokens("train", 2, tiny.frames(), tmp_path)
    ShapesTokens("valid", 2, tiny.frames(), tmp_path)
    assert len({path.parent for path in files(tmp_path)}) == 2
