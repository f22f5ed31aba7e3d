"""Next-token cross-entropy on frame ids (paper section 3.1: teacher forcing).

    block     [ text ........ | SN | id id id ... id ]
    predicts                    id   id id ...           the last id of a block predicts nothing

Where frames are coded as what changed, the place of the next change is predicted, too, with every
id, and with the serial number that of the first (`models/places.py`).

Text and serial numbers are always given, so no loss and no logits are spent on them. Codes are
scored some at a time: logits [B, F, P, V] never exist at once, forwards or backwards.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fv_jax.config.model import SequenceConfig
from fv_jax.models.sharding import constrain, gathered
from fv_jax.models.tables import Tables
from fv_jax.ops.products import einsum
from fv_jax.sequence.vocab import Vocab


def frame_loss(
    model: Any,
    tokens: Int[Array, "B T"],
    weight: Float[Array, "B F"],
    sequence: SequenceConfig,
    *,
    positions: Int[Array, "B tokens_and_next"] | None = None,
    nearby: Int[Array, "B T nearby"] | None = None,
    places: Int[Array, "B scored"] | None = None,
    around: Int[Array, "B later P nearby"] | None = None,
    remat: str = "none",
    loss_chunk: int = 4096,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean cross-entropy (nats) over the frames with weight, and how often the top id is right.

    Args:
        model: a `RetNet`, or what has its `init_state`, `chunkwise` and `tables`.
        tokens: packed rows, T = F * stride; with `positions` any that lack tokens.
        weight: how much each block's frame counts; with `positions` how much the prediction after
            each of the last tokens does.
        positions: of the tokens that are left of rows, see `RetNet.chunkwise`.
        nearby: likewise.
        places: where the frame changes again after the id that each weight is of, see `RowMaker`.
        around: codes around all places of the frames after the first.
        remat: what the backward pass computes again (`models/retnet.py: scan_layers`).
        loss_chunk: codes that are scored at a time.

    Returns:
        The loss, and `accuracy`; `weight` is the number of ids that both are means over. With
        `places` the loss is that of ids and places, over all ids of the frames that are predicted:
        those that do not change count, so it can be compared with a loss of all ids. `places` is
        the places' part of it, and `accuracy` that of changes.
    """
    rows, length = tokens.shape
    given = {"positions": positions, "nearby": nearby}
    given = {name: value for name, value in given.items() if value is not None}
    hidden, _ = model.chunkwise(tokens, model.init_state(rows), **given, remat=remat)
    if positions is None:
        blocks, p = (rows, length // sequence.stride, sequence.stride), sequence.frame_tokens
        of_frames = lambda x: x.reshape(*blocks, -1)[:, :, sequence.header - 1 : -1]
        targets = tokens.reshape(blocks)[:, :, sequence.header :]
    else:  # each token is a frame of its own
        first, p = length - weight.shape[1], 1
        of_frames = lambda x: x[:, first:, None]
        targets = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))[:, first:, None]
    # Padding has no codes; its weight is 0, but the index must be valid.
    targets = jnp.maximum(targets - Vocab(sequence).frame_start, 0)
    nearby = None if nearby is None else of_frames(nearby)
    losses, right = cross_entropy(model.tables(), of_frames(hidden), targets, loss_chunk, nearby)
    total = jnp.sum(weight) * p
    # A part of a batch may have no frame with weight: it weighs nothing.
    mean = lambda values: jnp.sum(values * weight[..., None]) / jnp.maximum(total, 1)
    accuracy = mean(right)
    if places is None:
        return mean(losses), {"accuracy": accuracy, "weight": total}
    # All frames count alike, however little changes in them: as many ids each as they have.
    slot = positions[:, first + 1 :] % sequence.stride
    begins = jnp.sum((places >= 0) & (slot == sequence.header - 1))
    dense = jnp.sum(weight * (positions[:, first + 1 :] < sequence.stride))
    total = begins * sequence.frame_tokens + dense
    costs = _place_costs(model.tables(), hidden, tokens, positions, places, around, sequence)
    of_places = jnp.sum(costs) / jnp.maximum(total, 1)
    loss = jnp.sum(losses * weight[..., None]) / jnp.maximum(total, 1) + of_places
    return loss, {"accuracy": accuracy, "weight": total, "places": of_places}


