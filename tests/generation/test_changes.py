"""Decoding frames as what changed: the step agrees with the parallel form, in any batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import Options
from fv_jax.generation import exported
from fv_jax.generation.changes import (
    _WHETHER,
    Blocks,
    changes_next,
    decode_blocks,
    decode_changes,
    stays_likelier,
)
from fv_jax.generation.engine import BETWEEN, KEY_FRAMES, Engine
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import plan_videos
from fv_jax.generation.policies import Sampling, gumbel, position_words
from fv_jax.generation.sampler import Feed, Sampler, start
from fv_jax.generation.stats import Stats
from fv_jax.sequence.changes import unchanged
from fv_jax.sequence.nearby import codes_nearby, neighbors
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, pack, pad_text
from fv_jax.sequence.skipping import compact
from fv_jax.sequence.vocab import FREE, Vocab

MODEL = tiny.model_of_changes()
PLAIN = Options(guidance=1.0, insert=0)


@pytest.fixture(scope="module")
def maker():
    """A generator of the model of changes."""
    return Generator(MODEL, Engine(MODEL, tiny.STEP_TIME))


def padded(places):
    """Also of what stands behind the last block: nothing."""
    return np.pad(places, ((0, 1), (0, 0)), constant_values=-1)


def chosen_again(model, text, frames, serials, gap, key, policy, given=0):
    """What the parallel form chooses for every event of a video, and what the video has.

    The first are places and ids as the sampler would draw them from the parallel form's scores
    with the same noise. Third, the places that stay since no id is as likely.
    """
    s, network = model.config.sequence, nnx.merge(model.graph, model.params)
    vocab, tables = Vocab(s), network.tables()
    tokens = pack(text[None], frames[None].astype(np.int32), serials, s, gap)
    row = compact(tokens, unchanged(tokens, serials, s), tokens.shape[1])
    length, following = int(row.length[0]), row.positions[0, 1:]
    known = np.pad(
        neighbors(serials, s, changes=True, decided=True), ((0, 1), (0, 0)), constant_values=-1
    )
    nearby = codes_nearby(
        tokens[0], known[np.minimum(following, tokens.shape[1])], vocab.frame_start
    )[None]
    length_of = lambda count: jnp.full((1,), count, jnp.int32)
    tokens_of_row = jnp.asarray(row.tokens)

    @jax.jit
    def read(positions, nearby, count):
        begin = network.init_state(1)
        return network.chunkwise(tokens_of_row, begin, length_of(count), positions, nearby)[0]

    def stays(t, place, odds):
        """Whether a place that may change after token t + 1 does not, by its likeliest id."""
        at, positions, told = block * s.stride + s.header + place, row.positions.copy(), nearby
        positions[0, t + 2] = at
        around_it = codes_nearby(tokens[0], known[at], vocab.frame_start)
        told = told.at[0, t + 1].set(around_it)
        x = read(jnp.asarray(positions), told, t + 2)
        stays = stays_likelier(policy, jnp.asarray(odds), network.logits(x, told)[0, t + 1])
        if stays is None or not stays:
            return False
        stayed.append(at)
        return True

    nearby, positions = jnp.asarray(nearby), jnp.asarray(row.positions)
    x = read(positions, nearby, length)
    logits = network.logits(x, nearby)[0]
    words = position_words(key, positions[:, 1:])
    ids = policy(logits, gumbel(words, logits.shape[-1])[0])
    before = neighbors(serials, s, changes=True).reshape(len(serials), s.stride, -1)[:, s.header :]
    around = codes_nearby(tokens[0], before, vocab.frame_start)
    every = position_words(
        jax.vmap(lambda k: jax.random.fold_in(k, _WHETHER))(key), jnp.arange(tokens.shape[1])[None]
    )
    whether = gumbel(every, 2)[0].reshape(len(serials), s.stride, 2)[:, s.header :]
    found, wanted, stayed = [], [], []
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
        scores = tables.places.beyond(scores, keys @ query, jnp.asarray(here))
        odds = np.asarray(changes_next(policy, scores, whether[block]))
        places = [p for p in np.flatnonzero(odds > -np.inf) if p > here]
        changing = (p for p in places if not stays(t, p, odds[p]))
        found.append(int(next(changing, s.frame_tokens)))
        inside = t + 2 < length and int(row.positions[0, t + 2]) // s.stride == block
        wanted.append(
            int(row.positions[0, t + 2]) % s.stride - s.header if inside else s.frame_tokens
        )
    return found, wanted, stayed


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_key_frames_are_what_the_parallel_form_chooses(maker, temperature):
    options, model = dataclasses.replace(PLAIN, temperature=temperature), MODEL
    if not temperature:  # ids that are likelier than none, else nothing would change
        sharper = {name: 3 * MODEL.params[name] for name in ("head", "level_head")}
        model = dataclasses.replace(MODEL, params={**MODEL.params, **sharper})
        maker = Generator(model, Engine(model, tiny.STEP_TIME))
    (clip,) = maker.generate(tiny.PROMPTS[:1], seed=5, options=options)
    frames = clip.ids.reshape(len(clip.ids), -1)
    key = start(nnx.merge(MODEL.graph, MODEL.params), maker.engine.sampler(Sampling(), 1), [
        (5, KEY_FRAMES)
    ]).keys  # fmt: skip
    text = pad_text(MODEL.text.encode(tiny.PROMPTS[0]), MODEL.config.sequence)
    found, wanted, stayed = chosen_again(
        model, text, frames, key_frame_serials(len(frames)), 0, key, Sampling(temperature)
    )
    assert found == wanted
    assert len(found) > len(frames[0]) + len(frames)  # some ids did change
    assert bool(stayed) == (temperature == 0)


def test_inserted_frames_are_what_the_parallel_form_chooses(maker):
    options = Options(insert=3, inherit=0.0, insert_temperature=1.0)
    clip = maker.interpolate(tiny.video(2), seed=6, options=options)
    frames = clip.ids.reshape(5, -1)[[0, 4, 1, 2, 3]]
    serials = interpolation_serials(3)
    key = start(nnx.merge(MODEL.graph, MODEL.params), maker.engine.sampler(Sampling(), 1), [
        (6, BETWEEN, 0, 0)
    ]).keys  # fmt: skip
    text = pad_text([], MODEL.config.sequence)
    found, wanted, _ = chosen_again(MODEL, text, frames, serials, 0, key, Sampling(1.0), given=2)
    assert found == wanted
    assert len(found) > 4


def test_levels_of_named_gaps_are_what_the_parallel_form_chooses():
    """A frame in the middle, then one on each side of it; each gap by its own length."""
    config = MODEL.config
    config = dataclasses.replace(
        config, sequence=dataclasses.replace(config.sequence, gaps=(2, 4)),
        insertions=((4, 1), (2, 1)),
    )  # fmt: skip
    slots = dataclasses.replace(config.network, slots=config.sequence.stride)
    model = tiny.model_of(dataclasses.replace(config, network=slots))
    maker = Generator(model, Engine(model, tiny.STEP_TIME))
    options = Options(insert=(1, 1), inherit=0.0, insert_temperature=1.0)
    clip = maker.interpolate(tiny.video(2), seed=6, options=options)
    frames, text = clip.ids.reshape(5, -1), pad_text([], config.sequence)
    sampler = maker.engine.sampler(Sampling(), 1)
    for gap, level, number, order in (
        (4, 0, 0, [0, 4, 2]),
        (2, 1, 0, [0, 2, 1]),
        (2, 1, 1, [2, 4, 3]),
    ):
        key = maker.engine.start(sampler, [(6, BETWEEN, level, number)]).keys
        found, wanted, _ = chosen_again(
            model, text, frames[order], interpolation_serials(1), gap, key, Sampling(1.0), given=2
        )
        assert found == wanted
        assert found


def test_in_bfloat16_the_seed_decides_where_float32_is_asked_for():
    network = dataclasses.replace(MODEL.config.network, matmul_dtype="bfloat16")
    low = dataclasses.replace(MODEL, config=dataclasses.replace(MODEL.config, network=network))
    in_float32, in_bfloat16 = (
        Generator(model, Engine(model, tiny.STEP_TIME)).generate(
            tiny.PROMPTS, seed=3, options=Options(float32=True)
        )
        for model in (MODEL, low)
    )
    for want, got in zip(in_float32, in_bfloat16):
        np.testing.assert_array_equal(got.ids, want.ids)
    maker = Generator(low, Engine(low, tiny.STEP_TIME))
    (rough,) = maker.generate(tiny.PROMPTS[:1], seed=3, first_frames=tiny.video(1), options=PLAIN)
    (again,) = maker.generate(tiny.PROMPTS[:1], seed=3, first_frames=tiny.video(1), options=PLAIN)
    np.testing.assert_array_equal(rough.ids, again.ids)
    assert (rough.ids[1] != rough.ids[0]).any()


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_seed_alone_decides_whatever_the_batch(maker, guidance):
    options = Options(guidance=guidance, inherit=0.5)
    clips = maker.generate([*tiny.PROMPTS, tiny.PROMPTS[0]], seed=[3, 4, 5], options=options)
    for index in (1, 2):
        prompt = [*tiny.PROMPTS, tiny.PROMPTS[0]][index]
        (alone,) = maker.generate([prompt], seed=3 + index, options=options)
        np.testing.assert_array_equal(alone.ids, clips[index].ids)
    assert (clips[0].ids != clips[2].ids).any()


def test_guidance_moves_ids_and_places(maker):
    """After the same first frame, which is given."""
    first, second = (
        np.stack([
            clip.ids for clip in maker.generate(
                tiny.PROMPTS[:1] * 8, options=dataclasses.replace(PLAIN, guidance=g),
                first_frames=tiny.video(1),
            )
        ])
        for g in (1.0, 6.0)
    )  # fmt: skip
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    changed = [ids[:, 1] != ids[:, 0] for ids in (first, second)]
    assert (changed[0] != changed[1]).any()
    both = changed[0] & changed[1]
    assert (first[:, 1] != second[:, 1])[both].any()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_step_does_not_copy_the_state(maker, temperature):
    s = MODEL.config.sequence
    sampler = Sampler(s, Sampling(temperature))
    state = maker.engine.start(sampler, [(0,), (1,)])
    tokens = np.full((2, 3 * s.stride), FREE, np.int32)
    compiled = decode_blocks.lower(
        MODEL.params, state, tokens, Blocks.of(range(3), s), None, np.int32(1), np.int32(3),
        graph=MODEL.graph, sampler=sampler,
    ).compile()  # fmt: skip
    assert tiny.copies_in_loops(compiled.as_text(), state.net.retention.shape[1:]) == 0


@pytest.mark.parametrize("buffer", [12, 20])
def test_a_buffer_of_recent_tokens_changes_nothing(buffer):
    """It is full in the middle of a frame, and the next header needs more room than a change."""
    s, network = MODEL.config.sequence, nnx.merge(MODEL.graph, MODEL.params)
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(36, size=(2, 1, 16)), 4, axis=1)
    change = rng.uniform(size=frames.shape) < 0.5
    frames = np.where(change, rng.integers(36, size=frames.shape), frames)
    text = np.stack([pad_text(MODEL.text.encode(prompt), s) for prompt in tiny.PROMPTS])
    tokens = jnp.asarray(pack(text, frames, [1, 2, 3, 4], s))
    first = Feed(jnp.arange(s.stride + 1)[None].repeat(2, 0), jnp.asarray([s.stride] * 2), None)

    def state_with(capacity):
        sampler = Sampler(s, buffer=capacity)
        begin = start(network, sampler, [(0,), (1,)])
        what = Blocks.of(range(4), s)
        return decode_changes(network, sampler, begin, tokens, what, first, 1, 4)[1].net

    want, got = jax.jit(lambda: state_with(0))(), jax.jit(lambda: state_with(buffer))()
    np.testing.assert_array_equal(got.position, want.position)
    tiny.assert_close(got.retention, want.retention, "float32")


@pytest.mark.parametrize(
    "policy", [Sampling(), Sampling(0.5), Sampling(1.0, top_k=3), Sampling(1.0, top_p=0.7)]
)
def test_the_next_place_is_drawn_as_an_id_would_be(policy):
    scores = jnp.asarray(np.random.default_rng(1).normal(size=7) * 1.5, jnp.float32)
    p = np.exp(np.asarray(policy.tempered(scores), np.float64))
    p /= p.sum()
    noise = jax.random.gumbel(jax.random.key(0), (20_000, 6, 2))
    goes = np.asarray(changes_next(policy, jnp.broadcast_to(scores, (20_000, 7)), noise) > -np.inf)
    drawn = np.where(goes.any(axis=1), goes.argmax(axis=1), 6)
    share = np.bincount(drawn, minlength=7) / len(drawn)
    np.testing.assert_allclose(share, p, atol=0.012)


def test_the_likeliest_changes_are_those_that_are_likelier_than_not():
    # No next place is likelier than the end, but the two first together are.
    scores = jnp.log(jnp.asarray([0.3, 0.3, 0.0001, 0.3999]))
    asked = lambda scores: changes_next(Sampling(0.0), scores, jnp.zeros((3, 2)))
    assert asked(scores).tolist() == [-np.inf] * 3
    odds = asked(jnp.log(jnp.asarray([0.1, 0.8, 0.05, 0.05])))
    np.testing.assert_allclose(odds, [-np.inf, np.log(8), -np.inf], rtol=1e-5)


def test_the_likeliest_id_may_be_that_nothing_changes():
    """As where all ids are coded: the base's id is one of those that are compared."""
    odds = jnp.log(jnp.asarray([0.6, 0.9, 0.6])) - jnp.log(jnp.asarray([0.4, 0.1, 0.4]))
    ids = jnp.log(jnp.asarray([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.7, 0.2, 0.1]]))
    assert stays_likelier(Sampling(0.0), odds, ids).tolist() == [True, False, False]
    assert stays_likelier(Sampling(1.0), odds, ids) is None


