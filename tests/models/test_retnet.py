"""The network: one set of parameters, three forms, the same numbers."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import PRESETS, RetNetConfig
from fv_jax.models.retnet import RetNet, log_decays, places_of_tokens
from fv_jax.ops import decay
from fv_jax.tokenizers.quantizer import FSQ

B, T, VOCABULARY, CODES = 2, 37, 40, 12


def tokens():
    return jax.random.randint(jax.random.key(5), (B, T), 0, VOCABULARY)


def steps(model, tokens, state):
    """Hidden vectors one token at a time, and the state after the last."""

    def one(state, tokens_B):
        hidden, state = model.step(tokens_B, state)
        return state, hidden

    state, hidden = jax.lax.scan(one, state, tokens.T)
    return hidden.swapaxes(0, 1), state


FORMS = {
    "parallel": lambda model, tokens: (model.parallel(tokens), None),
    "chunkwise": lambda model, tokens: model.chunkwise(tokens, model.init_state(len(tokens))),
    "recurrent": lambda model, tokens: model.recurrent(tokens, model.init_state(len(tokens))),
    "steps": lambda model, tokens: steps(model, tokens, model.init_state(len(tokens))),
}


@functools.partial(jax.jit, static_argnames=("graph", "form"))
def forward_and_gradients(params, tokens, *, graph, form):
    """(logits, state) and the gradient of a scalar of the logits with respect to all params."""

    def loss(params):
        model = nnx.merge(graph, params)
        hidden, state = FORMS[form](model, tokens)
        logits = model.logits(hidden)
        weight = jnp.cos(jnp.arange(logits.size, dtype=logits.dtype)).reshape(logits.shape)
        return jnp.sum(logits * weight), (logits, state)

    (_, outputs), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    return outputs, gradients


def run(form):
    graph, params = nnx.split(tiny.retnet(vocabulary=VOCABULARY, codes=CODES))
    return forward_and_gradients(nnx.to_pure_dict(params), tokens(), graph=graph, form=form)


@pytest.mark.parametrize("form", ["parallel", "recurrent", "steps"])
def test_forms_agree_with_chunkwise_in_logits_state_and_all_gradients(form, dtype):
    (logits, state), gradients = run(form)
    (want, want_state), want_gradients = run("chunkwise")
    tiny.assert_close((logits, gradients), (want, want_gradients), dtype)
    if state is not None:
        tiny.assert_close(state, want_state, dtype)


def test_every_parameter_has_a_gradient():
    _, gradients = run("chunkwise")
    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not (jnp.abs(leaf) > 0).any()
    ]
    assert dead == []


@functools.partial(jax.jit, static_argnames=("graph", "known"))
def prefill_then_steps(params, tokens, *, graph, known):
    model = nnx.merge(graph, params)
    first, state = model.chunkwise(tokens[:, :known], model.init_state(len(tokens)))
    rest, state = steps(model, tokens[:, known:], state)
    return model.logits(jnp.concatenate([first, rest], axis=1)), state


def test_prefill_then_steps_equals_steps_from_the_start(dtype):
    graph, params = nnx.split(tiny.retnet(vocabulary=VOCABULARY, codes=CODES))
    actual = prefill_then_steps(params, tokens(), graph=graph, known=23)
    tiny.assert_close(actual, run("recurrent")[0], dtype)


@functools.partial(jax.jit, static_argnames=("graph", "form"))
def read_and_go_on(params, tokens, length, following, *, graph, form):
    """State after each row's real tokens, and the hidden vector of the token after them."""
    model = nnx.merge(graph, params)
    _, state = getattr(model, form)(tokens, model.init_state(len(tokens)), length)
    return state, model.step(following, state)[0]


@pytest.mark.parametrize("form", ["chunkwise", "recurrent"])
def test_ragged_rows_go_on_from_their_real_tokens(form, dtype):
    graph, params = nnx.split(tiny.retnet(vocabulary=VOCABULARY, codes=CODES))
    run = functools.partial(read_and_go_on, params, graph=graph, form=form)
    length, following = jnp.array([T, 14]), jnp.array([3, 4])
    state, hidden = run(tokens(), length, following)
    np.testing.assert_array_equal(state.position, length)
    want, want_hidden = run(tokens()[1:, :14], length[1:], following[1:])
    tiny.assert_close(state.retention[:, 1:], want.retention, dtype)
    tiny.assert_close(hidden[1:], want_hidden, dtype)
    # What the padding holds does not matter.
    other, _ = run(tokens().at[1, 14:].set(0), length, following)
    np.testing.assert_array_equal(other.retention, state.retention)


