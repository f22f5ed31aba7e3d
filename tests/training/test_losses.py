"""The loss: cross-entropy of frame ids in blocks with weight, and of nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import NEARBY_FRAMES as FRAMES
from fv_jax.config.model import NEARBY_TAPS as TAPS
from fv_jax.config.model import SequenceConfig
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.rows import RowMaker, blocks_of_a_row, kinds
from fv_jax.sequence.packing import key_frame_serials, pack, pad_text
from fv_jax.sequence.skipping import compact
from fv_jax.sequence.vocab import PAD, Vocab
from fv_jax.training.losses import frame_loss

CONFIG = SequenceConfig(
    text_tokens=3, frame_grid=(2, 2), text_vocabulary=6, frame_codes=12, serial_numbers=5
)
P, TEXT, STRIDE, M = 4, 3, 8, 3
WEIGHTS = [[1, 1, 1], [0, 0, 1], [0, 1, 0]]


def network():
    return tiny.retnet(vocabulary=Vocab(CONFIG).size, codes=CONFIG.frame_codes)


def rows(padding_blocks=0):
    rng = np.random.default_rng(0)
    text = np.stack([pad_text([1, 2], CONFIG), pad_text([3], CONFIG)])
    frames = rng.integers(12, size=(2, M - padding_blocks, P))
    tokens = pack(text, frames, key_frame_serials(M - padding_blocks), CONFIG)
    return jnp.asarray(np.pad(tokens, ((0, 0), (0, padding_blocks * STRIDE)), constant_values=PAD))


@functools.partial(jax.jit, static_argnames="graph")
def jitted(params, tokens, weight, *, graph):
    return frame_loss(nnx.merge(graph, params), tokens, weight, CONFIG)


def loss_and_accuracy(tokens, weight, model=None):
    graph, params = nnx.split(network() if model is None else model)
    loss, metrics = jitted(params, tokens, jnp.asarray(weight, jnp.float32), graph=graph)
    return float(loss), float(metrics["accuracy"])


@pytest.mark.parametrize("row_weights", [(0, 1), (1, 2), (2, 2)])
def test_loss_is_the_mean_cross_entropy_of_the_weighted_frames(row_weights):
    tokens = rows()
    weight = [WEIGHTS[i] for i in row_weights]
    model = network()
    logits = np.asarray(model.logits(model.parallel(tokens)), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses, right = [], []
    for row in range(2):
        for block in range(M):
            for place in range(P):
                position = block * STRIDE + TEXT + 1 + place
                code = int(tokens[row, position]) - Vocab(CONFIG).frame_start
                if weight[row][block]:
                    losses.append(-log_p[row, position - 1, code])
                    right.append(logits[row, position - 1].argmax() == code)
    loss, accuracy = loss_and_accuracy(tokens, weight)
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert accuracy == pytest.approx(np.mean(right), abs=1e-6)


def test_a_row_that_lacks_nothing_has_the_loss_of_the_whole_row(dtype):
    tokens, graph = rows(), nnx.split(network())[0]
    params = nnx.to_pure_dict(nnx.split(network())[1])
    blocks = np.asarray([[0, 0, 1], [0, 0, 1]])
    each = np.zeros((2, M, STRIDE), np.float32)
    each[:, :, TEXT + 1 :] = blocks[..., None]
    after = np.pad(each.reshape(2, -1)[:, 1:], ((0, 0), (0, 1)))
    every = jnp.broadcast_to(jnp.arange(M * STRIDE + 1), (2, M * STRIDE + 1))

    def loss(params, weight, positions):
        model = nnx.merge(graph, params)
        return frame_loss(model, tokens, jnp.asarray(weight), CONFIG, positions=positions)

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    want = run(params, blocks.astype(np.float32), None)
    for first in (0, 2 * STRIDE):  # what is scored may begin late
        tiny.assert_close(run(params, after[:, first:], every), want, dtype)


def test_what_is_left_out_is_no_target_and_what_follows_it_is():
    """The loss of rows that lack ids, one prediction after the other."""
    rng, tokens = np.random.default_rng(0), np.asarray(rows())
    left_out = np.zeros((2, M, STRIDE), bool)
    left_out[:, 2, TEXT + 1 :] = [[1, 0, 1, 0], [0, 1, 1, 1]]
    few = compact(tokens, left_out.reshape(2, -1), M * STRIDE - 2)
    weight = rng.uniform(1, 2, few.tokens.shape) * np.pad(few.real[:, 1:], ((0, 0), (0, 1)))
    weight[:, : 2 * STRIDE + TEXT] = 0
    model = network()
    hidden, _ = model.chunkwise(
        jnp.asarray(few.tokens), model.init_state(2), jnp.asarray(few.length),
        jnp.asarray(few.positions),
    )  # fmt: skip
    scores = np.asarray(model.logits(hidden), np.float64)
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    want = 0.0
    for row, place in zip(*np.nonzero(weight)):
        code = few.tokens[row, place + 1] - Vocab(CONFIG).frame_start
        want -= weight[row, place] * log_p[row, place, code]
    graph, params = nnx.split(model)
    run = lambda params, tokens, weight, positions: frame_loss(
        nnx.merge(graph, params), tokens, weight, CONFIG, positions=positions
    )
    arrays = (jnp.asarray(x) for x in (few.tokens, weight, few.positions))
    got, metrics = jax.jit(run)(params, *arrays)
    assert float(got) == pytest.approx(want / weight.sum(), rel=1e-5)
    assert float(metrics["weight"]) == pytest.approx(weight.sum(), rel=1e-6)


def test_scores_count_the_ids_nearby():
    config = dataclasses.replace(tiny.NETWORK, nearby=3)
    model = tiny.retnet(config, Vocab(CONFIG).size, CONFIG.frame_codes)
    tokens, rng = rows(), np.random.default_rng(0)
    nearby = jnp.asarray(rng.integers(-1, 12, (*tokens.shape, FRAMES * TAPS)))
    scores = model.logits(model.parallel(tokens, nearby=nearby), nearby)
    log_p = jax.nn.log_softmax(scores)[:, :-1]
    codes = tokens[:, 1:] - Vocab(CONFIG).frame_start
    of_codes = jnp.take_along_axis(log_p, jnp.maximum(codes, 0)[..., None], axis=-1)
    want = -of_codes[codes >= 0].mean()
    for chunk in (12, 5):
        got, _ = frame_loss(
            model, tokens, jnp.ones((2, M)), CONFIG, nearby=nearby, loss_chunk=chunk
        )
        assert float(got) == pytest.approx(float(want), rel=1e-5)


def test_a_model_that_knows_nothing_loses_log_of_the_codebook():
    model = network()
    for head in (model.head, model.level_head):
        head[...] = jnp.zeros_like(head[...])
    loss, _ = loss_and_accuracy(rows(), [WEIGHTS[0]] * 2, model)
    assert loss == pytest.approx(np.log(12), rel=1e-6)


def test_codes_of_a_block_without_weight_are_no_targets():
    # Codes of the last block, which no later one has seen.
    tokens, weight = rows(), [[1, 1, 0]] * 2
    other = tokens.at[:, -P:].set(tokens[:, -P:][:, ::-1])
    assert (other != tokens).any()
    assert loss_and_accuracy(other, weight) == loss_and_accuracy(tokens, weight)
    assert loss_and_accuracy(other, [WEIGHTS[0]] * 2) != loss_and_accuracy(tokens, [WEIGHTS[0]] * 2)


def test_text_and_serial_numbers_are_no_targets():
    # The last block's header is read by its own frame only, which has no weight here.
    tokens, weight = rows(), [[1, 1, 0]] * 2
    other = tokens.at[:, 2 * STRIDE : 2 * STRIDE + TEXT + 1].set(2)
    assert loss_and_accuracy(other, weight) == loss_and_accuracy(tokens, weight)


def test_padding_blocks_count_for_nothing():
    short = rows(padding_blocks=1)
    weight = [[1, 1, 0]] * 2
    loss, accuracy = loss_and_accuracy(short, weight)
    assert np.isfinite(loss)
    without = loss_and_accuracy(short[:, : 2 * STRIDE], [[1, 1]] * 2)
    assert (loss, accuracy) == pytest.approx(without, rel=1e-6)


def test_no_gradient_reaches_the_codes_of_frames_without_weight():
    graph, params = nnx.split(network())
    tokens, weight = rows(), jnp.asarray([[1.0, 0, 0]] * 2)
    gradient = jax.grad(lambda p: jitted(p, tokens, weight, graph=graph)[0])(
        nnx.to_pure_dict(params)
    )
    strength = np.abs(gradient["embedding"]).max(1)
    first_blocks = np.unique(tokens[:, : STRIDE - 1])  # a frame's last id predicts nothing
    seen = np.isin(np.arange(len(strength)), first_blocks)
    assert (strength[seen] > 0).all()
    assert (strength[~seen] == 0).all()


@functools.cache
def chunked(chunk):
    """The loss by chunks of codes, its gradients, and the largest array that the maths name."""
    graph, params = nnx.split(network())
    weight = jnp.asarray([WEIGHTS[0], WEIGHTS[1]], jnp.float32)

    def loss(params):
        model = nnx.merge(graph, params)
        return frame_loss(model, rows(), weight, CONFIG, loss_chunk=chunk)

    gradients = jax.value_and_grad(loss, has_aux=True)
    largest = _largest(jax.make_jaxpr(gradients)(params).jaxpr)
    return *jax.jit(gradients)(params), largest


def _largest(jaxpr):
    """Elements of the largest result of frames' positions by codes, loops included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                sizes.append(_largest(value.jaxpr))
            elif hasattr(value, "eqns"):
                sizes.append(_largest(value))
        shapes = [out.aval.shape for out in equation.outvars]
        sizes += [shape[-1] for shape in shapes if shape[:-1] == (2, M, P) and shape[-1] <= 12]
    return max(sizes)