def test_windows_guesses_and_who_looks_on_change_nothing(maker):
    seen, prompts = [], tiny.PROMPTS[:1]
    (want,) = maker.generate(prompts, seed=8)
    for options in (
        Options(window=1),
        Options(window=8),
        Options(drafts=False),
        Options(skip=False),
    ):
        (clip,) = maker.generate(prompts, seed=8, options=options)
        np.testing.assert_array_equal(clip.ids, want.ids)
    plan = plan_videos(MODEL, prompts, seed=8)
    (clip,) = maker.run(plan, seen.append)
    np.testing.assert_array_equal(clip.ids, want.ids)
    key = [look for look in seen if look.gaps is None]
    open_ids = [int((look.ids < 0).sum()) for look in key]
    assert open_ids[0] == 3 * 16
    assert open_ids == sorted(open_ids, reverse=True)
    assert open_ids[-1] == 0
    assert {16, 32} <= {*open_ids}  # frame by frame
    assert [look.steps for look in key] == sorted(look.steps for look in key)


def test_given_frames_are_kept_and_read(maker):
    frames = tiny.video(2)
    clips = [
        maker.generate(tiny.PROMPTS[:1], seed=1, options=PLAIN, first_frames=given)[0]
        for given in (frames[:1], frames, frames[[0, 0]])
    ]
    given = MODEL.frames.encode_clips([frames])[0]
    for clip, count in zip(clips, (1, 2, 1)):
        np.testing.assert_array_equal(clip.ids[:count], given[:count])
    # What came before the base counts, too.
    before = [
        maker.generate(tiny.PROMPTS[:1], seed=1, options=PLAIN, first_frames=frames[[n, 1]])[0]
        for n in (0, 1)
    ]
    assert (before[0].ids[1] == before[1].ids[1]).all()
    assert (before[0].ids[2] != before[1].ids[2]).any()