def positions():
    """Increasing, with gaps in the second row; and of what comes after the last token."""
    gaps = np.random.default_rng(0).integers(1, 6, (B, T + 1))
    return jnp.asarray(np.cumsum(np.where([[True], [False]], 1, gaps), axis=1)) - 1


@functools.partial(jax.jit, static_argnames=("graph", "form"))
def with_gaps(params, tokens, length, positions, *, graph, form):
    """Hidden vectors of the real tokens, the state and a gradient."""
    real = jnp.arange(tokens.shape[1]) < length[:, None]

    def loss(params):
        model = nnx.merge(graph, params)
        if form == "parallel":
            hidden, state = model.parallel(tokens, positions), None
        else:
            state = model.init_state(len(tokens))
            hidden, state = getattr(model, form)(tokens, state, length, positions)
        hidden = jnp.where(real[..., None], hidden, 0)
        return jnp.sum(hidden**3), (hidden, state)

    (_, outputs), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return outputs, gradient


@pytest.mark.parametrize("form", ["parallel", "recurrent"])
def test_forms_agree_where_tokens_are_left_out(form, dtype):
    graph, params = nnx.split(tiny.retnet(vocabulary=VOCABULARY, codes=CODES))
    run = functools.partial(
        with_gaps, nnx.to_pure_dict(params), tokens(), jnp.array([T, 20]), positions(), graph=graph
    )
    (hidden, state), gradient = run(form=form)
    (want, want_state), want_gradient = run(form="chunkwise")
    tiny.assert_close((hidden, gradient), (want, want_gradient), dtype)
    if state is not None:
        tiny.assert_close(state, want_state, dtype)
    np.testing.assert_array_equal(want_state.position, [T, int(positions()[1, 19]) + 1])


def test_rows_may_be_read_in_parts_where_tokens_are_left_out(dtype):
    model, at = tiny.retnet(vocabulary=VOCABULARY, codes=CODES), positions()
    chunkwise = jax.jit(model.chunkwise)
    want, want_state = chunkwise(tokens(), model.init_state(B), None, at)
    hidden, state = chunkwise(tokens()[:, :14], model.init_state(B), None, at[:, :15])
    rest, state = chunkwise(tokens()[:, 14:], state, None, at[:, 14:])
    tiny.assert_close((jnp.concatenate([hidden, rest], 1), state), (want, want_state), dtype)


def test_positions_of_every_token_in_a_row_change_nothing():
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    every = jnp.broadcast_to(jnp.arange(T + 1), (B, T + 1))
    with jax.disable_jit():  # the compiler may round sums and products of one form at once
        want = model.chunkwise(tokens(), model.init_state(B))
        got = model.chunkwise(tokens(), model.init_state(B), None, every)
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_a_query_looks_from_the_place_that_it_predicts():
    """A token's hidden vector depends on where the next one stands; its own key does not."""
    model, at = tiny.retnet(vocabulary=VOCABULARY, codes=CODES), positions()
    chunkwise = jax.jit(model.chunkwise)
    hidden, state = chunkwise(tokens(), model.init_state(B), None, at)
    later, same = chunkwise(tokens(), model.init_state(B), None, at.at[:, -1].add(3))
    np.testing.assert_array_equal(later[:, :-1], hidden[:, :-1])
    assert (jnp.abs(later[:, -1] - hidden[:, -1]).max(axis=-1) > 1e-3).all()
    np.testing.assert_array_equal(same.retention[0], state.retention[0])  # of the first layer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda at: at[:, :-1], r"need positions of themselves and of what comes after them"),
        (lambda at: at.at[1, 3].set(at[1, 2]), "must increase"),
        (lambda at: at - 1, "must increase, from its state's on"),
        (lambda at: at.at[:, -1].set(2**22), r"got 0\.\.4194304"),
    ],
)
def test_positions_that_cannot_be_are_refused(change, message):
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(RetNet.chunkwise)(
            model, tokens(), model.init_state(B), None, change(positions())
        )


def test_a_row_does_not_see_its_neighbors(dtype):
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    parallel = jax.jit(model.parallel)
    tiny.assert_close(parallel(tokens())[:1], parallel(tokens()[:1]), dtype)


