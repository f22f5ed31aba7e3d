"""The lazy state is the plain one, written later."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.models import decode_cache

B, T, CAPACITY = 3, 12, 4


def tokens():
    return jax.random.randint(jax.random.key(1), (B, T), 0, 40)


def parts():
    graph, params = nnx.split(tiny.retnet(vocabulary=40, codes=12))
    return graph, nnx.to_pure_dict(params)


@functools.partial(jax.jit, static_argnames=("graph", "width", "kept", "capacity"))
def by_windows(params, tokens, positions=None, *, graph, width, kept, capacity):
    """Hidden vectors and the settled state; `kept` tokens of every window are committed."""
    model = nnx.merge(graph, params)
    decoder = model.decoder()

    def one(state, first):
        ahead = jax.lax.dynamic_slice_in_dim(padded, first, width, axis=1)
        at = positions
        if positions is not None:
            at = jax.lax.dynamic_slice_in_dim(places, first, width + 1, axis=1)
        y, keys_values = decode_cache.window(decoder, ahead, state, at)
        length = jnp.full((len(tokens),), kept)
        return decode_cache.commit(decoder, state, keys_values, length, at), y[:, :kept]

    padded = jnp.pad(tokens, ((0, 0), (0, width)))
    if positions is not None:
        places = jnp.concatenate([positions, positions[:, -1:] + 1 + jnp.arange(width)], axis=1)
    state = decode_cache.begin(model, model.init_state(len(tokens)), capacity)
    state, hidden = jax.lax.scan(one, state, jnp.arange(0, tokens.shape[1], kept))
    hidden = hidden.swapaxes(0, 1).reshape(*tokens.shape, -1)
    return hidden, decode_cache.settle(decoder, state)


@functools.partial(jax.jit, static_argnames="graph")
def by_chunks(params, tokens, length=None, positions=None, *, graph):
    model = nnx.merge(graph, params)
    return model.chunkwise(tokens, model.init_state(len(tokens)), length, positions)


@pytest.mark.parametrize("capacity", [0, CAPACITY, 2 * CAPACITY])
@pytest.mark.parametrize(("width", "kept"), [(1, 1), (4, 4), (4, 1), (3, 2)])
def test_windows_give_what_one_chunkwise_call_gives(width, kept, capacity, dtype):
    graph, params = parts()
    actual = by_windows(params, tokens(), graph=graph, width=width, kept=kept, capacity=capacity)
    tiny.assert_close(actual, by_chunks(params, tokens(), graph=graph), dtype)


@pytest.mark.parametrize("capacity", [0, CAPACITY, 2 * CAPACITY])
@pytest.mark.parametrize(("width", "kept"), [(1, 1), (4, 4), (4, 1), (3, 2)])
def test_windows_give_what_one_chunkwise_call_gives_where_tokens_are_left_out(
    width, kept, capacity, dtype
):
    graph, params = parts()
    gaps = np.random.default_rng(0).integers(1, 9, (B, T + 1))
    positions = jnp.asarray(np.cumsum(gaps, axis=1))
    actual = by_windows(
        params, tokens(), positions, graph=graph, width=width, kept=kept, capacity=capacity
    )
    want = by_chunks(params, tokens(), None, positions, graph=graph)
    tiny.assert_close(actual, want, dtype)
    np.testing.assert_array_equal(actual[1].position, want[1].position)


@functools.partial(jax.jit, static_argnames=("graph", "capacity"))
def two_windows(params, tokens, kept, *, graph, capacity):
    """Keep `kept[w, b]` tokens of windows 0 and 1; hidden vectors of a third, and the state."""
    model = nnx.merge(graph, params)
    decoder = model.decoder()
    state = decode_cache.begin(model, model.init_state(B), capacity)
    for kept_B in kept:
        ahead = jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (4,)))(
            tokens, state.position
        )
        _, keys_values = decode_cache.window(decoder, ahead, state)
        state = decode_cache.commit(decoder, state, keys_values, kept_B)
    after = jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (4,)))(
        tokens, state.position
    )
    hidden, _ = decode_cache.window(decoder, after, state)
    return hidden, state, decode_cache.settle(decoder, state)


@pytest.mark.parametrize(("capacity", "buffered"), [(0, 0), (2 * CAPACITY, 0), (99, 8)])
def test_rows_keep_different_numbers_of_tokens(capacity, buffered, dtype):
    graph, params = parts()
    kept = jnp.array([[4, 0, 2], [1, 3, 0]])  # 8 slots are full then
    hidden, state, settled = two_windows(params, tokens(), kept, graph=graph, capacity=capacity)
    assert int(state.count) == buffered
    np.testing.assert_array_equal(state.position, [5, 3, 2])
    np.testing.assert_array_equal(settled.position, [5, 3, 2])
    _, want = by_chunks(params, tokens(), kept.sum(0), graph=graph)
    tiny.assert_close(settled, want, dtype)
    whole, _ = by_chunks(params, tokens(), graph=graph)
    for row, position in enumerate([5, 3, 2]):
        tiny.assert_close(hidden[row], whole[row, position : position + 4], dtype)


def test_a_bfloat16_decoder_reads_bfloat16_weights_and_steps_like_the_network():
    low = dataclasses.replace(tiny.NETWORK, matmul_dtype="bfloat16")
    model = tiny.retnet(low, vocabulary=40, codes=12)
    decoder = model.decoder()
    weights = [decoder.tables.head, decoder.blocks[0].retention.qkvg.fused.weight[...]]
    assert all(weight.dtype == jnp.bfloat16 for weight in weights)
    plain, lazy = model.init_state(B), decode_cache.begin(model, model.init_state(B), 0)

    @jax.jit
    def both(tokens, plain, lazy):
        hidden, plain = model.step(tokens, plain)
        again, keys_values = decode_cache.window(decoder, tokens[:, None], lazy)
        return (
            hidden,
            again,
            plain,
            decode_cache.commit(decoder, lazy, keys_values, jnp.ones(B, int)),
        )

    for n in range(3):
        hidden, again, plain, lazy = both(tokens()[:, n], plain, lazy)
    assert lazy.retention[0].dtype == jnp.float32
    # A window's scores are rounded to bfloat16 before they meet v (2^-9); a step has none.
    for got, want in ((again[:, 0], hidden), (jnp.stack(lazy.retention), plain.retention)):
        error = jnp.abs(got - want).max() / jnp.abs(want).max()
        assert error < 0.02


def test_a_window_leaves_the_state_as_it_was():
    graph, params = parts()
    model = nnx.merge(graph, params)
    state = decode_cache.begin(model, model.init_state(B), CAPACITY)
    decoder = model.decoder()
    window = jax.jit(lambda tokens, state: decode_cache.window(decoder, tokens, state)[0])
    first, other, again = (window(tokens()[:, at : at + 4], state) for at in (0, 4, 0))
    assert (other != first).any()
    np.testing.assert_array_equal(first, again)


def test_a_window_for_which_the_buffer_has_no_room_is_refused():
    network = tiny.retnet()
    decoder = network.decoder()
    state = decode_cache.begin(network, network.init_state(1), 3)
    _, two = jax.jit(functools.partial(decode_cache.window, decoder))(jnp.array([[1, 2]]), state)
    state = decode_cache.append(state, two, jnp.array([2]))
    with pytest.raises(ValueError, match="of 3 holds 2 tokens and has no room for 2 more; fold"):
        decode_cache.append(state, two, jnp.array([1]))
    state = decode_cache.fold(decoder, state)
    assert int(decode_cache.append(state, two, jnp.array([1])).position[0]) == 3
    for length in (-1, 3):
        with pytest.raises(ValueError, match="a window of 2 tokens cannot give"):
            decode_cache.append(state, two, jnp.array([length]))
    small = decode_cache.begin(network, network.init_state(1), 1)
    with pytest.raises(ValueError, match="of 1 holds 0 tokens and has no room for 2 more"):
        decode_cache.commit(decoder, small, two, jnp.array([1]))


def test_a_state_of_another_network_is_refused():
    other = tiny.retnet(dataclasses.replace(tiny.NETWORK, layers=1))
    with pytest.raises(ValueError, match="the state must have shapes"):
        decode_cache.begin(tiny.retnet(), other.init_state(1), 3)


def test_a_buffer_of_less_than_nothing_is_refused():
    model = tiny.retnet(vocabulary=40, codes=12)
    with pytest.raises(ValueError, match="capacity must be >= 0, got -1"):
        decode_cache.begin(model, model.init_state(B), -1)