def test_known_ids_are_fed_as_in_the_parallel_form(maker):
    """Rows of which some frames are known: the state after them is that of the chunkwise form."""
    s, rng = MODEL.config.sequence, np.random.default_rng(0)
    engine, network = maker.engine, nnx.merge(MODEL.graph, MODEL.params)
    text = np.stack([pad_text(MODEL.text.encode(prompt), s) for prompt in tiny.PROMPTS])
    frames = np.repeat(rng.integers(36, size=(2, 1, 16)), 3, axis=1)
    change = rng.uniform(size=frames.shape) < 0.3
    frames = np.where(change, rng.integers(36, size=frames.shape), frames)
    tokens = pack(text, frames, [1, 2, 3], s)
    sampler = engine.sampler(Sampling(), 2, guidance=1.5)
    # One id of the last frame is open in the other row: this row's frames are all known.
    open_one = tokens.copy()
    open_one[1, 2 * s.stride + s.header + 5] = FREE
    codes, state = engine.decode(
        engine.start(sampler, [(0, 0), (1, 0)]), sampler, Stats(), tokens=open_one,
        guesses=np.full(tokens.shape[1], -1, np.int32), order=range(3),
    )  # fmt: skip
    np.testing.assert_array_equal(codes[0], frames[0])
    frames[1, 2, 5] = codes[1, 2, 5]
    np.testing.assert_array_equal(codes[1], frames[1])
    tokens = pack(text, frames, [1, 2, 3], s)
    row = compact(tokens, unchanged(tokens, range(3), s), tokens.shape[1])
    known = np.pad(
        neighbors(range(3), s, changes=True, decided=True), ((0, 1), (0, 0)), constant_values=-1
    )
    # What follows the last token is beyond the row, whatever the last change was.
    inside = np.arange(row.positions.shape[1]) < row.length[:, None]
    positions = np.where(inside, row.positions, tokens.shape[1])
    following = positions[:, 1:]
    nearby = np.stack(
        [codes_nearby(t, known[at], Vocab(s).frame_start) for t, at in zip(tokens, following)]
    )
    text_slots = row.positions[:, :-1] % s.stride < s.text_tokens
    both = np.concatenate([row.tokens, np.where(text_slots, 0, row.tokens)])
    twice = lambda x: jnp.asarray(np.concatenate([x, x]))
    _, want = network.chunkwise(
        jnp.asarray(both), network.init_state(4), twice(row.length), twice(positions),
        twice(nearby),
    )  # fmt: skip
    np.testing.assert_array_equal(state.net.position, want.position)
    tiny.assert_close(state.net.retention, want.retention, "float32")