@pytest.mark.parametrize("form", FORMS)
def test_hidden_vectors_depend_on_every_earlier_token_and_on_no_later_one(form):
    # No levels: position m is to be seen through row m of the embedding alone.
    config = dataclasses.replace(tiny.NETWORK, code_levels=())
    model = tiny.retnet(config, vocabulary=11, codes=CODES)
    graph, params = nnx.split(model)
    params = nnx.to_pure_dict(params)

    def hidden(embedding):  # token m reads row m, so a row's influence is a position's
        network = nnx.merge(graph, {**params, "embedding": embedding})
        return FORMS[form](network, jnp.arange(11)[None])[0][0]

    jacobian = jax.jit(jax.jacrev(hidden))(params["embedding"])  # [n, D, m, D]
    influence = np.abs(jacobian).max(axis=(1, 3))
    n, m = np.mgrid[:11, :11]
    assert (influence[m > n] == 0).all()
    assert (influence[m <= n] > 0).all()


def test_order_of_the_tokens_matters():
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    swapped = tokens().at[:, :2].set(tokens()[:, 1::-1])
    assert (swapped != tokens()).any()
    parallel = jax.jit(model.parallel)
    difference = jnp.abs(parallel(swapped) - parallel(tokens()))[:, 2]
    assert float(difference.max()) > 1e-3


def test_logits_cover_the_frame_codes_only():
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    assert model.logits(model.parallel(tokens())).shape == (B, T, CODES)


def test_state_has_one_size_however_long_the_past():
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    before = model.init_state(B)
    _, after = model.chunkwise(tokens(), before)
    assert [x.shape for x in jax.tree.leaves(after)] == [x.shape for x in jax.tree.leaves(before)]
    assert (after.position == T).all()


def test_bfloat16_matmuls_keep_a_float32_state_and_stay_near_float32():
    low_config = dataclasses.replace(tiny.NETWORK, matmul_dtype="bfloat16")
    outputs = {}
    for config in (tiny.NETWORK, low_config):
        model = tiny.retnet(config, VOCABULARY, CODES)
        hidden, state = jax.jit(model.chunkwise)(tokens(), model.init_state(B))
        assert state.retention.dtype == jnp.float32
        outputs[config.matmul_dtype] = np.asarray(model.logits(hidden))
    high, low = outputs["float32"], outputs["bfloat16"]
    error = np.sqrt(np.mean((low - high) ** 2, axis=(0, 2)) / np.mean(high**2))
    # 1 % measured; each factor rounds to 2^-9 = 0.2 %. The median over positions, since the head
    # norm blows rounding up where a query happens to match no key.
    assert 0 < np.median(error) < 0.02


def test_memory_range_sets_the_decays_and_none_means_retnets():
    with_memory = RetNetConfig(heads=5, memory_tokens=(8.0, 1024.0))
    half_lives = [decay.half_life(x) for x in log_decays(with_memory)]
    assert half_lives[0] == pytest.approx(8)
    assert half_lives[-1] == pytest.approx(1024)
    plain = RetNetConfig(heads=5, memory_tokens=None)
    assert log_decays(plain) == decay.log_decays(5)


def test_the_papers_preset_has_302_million_parameters_in_its_blocks():
    config = PRESETS["paper"]
    model = nnx.eval_shape(lambda: RetNet(config, 100, 100, rngs=nnx.Rngs(0)))
    blocks = nnx.state(model.blocks, nnx.Param)
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(blocks))
    assert round(count / 1e6) == 302


def test_slot_embeddings_repeat_with_the_block_and_start_at_zero():
    fresh = lambda: RetNet(tiny.NETWORK, VOCABULARY, CODES, rngs=nnx.Rngs(0)).slot_embedding[...]
    assert (jax.jit(fresh)() == 0).all()
    graph, params = nnx.split(tiny.retnet(vocabulary=VOCABULARY, codes=CODES))
    params = nnx.to_pure_dict(params)
    without = nnx.merge(graph, {**params, "slot_embedding": params["slot_embedding"] * 0})
    position = 1000 + jnp.broadcast_to(jnp.arange(T), (B, T))
    added = nnx.merge(graph, params).embed(tokens(), position) - without.embed(tokens(), position)
    expected = params["slot_embedding"][np.arange(1000, 1000 + T) % tiny.NETWORK.slots]
    np.testing.assert_allclose(added, jnp.broadcast_to(expected, added.shape), atol=1e-6)


