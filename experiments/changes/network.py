"""Three networks for key frames: the paper's, the same with features, and one of changes.

    dense     h -> id of the next place                                       (the core's RetNet)
    features  + what stood around that place in the key frame before          (3x3 ids)
    changes   h -> id at the place that was chosen; h + MLP(id) -> the next changed place, or END

A token of the network of changes knows where the next one stands: its query is turned to there
(`models/retnet.py`), and the place's slot and its 3x3 ids are added to its embedding. Of these,
places before it have the new frame's ids already. An id is never that of the frame before at its
place, a place never lies before the last one: the code of a video is the only one, and the sum of
what its events cost is its likelihood.

A place is scored by the hidden vector, by how far ahead it lies, and by what stands around it in
the frame before (a query against keys): a network cannot turn to a place that it does not know yet.
All that is not in the core's network starts such that it adds nothing.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from fv_jax.config.model import RetNetConfig, SequenceConfig
from fv_jax.models import sequence_parallel
from fv_jax.models.retnet import RetNet, rope_of_tokens, scan_layers
from fv_jax.sequence.packing import key_frame_serials
from fv_jax.sequence.vocab import Vocab

WAYS = ("dense", "features", "changes")
_NEAR, _FEATURES = 32, 64  # channels of an id beside a place; of a place
NEVER = -1e9


class KeyFrameNetwork(nnx.Module):
    """One of `WAYS`; `network` is the core's, the rest is the way's own."""

    def __init__(self, config: RetNetConfig, sequence: SequenceConfig, way: str, *, rngs: nnx.Rngs):
        self.sequence, self.way = sequence, way
        width, codes = config.width, sequence.frame_codes
        self.network = RetNet(config, Vocab(sequence).size, codes, rngs=rngs)

        def random(*shape: int) -> nnx.Param:
            return nnx.Param(jax.random.normal(rngs.params(), shape) * shape[0] ** -0.5)

        zeros = lambda *shape: nnx.Param(jnp.zeros(shape))
        if way != "dense":
            self.near = nnx.Param(jax.random.normal(rngs.params(), (codes + 1, _NEAR)))
            self.taps = random(9 * _NEAR, _FEATURES)
            self.read = zeros(_FEATURES, width)
        if way == "changes":
            places = sequence.frame_tokens + 1  # the last is END
            self.target = zeros(sequence.stride, width)
            self.up, self.down = random(2 * width, 2 * width), zeros(2 * width, width)
            self.place, self.ahead = random(width, places), zeros(places)
            self.query, self.key = random(width, _NEAR), random(_FEATURES, _NEAR)

    def around(self, ids: Int[Array, "*b nine"]) -> Float[Array, "*b C"]:
        """Features of places by the 3x3 ids around each (`frame_codes` where there is none)."""
        near = self.near[...][ids].reshape(*ids.shape[:-1], -1)
        return jax.nn.silu(near @ self.taps[...])

    def keys(self, before: Int[Array, "*b P"]) -> Float[Array, "*b P C"]:
        """What places are found by, of the frame before."""
        return self.around(surroundings(before, self.sequence)) @ self.key[...]

    def toward(
        self, slot: Int[Array, "*b"], ids: Int[Array, "*b nine"], moves: Array
    ) -> Float[Array, "*b D"]:
        """What is added to a token of which the next stands in `slot`, amid `ids` if it `moves`."""
        read = jnp.where(moves[..., None], self.around(ids) @ self.read[...], 0)
        return self.target[...][slot] + read

    def places(
        self, hidden: Float[Array, "*b D"], embedded: Float[Array, "*b D"],
        here: Int[Array, "*b"], found: Any,
    ) -> Float[Array, "*b P"]:  # fmt: skip
        """Scores of the places beyond `here` (-1: of all) and of END, after an id was chosen there.

        Args:
            hidden: the vector that the id was chosen from.
            embedded: the id's.
            here: its place.
            found: (queries [*b, C]) -> scores of places by their keys, [*b, P].
        """
        both = jnp.concatenate([hidden, embedded * embedded.shape[-1] ** 0.5], axis=-1)
        x = hidden + embedded + jax.nn.silu(both @ self.up[...]) @ self.down[...]
        scores = x @ self.place[...]
        ahead = jnp.arange(scores.shape[-1]) - here[..., None] - 1
        scores = scores + self.ahead[...][jnp.maximum(ahead, 0)]
        by_key = found(x @ self.query[...]) * _NEAR**-0.5
        scores = scores + jnp.pad(by_key, (*[(0, 0)] * here.ndim, (0, 1)))
        return jnp.where(ahead >= 0, scores, NEVER)


@functools.cache
def _beside(sequence: SequenceConfig) -> Int[np.ndarray, "P nine"]:
    """The 3x3 places around each, row by row; P for those outside of the frame."""
    h, w = sequence.frame_grid
    places = np.pad(np.arange(h * w, dtype=np.int32).reshape(h, w), 1, constant_values=h * w)
    return np.stack(
        [places[i : i + h, j : j + w].ravel() for i in range(3) for j in range(3)], axis=1
    )


def surroundings(ids: Int[Array, "*b P"], sequence: SequenceConfig) -> Int[Array, "*b P nine"]:
    """The 3x3 ids around every place of frames; `frame_codes` where there is none."""
    outside = jnp.full((*ids.shape[:-1], 1), sequence.frame_codes, ids.dtype)
    return jnp.concatenate([ids, outside], axis=-1)[..., _beside(sequence)]


def around_place(
    new: Int[Array, "*b P"], old: Int[Array, "*b P"], place: Int[Array, "*b"],
    sequence: SequenceConfig,
) -> Int[Array, "*b nine"]:  # fmt: skip
    """The 3x3 ids around a place of each frame: `new` before the place, `old` from it on."""
    beside = jnp.asarray(_beside(sequence))[place]
    outside = [(0, 0)] * place.ndim + [(0, 1)]
    pad = lambda ids: jnp.pad(ids, outside, constant_values=sequence.frame_codes)
    look = lambda ids: jnp.take_along_axis(pad(ids), beside, axis=-1)
    return jnp.where(beside < place[..., None], look(new), look(old))


def hidden(
    network: RetNet, tokens: Int[Array, "B T"], added: Array | float,
    positions: Int[Array, "B tokens_and_next"] | None = None, length: Any = None,
) -> tuple[Float[Array, "B T D"], Any]:  # fmt: skip
    """`RetNet.chunkwise` from the first token on, with vectors added to the embeddings."""
    rows, count = tokens.shape
    state = network.init_state(rows)
    length = jnp.full((rows,), count) if length is None else length
    dtype = state.retention.dtype
    at, rope = rope_of_tokens(network.config, state.position, count, dtype, positions)
    gaps = None if positions is None else at
    form = functools.partial(sequence_parallel.chunkwise, chunk=network.config.chunk)

    def layer(x, block_and_state):
        block, r = block_and_state
        retain = lambda q, k, v, decay: form(q, k, v, decay, r, state.position, length, gaps, rope)
        return block(x, retain)

    x, r = scan_layers(layer, network.embed(tokens, at) + added, (network.blocks, state.retention))
    return network.norm(x), dataclasses.replace(state, retention=r, position=state.position + count)


def whole_rows(
    text: Int[Array, "B text"], frames: Int[Array, "B F P"], sequence: SequenceConfig
) -> Int[Array, "B T"]:
    """`sequence.packing.pack` of key frames, inside jit."""
    vocab = Vocab(sequence)
    serials = jnp.asarray([vocab.serial(n) for n in key_frame_serials(frames.shape[1])])
    serials = jnp.broadcast_to(serials[:, None], (*frames.shape[:2], 1))
    text = jnp.broadcast_to(text[:, None], (*frames.shape[:2], text.shape[1]))
    blocks = jnp.concatenate([text, serials, frames + vocab.frame_start], axis=-1)
    return blocks.reshape(len(frames), -1).astype(jnp.int32)


def nats(
    model: KeyFrameNetwork, batch: dict[str, Array]
) -> tuple[Float[Array, "B F"], Float[Array, "B F"]]:
    """What every frame of a batch of `rows.SortedBatches` costs: its ids, and its places."""
    batch = {name: jnp.asarray(values) for name, values in batch.items()}
    return (_of_changes if model.way == "changes" else _of_all_ids)(model, batch)


def _cost(logits: Float[Array, "*b V"], target: Int[Array, "*b"]) -> Float[Array, "*b"]:
    of_target = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - of_target


def _of_all_ids(model, batch):
    s, frames = model.sequence, batch["frames"]
    rows, count = frames.shape[:2]
    added: Any = 0.0
    if model.way == "features" and count > 1:
        of_places = model.around(surroundings(frames[:, :-1], s)) @ model.read[...]
        added = jnp.zeros((rows, count, s.stride, of_places.shape[-1]), of_places.dtype)
        added = added.at[:, 1:, s.header - 1 : -1].set(of_places).reshape(rows, -1, added.shape[-1])
    x, _ = hidden(model.network, whole_rows(batch["text"], frames, s), added)
    x = x.reshape(rows, count, s.stride, -1)[:, :, s.header - 1 : -1]
    ids = _cost(model.network.logits(x), frames).sum(-1)
    return ids, jnp.zeros_like(ids)


def _of_changes(model, batch):
    s, frames, length = model.sequence, batch["frames"], batch["length"]
    tokens, positions = batch["tokens"], batch["positions"]
    rows, count, size = *frames.shape[:2], tokens.shape[1]
    row, inside = jnp.arange(rows)[:, None], jnp.arange(size) < length[:, None] - 1
    after = positions[:, 1:]  # where the next one stands
    slot, block = after % s.stride, jnp.minimum(after // s.stride, count - 1)
    here = jnp.where(slot >= s.header, slot - s.header, -1)
    at, predicted = jnp.maximum(here, 0), inside & (here >= 0)
    moves = predicted & (block > 0)
    new, old = frames[row, block, at], frames[row, jnp.maximum(block - 1, 0), at]

    # Changes begin behind the second header; nothing before it needs a feature or a place.
    later = s.stride + s.header - 2
    of_later = lambda x: x[:, later:]
    ids = around_place(
        frames[row, of_later(block)], frames[row, jnp.maximum(of_later(block) - 1, 0)],
        of_later(at), s,
    )  # fmt: skip
    added = model.target[...][slot[:, :later]]
    toward = model.toward(of_later(slot), ids, of_later(moves))
    added = jnp.concatenate([added, toward], axis=1)
    x, _ = hidden(model.network, tokens, added, positions, length)

    # Ids: as many tokens as are no header of a later frame, in each row.
    scored = jnp.argsort(~predicted, axis=1, stable=True)[:, : size - count * s.header]
    take = lambda y: jnp.take_along_axis(y, scored, axis=1)
    logits = model.network.logits(jnp.take_along_axis(x, scored[..., None], axis=1))
    is_old = (jnp.arange(logits.shape[-1]) == take(old)[..., None]) & take(moves)[..., None]
    of_ids = _cost(jnp.where(is_old, NEVER, logits), take(new)) * take(predicted)

    # Places: after each changed id, and after the serial number for the first.
    chosen = of_later(inside & (slot >= s.header - 1) & (block > 0))
    following = jnp.concatenate([after[:, 1:], after[:, -1:]], axis=1)
    ends = jnp.arange(size) == length[:, None] - 2
    then = jnp.where((following // s.stride == block) & ~ends, following % s.stride, s.stride)
    keys = model.keys(frames[:, :-1])
    in_block = jax.nn.one_hot(of_later(block) - 1, count - 1, dtype=keys.dtype)
    every = lambda q: jnp.einsum("btc,bfpc->bftp", q, keys)
    found = lambda q: jnp.einsum("bftp,btf->btp", every(q), in_block)
    following_ids = of_later(jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))))
    embedded = model.network.tables().embedding[following_ids]
    scores = model.places(of_later(x), embedded, of_later(here), found)
    of_places = _cost(scores, jnp.clip(of_later(then) - s.header, 0, s.frame_tokens)) * chosen
    by_frame = lambda cost, block: jnp.einsum(
        "bt,btf->bf", cost, jax.nn.one_hot(block, count, dtype=cost.dtype)
    )
    return by_frame(of_ids, take(block)), by_frame(of_places, of_later(block))