def _place_costs(
    tables: Tables, hidden: Float[Array, "B T D"], tokens: Int[Array, "B T"],
    positions: Int[Array, "B tokens_and_next"], places: Int[Array, "B scored"],
    around: Int[Array, "B later P nearby"], sequence: SequenceConfig,
) -> Float[Array, "B scored"]:  # fmt: skip
    """What it costs (nats) to say where the frame changes next; 0 where that is not asked."""
    head, first = tables.places, tokens.shape[1] - places.shape[1]
    following = jnp.pad(tokens[:, first + 1 :], ((0, 0), (0, 1)))
    embedded = gathered(tables.embedding, ("vocabulary", "embed"))[following]
    block, slot = jnp.divmod(positions[:, first + 1 :], sequence.stride)
    scores, query = head.after(hidden[:, first:], embedded)
    # A query meets the places of its own frame.
    of_frame = jax.nn.one_hot(block - 1, around.shape[1], dtype=query.dtype)
    apart = query[:, :, None] * of_frame[..., None]
    by_key = einsum("bsfc,bfpc->bsp", apart, head.keys(tables.nearby, around))
    here = jnp.maximum(slot - sequence.header, -1)
    scores = head.beyond(scores, by_key, here).astype(_wide(hidden))
    target = jnp.take_along_axis(scores, jnp.maximum(places, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(places < 0, 0, jax.nn.logsumexp(scores, axis=-1) - target)


def cross_entropy(
    tables: Tables,
    hidden: Float[Array, "B F P D"],
    targets: Int[Array, "B F P"],
    chunk: int,
    nearby: Int[Array, "B F P nearby"] | None = None,
) -> tuple[Float[Array, "B F P"], Bool[Array, "B F P"]]:
    """Cross-entropy (nats) of the targets, and whether no code scores higher than the target.

    Args:
        tables: whose head scores the codes.
        hidden: vectors to score from.
        targets: codes.
        chunk: codes that are scored at a time; the backward pass scores them again.
        nearby: codes around what is scored, see `RetNet.chunkwise`.
    """
    codes = tables.head.shape[1]
    chunks = -(-codes // chunk)
    size = -(-codes // chunks)
    # Chunk c holds codes c, c + chunks, ..: each device that holds a part of the codes holds a
    # part of every chunk.
    head = gathered(tables.head, ("embed", "codes"))
    head = jnp.pad(head, ((0, 0), (0, chunks * size - codes)))
    head = head.reshape(-1, size, chunks).transpose(2, 0, 1)
    head = constrain(head, None, None, "codes")

    def score(carry, inputs):
        highest, total, of_target = carry
        part, index = inputs
        code = jnp.arange(size) * chunks + index
        logits = tables.scores(hidden, part, code, nearby).astype(_wide(hidden))
        logits = constrain(logits, "rows", "tokens", None, "codes")
        logits = jnp.where(code < codes, logits, -jnp.inf)
        peak = jax.lax.stop_gradient(jnp.maximum(highest, logits.max(-1)))
        total = total * jnp.exp(highest - peak) + jnp.exp(logits - peak[..., None]).sum(-1)
        hit = code == targets[..., None]
        return (peak, total, of_target + jnp.where(hit, logits, 0).sum(-1)), None

    zero = jnp.zeros(targets.shape, _wide(hidden))
    first = (zero - jnp.inf, zero, zero)
    if chunks == 1:
        (highest, total, of_target), _ = score(first, (head[0], 0))
    else:
        score = jax.checkpoint(score, prevent_cse=False)
        (highest, total, of_target), _ = jax.lax.scan(score, first, (head, jnp.arange(chunks)))
    return highest + jnp.log(total) - of_target, of_target >= highest


def _wide(x: Array):
    return jnp.promote_types(x.dtype, jnp.float32)
