"""The lazy state is the plain one, written later."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.models import lazy_state

B, T, CAPACITY = 3, 12, 4


def tokens():
    return jax.random.randint(jax.random.key(1), (B, T), 0, 40)


def parts():
    graph, params = nnx.split(tiny.retnet(vocabulary=40, codes=12))
    return graph, nnx.to_pure_dict(params)


@functools.partial(jax.jit, static_argnames=("graph", "width", "kept"))
def by_windows(params, tokens, *, graph, width, kept):
    """Hidden vectors and the settled state; `kept` tokens of every window are committed."""
    model = nnx.merge(graph, params)

    def one(state, first):
        full = state.count[0] + width > CAPACITY
        state = jax.lax.cond(full, lambda s: lazy_state.fold(model, s), lambda s: s, state)
        ahead = jax.lax.dynamic_slice_in_dim(padded, first, width, axis=1)
        y, keys_values = lazy_state.window(model, ahead, state)
        state = lazy_state.append(state, keys_values, jnp.full((len(tokens),), kept))
        return state, y[:, :kept]

    padded = jnp.pad(tokens, ((0, 0), (0, width)))
    state = lazy_state.begin(model, model.init_state(len(tokens)), CAPACITY)
    state, hidden = jax.lax.scan(one, state, jnp.arange(0, tokens.shape[1], kept))
    hidden = hidden.swapaxes(0, 1).reshape(*tokens.shape, -1)
    return hidden, lazy_state.settle(model, state)


@functools.partial(jax.jit, static_argnames="graph")
def by_chunks(params, tokens, length=None, *, graph):
    model = nnx.merge(graph, params)
    return model.chunkwise(tokens, model.init_state(len(tokens)), length)


@pytest.mark.parametrize(("width", "kept"), [(1, 1), (4, 4), (4, 1), (3, 2)])
def test_windows_give_what_one_chunkwise_call_gives(width, kept, dtype):
    graph, params = parts()
    actual = by_windows(params, tokens(), graph=graph, width=width, kept=kept)
    tiny.assert_close(actual, by_chunks(params, tokens(), graph=graph), dtype)


@functools.partial(jax.jit, static_argnames="graph")
def two_windows(params, tokens, kept, *, graph):
    """Keep `kept[w, b]` tokens of windows 0 and 1; hidden vectors of a third, and the state."""
    model = nnx.merge(graph, params)
    state = lazy_state.begin(model, model.init_state(B), 2 * CAPACITY)
    for kept_B in kept:
        ahead = jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (4,)))(
            tokens, state.position
        )
        _, keys_values = lazy_state.window(model, ahead, state)
        state = lazy_state.append(state, keys_values, kept_B)
    after = jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (4,)))(
        tokens, state.position
    )
    return lazy_state.window(model, after, state)[0], state, lazy_state.settle(model, state)


def test_rows_keep_different_numbers_of_tokens(dtype):
    graph, params = parts()
    kept = jnp.array([[4, 0, 2], [1, 3, 0]])  # at most 2 x 4 slots
    hidden, state, settled = two_windows(params, tokens(), kept, graph=graph)
    np.testing.assert_array_equal(state.count, [5, 3, 2])
    np.testing.assert_array_equal(settled.position, [5, 3, 2])
    _, want = by_chunks(params, tokens(), kept.sum(0), graph=graph)
    tiny.assert_close(settled, want, dtype)
    whole, _ = by_chunks(params, tokens(), graph=graph)
    for row, position in enumerate([5, 3, 2]):
        tiny.assert_close(hidden[row], whole[row, position : position + 4], dtype)


def test_a_window_leaves_the_state_as_it_was():
    graph, params = parts()
    model = nnx.merge(graph, params)
    state = lazy_state.begin(model, model.init_state(B), CAPACITY)
    first, _ = lazy_state.window(model, tokens()[:, :4], state)
    lazy_state.window(model, tokens()[:, 4:8], state)
    again, _ = lazy_state.window(model, tokens()[:, :4], state)
    np.testing.assert_array_equal(first, again)


def test_a_window_for_which_the_buffer_has_no_room_is_refused():
    network = tiny.retnet()
    state = lazy_state.begin(network, network.init_state(1), 3)
    _, two = lazy_state.window(network, jnp.array([[1, 2]]), state)
    state = lazy_state.append(state, two, jnp.array([2]))
    with pytest.raises(ValueError, match="of 3 holds 2 tokens and has no room for 2 more; fold"):
        lazy_state.append(state, two, jnp.array([1]))
    folded = lazy_state.append(lazy_state.fold(network, state), two, jnp.array([1]))
    assert int(folded.position[0]) == 3
    for length in (-1, 3):
        with pytest.raises(ValueError, match="a window of 2 tokens cannot give"):
            lazy_state.append(lazy_state.fold(network, state), two, jnp.array([length]))


def test_a_state_of_another_network_is_refused():
    other = tiny.retnet(dataclasses.replace(tiny.NETWORK, layers=1))
    with pytest.raises(ValueError, match="the state must have shapes"):
        lazy_state.begin(tiny.retnet(), other.init_state(1), 3)


def test_a_buffer_without_slots_is_refused():
    model = tiny.retnet(vocabulary=40, codes=12)
    with pytest.raises(ValueError, match="capacity must be >= 1, got 0"):
        lazy_state.begin(model, model.init_state(B), 0)