@pytest.mark.parametrize("chunk", [1, 5, 6, 11])
def test_codes_scored_some_at_a_time_give_the_same_loss_and_gradients(chunk):
    (loss, metrics), gradients, largest = chunked(chunk)
    (whole, wanted), expected, at_once = chunked(12)
    assert at_once == 12
    np.testing.assert_allclose(loss, whole, rtol=1e-6)
    assert metrics["accuracy"] == wanted["accuracy"]
    assert metrics["weight"] == wanted["weight"] == 4 * P
    tiny.assert_close(gradients, expected, "float32")
    # Nowhere are there more scores of a position than a chunk has codes (the network's width
    # and levels are 16 and 7, and a single code's scores are the losses themselves).
    assert largest <= max(chunk, 7)


def test_a_batch_without_weight_loses_nothing_and_has_no_gradient():
    graph, params = nnx.split(network())
    none = jnp.zeros((2, M))
    loss = lambda params: frame_loss(nnx.merge(graph, params), rows(), none, CONFIG)[0]
    value, gradients = jax.jit(jax.value_and_grad(loss))(params)
    assert value == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("task", ["key frames", "interpolation"])
def test_what_all_frames_cost_as_changes_adds_up_to_one_probability(x64, task):
    """Of every second (or inserted) frame that there can be after the same ones before it."""
    s = SequenceConfig(
        text_tokens=2, frame_grid=(2, 2), text_vocabulary=tiny.text().size, frame_codes=3,
        serial_numbers=4,
    )  # fmt: skip
    config = dataclasses.replace(
        tiny.NETWORK, slots=s.stride, code_levels=(), nearby=4, places=s.frame_tokens
    )
    experiment = NetworkExperiment(
        "tiny", text_tokens=2, serial_numbers=4, key_frames=2, key_frame_stride=2, text_drop=1.0,
        insertions=((2, 1),), interpolation_text_drop=1.0, changes=True, skip=(1.0,),
        model=dataclasses.replace(config, slots=0, places=0),
    )  # fmt: skip
    rows = RowMaker(experiment, s, tiny.text(), blocks_of_a_row(experiment))
    inserted = int(task == "interpolation")
    kind = next(k for _, k in kinds(experiment, s) if k.inserted == inserted)
    every = np.stack([np.arange(3**4) // 3**i % 3 for i in range(4)], axis=1)
    first, last = np.asarray([0, 1, 2, 2]), np.asarray([1, 1, 2, 0])

    def batch_of(frames):
        made = []
        for frame in frames:
            clip = [first, frame, last] if inserted else [first, last, frame]
            made.append(rows((tiny.PROMPTS[0], np.stack(clip)), np.random.default_rng(0), kind))
        return {name: jnp.asarray([row[name] for row in made]) for name in made[0]}

    model = tiny.retnet(config, Vocab(s).size, s.frame_codes)

    @jax.jit
    def nats(batch):
        loss, metrics = frame_loss(model, sequence=s, **batch)
        return loss * jnp.maximum(metrics["weight"], 1)

    batch = batch_of(every)
    assert len({row.sum() for row in np.asarray(batch["weight"])}) > 1  # of other lengths
    costs = jax.vmap(lambda row: nats(jax.tree.map(lambda x: x[None], row)))(batch)
    if not inserted:  # without the first frame, which all have
        alone = jax.tree.map(lambda x: x[:1], batch)
        in_first = np.asarray(alone["positions"])[:, 1:] < s.stride
        in_first = in_first[:, -alone["weight"].shape[1] :]
        alone["weight"] = jnp.where(in_first, alone["weight"], 0)
        alone["places"] = jnp.where(in_first, alone["places"], -1)
        costs = costs - nats(alone)
    assert float(jnp.exp(-costs).sum()) == pytest.approx(1, abs=1e-9)
    assert float(costs.max() - costs.min()) > 0.5