def test_what_is_fed_is_told(maker):
    (clip,) = maker.generate(tiny.PROMPTS[:1], seed=2, options=PLAIN)
    changes = int((clip.ids[1:] != clip.ids[:-1]).sum())
    s = MODEL.config.sequence
    assert clip.stats["fed"] == 3 * s.header + s.frame_tokens + changes
    assert clip.stats["sampled"] == s.frame_tokens + changes


def test_exported_samplers_make_the_same(maker):
    sample = exported._key_frames(MODEL, PLAIN)
    text = pad_text(MODEL.text.encode(tiny.PROMPTS[0]), MODEL.config.sequence)
    (clip,) = maker.generate(tiny.PROMPTS[:1], seed=9, options=PLAIN)
    made = jax.jit(sample)(jnp.asarray(text), jnp.uint32(9))
    np.testing.assert_array_equal(made, clip.ids)
    options = Options(insert=3, inherit=0.0, insert_temperature=1.0)
    between = exported._between(MODEL, options, 3)
    frames = tiny.video(2)
    clip = maker.interpolate(frames, prompt=tiny.PROMPTS[0], seed=9, options=options)
    a, b = jnp.asarray(clip.ids[0]), jnp.asarray(clip.ids[-1])
    made = jax.jit(between)(jnp.asarray(text), a, b, jnp.uint32(9), jnp.uint32(0))
    np.testing.assert_array_equal(made, clip.ids[1:-1])
