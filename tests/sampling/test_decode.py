"""Recurrent decoding: the parallel form's choices, given ids copied, seeds that decide alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.sampling.decode import FREE, decode, start
from fv_jax.sampling.policies import Policy, position_noise

CODES, FRAME_START, VOCABULARY = 12, 28, 40
F, B, HEADER, P, PREFIX = 3, 2, 4, 5, 9
GREEDY, SAMPLED = Policy(temperature=0.0), Policy(temperature=1.0, top_k=8, top_p=0.95)
SEEDS = [(11, 0), (12, 0)]


def inputs(prefix=PREFIX, frames=F, rows=B):
    """(prefix, headers, forced) of all rows; nothing is forced."""
    rng = np.random.default_rng(0)
    headers = rng.integers(FRAME_START, size=(F, B, HEADER))[:frames, :rows]
    known = rng.integers(VOCABULARY, size=(B, PREFIX))[:rows, :prefix]
    arrays = known, headers, np.full((frames, rows, P), FREE)
    return tuple(jnp.asarray(x, jnp.int32) for x in arrays)


def run(policy, state=None, seeds=SEEDS, **arrays):
    """Codes [F, B, P] and the state after; `arrays` replace those of `inputs`."""
    network = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    graph, params = nnx.split(network)
    prefix, headers, forced = inputs(rows=len(seeds))
    arrays = {"prefix": prefix, "headers": headers, "forced": forced} | arrays
    state = start(network, seeds) if state is None else state
    return decode(params, state, **arrays, graph=graph, policy=policy, frame_start=FRAME_START)


def packed(prefix, headers, codes):
    """The whole sequence that the network has read."""
    parts = [prefix]
    for header, frame in zip(headers, codes):
        parts += [header, frame + FRAME_START]
    return jnp.concatenate(parts, axis=1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("known", [PREFIX, 0])
def test_greedy_decoding_takes_the_parallel_forms_likeliest_codes(known):
    prefix, headers, forced = inputs(prefix=known)
    codes, state = run(GREEDY, prefix=prefix, headers=headers, forced=forced)
    assert len(np.unique(codes)) > 2
    network = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    tokens = packed(prefix, headers, codes)
    likeliest = network.logits(network.parallel(tokens)).argmax(-1)
    for frame in range(F):
        first = known + frame * (HEADER + P) + HEADER
        np.testing.assert_array_equal(codes[frame], likeliest[:, first - 1 : first + P - 1])
    assert (state.net.position == tokens.shape[1]).all()
    _, want = network.chunkwise(tokens, network.init_state(B))
    tiny.assert_close(state.net.retention, want.retention, "float64")


def test_forced_codes_are_copied_and_the_others_chosen_knowing_them():
    _, _, free = inputs()
    rng = np.random.default_rng(1)
    given = rng.uniform(size=free.shape) < 0.5
    forced = jnp.where(given, rng.integers(CODES, size=free.shape), FREE)
    codes, _ = run(SAMPLED, forced=forced)
    np.testing.assert_array_equal(codes[given], forced[given])
    assert ((codes >= 0) & (codes < CODES)).all()
    plain, _ = run(SAMPLED)
    assert (codes != plain)[~given].any()


def test_forcing_what_would_have_been_chosen_changes_nothing():
    plain, _ = run(SAMPLED)
    forced = jnp.where(jnp.arange(P) % 2 == 0, plain, FREE)
    np.testing.assert_array_equal(run(SAMPLED, forced=forced)[0], plain)


def test_all_forced_ends_in_the_state_of_reading():
    prefix, headers, free = inputs()
    forced = jnp.asarray(np.random.default_rng(2).integers(CODES, size=free.shape))
    codes, state = run(SAMPLED, forced=forced)
    np.testing.assert_array_equal(codes, forced)
    network = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    tokens = packed(prefix, headers, forced)
    _, want = network.chunkwise(tokens, network.init_state(B))
    tiny.assert_close(state.net.retention, want.retention, "float32")


def test_a_seed_gives_the_same_codes_whatever_batch_it_shares():
    alone, _ = run(SAMPLED, seeds=SEEDS[:1])
    both, _ = run(SAMPLED)
    np.testing.assert_array_equal(alone[:, 0], both[:, 0])
    # As the second row, beside another seed.
    swap = lambda x, axis: jnp.flip(x, axis)
    prefix, headers, _ = inputs()
    swapped, _ = run(SAMPLED, seeds=SEEDS[::-1], prefix=swap(prefix, 0), headers=swap(headers, 1))
    np.testing.assert_array_equal(swapped[:, 1], both[:, 0])
    other, _ = run(SAMPLED, seeds=[(13, 0), SEEDS[1]])
    np.testing.assert_array_equal(other[:, 1], both[:, 1])
    assert (other[:, 0] != both[:, 0]).any()


def test_the_draw_at_a_position_uses_the_seeds_noise_for_that_position():
    # With all logits equal, the largest noise wins.
    network = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    for head in (network.head, network.level_head):
        head[...] = jnp.zeros_like(head[...])
    graph, params = nnx.split(network)
    codes, _ = decode(
        params, start(network, SEEDS), *inputs(),
        graph=graph, policy=Policy(), frame_start=FRAME_START,
    )  # fmt: skip
    for row, (seed, stage) in enumerate(SEEDS):
        key = jax.random.fold_in(jax.random.key(seed), stage)
        for frame in range(F):
            first = PREFIX + frame * (HEADER + P) + HEADER
            noise = position_noise(jnp.stack([key] * P), first + jnp.arange(P), CODES)
            np.testing.assert_array_equal(codes[frame, row], noise.argmax(-1))


@pytest.mark.parametrize("seed", [(11, 1), (11,), (11, 0, 0)])
def test_every_number_of_a_seed_counts(seed):
    first, _ = run(SAMPLED)
    other, _ = run(SAMPLED, seeds=[seed, SEEDS[1]])
    assert (other[:, 0] != first[:, 0]).any()


def test_two_calls_that_carry_the_state_equal_one():
    prefix, headers, forced = inputs()
    whole, end = run(SAMPLED)
    first, state = run(SAMPLED, headers=headers[:1], forced=forced[:1])
    rest, state = run(SAMPLED, state, prefix=prefix[:, :0], headers=headers[1:], forced=forced[1:])
    np.testing.assert_array_equal(jnp.concatenate([first, rest]), whole)
    np.testing.assert_array_equal(state.net.position, end.net.position)
    tiny.assert_close(state.net.retention, end.net.retention, "float32")


@dataclasses.dataclass(frozen=True)
class Counting(Policy):
    """Greedy, and counts how often it is traced."""

    traces = []  # noqa: RUF012 - shared by all on purpose

    def __call__(self, logits, noise):
        self.traces.append(logits.shape)
        return super().__call__(logits, noise)


def test_one_trace_serves_every_call_of_a_shape():
    policy = Counting(temperature=0.0)
    prefix, headers, forced = inputs()
    first, _ = run(policy)
    traces = len(policy.traces)
    assert traces > 0
    second, _ = run(
        policy, seeds=[(1, 2), (3, 4)], prefix=prefix + 1, headers=headers + 1,
        forced=jnp.where(jnp.arange(P) == 2, 3, forced),
    )  # fmt: skip
    assert (first != second).any()
    assert len(policy.traces) == traces
    run(policy, prefix=prefix[:, 1:])  # another shape
    assert len(policy.traces) > traces


def test_the_state_is_donated():
    before = start(tiny.retnet(vocabulary=VOCABULARY, codes=CODES), SEEDS)
    _, after = run(SAMPLED, before)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))