def test_a_network_of_changes_is_told_the_slot_of_what_it_predicts():
    positions = jnp.asarray([[3, 7, 8, 20]])  # of three tokens and of what follows them
    start, told = jnp.asarray([3]), {}
    for places in (0, 5):
        config = dataclasses.replace(tiny.NETWORK, nearby=3, places=places)
        at, told[places], _ = places_of_tokens(config, start, 3, jnp.float32, positions)
        np.testing.assert_array_equal(at, positions[:, :-1])
        _, without_gaps, _ = places_of_tokens(config, start, 3, jnp.float32)
        np.testing.assert_array_equal(without_gaps, [[3, 4, 5]])
    np.testing.assert_array_equal(told[0], positions[:, :-1])
    np.testing.assert_array_equal(told[5], positions[:, 1:] - 1)


def test_codes_are_read_and_scored_whole_and_by_their_levels():
    model = tiny.retnet(dataclasses.replace(tiny.NETWORK, slots=0), VOCABULARY, CODES)
    # Levels from 0 of every code; the second channel's rows come after the first one's.
    levels = np.asarray(FSQ((4, 3)).codes(jnp.arange(CODES))) * [2, 1] + [2, 1]
    rows = np.add(np.round(levels).astype(int), [0, 4])
    ids = jnp.arange(VOCABULARY)[None]
    expected = np.array(model.embedding[...])
    expected[-CODES:] += np.asarray(model.level_embedding[...])[rows].sum(1)  # codes only
    np.testing.assert_allclose(model.embed(ids, 0 * ids)[0], expected, atol=1e-6)
    hidden = jax.random.normal(jax.random.key(0), (5, tiny.NETWORK.width))
    head = np.asarray(model.head[...]) + np.asarray(model.level_head[...])[rows].sum(1).T
    np.testing.assert_allclose(model.logits(hidden), hidden @ head, atol=1e-5)


def test_embeddings_start_with_a_common_vector_unless_they_start_plain():
    network = RetNetConfig(width=64, layers=1, heads=4, value_width=64, hidden=8)
    for shared, length in ((True, 1), (False, 0)):  # of the mean row, in its own units
        config = dataclasses.replace(network, shared_start=shared)
        rows = RetNet(config, 2000, 12, rngs=nnx.Rngs(0)).embedding[...]
        assert float(jnp.linalg.norm(rows.mean(axis=0))) == pytest.approx(length, abs=0.25)


def test_slots_and_levels_are_options():
    plain = tiny.retnet(dataclasses.replace(tiny.NETWORK, slots=0, code_levels=()))
    names = set(nnx.to_pure_dict(nnx.state(plain, nnx.Param)))
    assert names == {"embedding", "blocks", "norm", "head"}


def test_levels_that_make_another_number_of_codes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) make 12 codes, the network has 13"):
        RetNet(tiny.NETWORK, VOCABULARY, 13, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace(retention=s.retention[:, :1]), r"for 2 rows .* got \(2, 1, "),
        (lambda s: s.replace(position=s.position[:1]), r"for 2 rows .* and \(1,\)"),
        (lambda s: s.replace(retention=s.retention[:1]), r"must have shapes \(2, 2, "),
        (lambda s: s.replace(retention=s.retention.astype(jnp.bfloat16)), "float32, got bfloat16"),
        (lambda s: s.replace(position=s.position * 1.0), "integers, got float32"),
        (lambda s: s.replace(position=s.position + 2**22 - 2), r"0\.\.4194303, got 4194302\.\."),
        (lambda s: s.replace(position=np.full(B, 2**40)), r"0\.\.4194303, got 1099511627776"),
        (lambda s: s.replace(position=s.position - 1), r"0\.\.4194303, got -1\.\."),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    state = change(model.init_state(B))
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(RetNet.chunkwise)(model, tokens(), state)
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(RetNet.recurrent)(model, tokens(), state)
    if "4194302" not in message:  # one more token would still fit
        with pytest.raises(ValueError, match=message):
            inspect.unwrap(RetNet.step)(model, tokens()[:, 0], state)


def test_a_position_may_reach_the_end_of_the_rotation_tables():
    model = tiny.retnet(vocabulary=VOCABULARY, codes=CODES)
    state = model.init_state(B)
    state = state.replace(position=state.position + 2**22 - T)
    hidden, after = model.chunkwise(tokens(), state)
    assert bool(jnp.isfinite(hidden).all())
    with pytest.raises(ValueError, match="begin a new state"):
        model.step(tokens()[:, 0], after)
