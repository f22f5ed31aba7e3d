"""Decoding frames as what changed: the step agrees with the parallel form, in any batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import Options
from fv_jax.generation.changes import _WHETHER
from fv_jax.generation.engine import BETWEEN, KEY_FRAMES, Engine
from fv_jax.generation.generator import Generator
from fv_jax.generation.policies import Sampling, gumbel, position_words
from fv_jax.generation.sampler import start
from fv_jax.models.places import change_logits
from fv_jax.sequence.changes import unchanged
from fv_jax.sequence.nearby import codes_nearby, neighbors
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, pack, pad_text
from fv_jax.sequence.skipping import compact
from fv_jax.sequence.vocab import Vocab

MODEL = tiny.model_of_changes()
PLAIN = Options(guidance=1.0, insert=0)


@pytest.fixture(scope="module")
def maker():
    """A generator of the model of changes."""
    return Generator(MODEL, Engine(MODEL, tiny.STEP_TIME))


def chosen_again(model, text, frames, serials, gap, key, policy, given=0):
    """What the parallel form chooses for every event of a video, and what the video has.

    The first are places and ids as the sampler would draw them from the parallel form's scores
    with the same noise; ids are -1 where a place is not a change.
    """
    s, network = model.config.sequence, nnx.merge(model.graph, model.params)
    vocab, tables = Vocab(s), network.tables()
    tokens = pack(text[None], frames[None].astype(np.int32), serials, s, gap)
    row = compact(tokens, unchanged(tokens, serials, s), tokens.shape[1])
    length, following = int(row.length[0]), row.positions[0, 1:]
    known = np.pad(neighbors(serials, s, changes=True), ((0, 1), (0, 0)), constant_values=-1)
    nearby = codes_nearby(
        tokens[0], known[np.minimum(following, tokens.shape[1])], vocab.frame_start
    )[None]
    nearby, positions = jnp.asarray(nearby), jnp.asarray(row.positions)
    x, _ = network.chunkwise(
        jnp.asarray(row.tokens), network.init_state(1), jnp.asarray(row.length), positions, nearby
    )
    logits = network.logits(x, nearby)[0]
    words = position_words(key, positions[:, 1:])
    ids = policy(logits, gumbel(words, logits.shape[-1])[0])
    before = neighbors(serials, s).reshape(len(serials), s.stride, -1)[:, s.header :]
    around = codes_nearby(tokens[0], before, vocab.frame_start)
    every = position_words(
        jax.vmap(lambda k: jax.random.fold_in(k, _WHETHER))(key), jnp.arange(tokens.shape[1])[None]
    )
    whether = gumbel(every, 2)[0].reshape(len(serials), s.stride, 2)[:, s.header :]
    found, wanted = [], []
    for t in range(length - 1):
        block, slot = divmod(int(following[t]), s.stride)
        if block < given or slot < s.header - 1:
            continue
        if slot >= s.header:
            found.append(int(ids[t]))
            wanted.append(int(row.tokens[0, t + 1]) - vocab.frame_start)
        if not block:
            continue
        here = slot - s.header
        embedded = tables.embedding[row.tokens[0, t + 1]]
        scores, query = tables.places.after(x[0, t], embedded)
        keys = tables.places.keys(tables.nearby, jnp.asarray(around[block]))
        odds = change_logits(tables.places.beyond(scores, keys @ query, jnp.asarray(here)))
        goes = policy(jnp.stack([jnp.zeros_like(odds), odds], -1), whether[block]) == 1
        goes &= np.arange(s.frame_tokens) > here
        found.append(int(goes.argmax()) if goes.any() else s.frame_tokens)
        inside = t + 2 < length and int(row.positions[0, t + 2]) // s.stride == block
        wanted.append(
            int(row.positions[0, t + 2]) % s.stride - s.header if inside else s.frame_tokens
        )
    return found, wanted


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_key_frames_are_what_the_parallel_form_chooses(maker, temperature):
    options = dataclasses.replace(PLAIN, temperature=temperature)
    (clip,) = maker.generate(tiny.PROMPTS[:1], seed=5, options=options)
    frames = clip.ids.reshape(len(clip.ids), -1)
    key = start(nnx.merge(MODEL.graph, MODEL.params), maker.engine.sampler(Sampling(), 1), [
        (5, KEY_FRAMES)
    ]).keys  # fmt: skip
    text = pad_text(MODEL.text.encode(tiny.PROMPTS[0]), MODEL.config.sequence)
    found, wanted = chosen_again(
        MODEL, text, frames, key_frame_serials(len(frames)), 0, key, Sampling(temperature)
    )
    assert found == wanted
    assert len(found) > len(frames[0]) + len(frames)  # some ids did change


def test_inserted_frames_are_what_the_parallel_form_chooses(maker):
    options = Options(insert=3, inherit=0.0, insert_temperature=1.0)
    clip = maker.interpolate(tiny.video(2), seed=6, options=options)
    frames = clip.ids.reshape(5, -1)[[0, 4, 1, 2, 3]]
    serials = interpolation_serials(3)
    key = start(nnx.merge(MODEL.graph, MODEL.params), maker.engine.sampler(Sampling(), 1), [
        (6, BETWEEN, 0, 0)
    ]).keys  # fmt: skip
    text = pad_text([], MODEL.config.sequence)
    found, wanted = chosen_again(MODEL, text, frames, serials, 0, key, Sampling(1.0), given=2)
    assert found == wanted
    assert len(found) > 4
