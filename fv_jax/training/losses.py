"""Next-token cross-entropy on frame ids (paper section 3.1: teacher forcing).

    block     [ text ........ | SN | id id id ... id ]
    predicts                    id   id id ...           the last id of a block predicts nothing

Text and serial numbers are always given, so no loss and no logits are spent on them.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from fv_jax.config import SequenceConfig
from fv_jax.models.retnet import RetNet
from fv_jax.vocab import Vocab


def frame_loss(
    model: RetNet,
    tokens: Int[Array, "B L"],
    weight: Float[Array, "B M"],
    sequence: SequenceConfig,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean cross-entropy (nats) over the frames with weight, and how often the top id is right.

    Args:
        model: read in its chunkwise form.
        tokens: packed rows, L = M * stride.
        weight: of each block's frame.
    """
    rows, length = tokens.shape
    hidden, _ = model.chunkwise(tokens, model.init_state(rows))
    blocks = (rows, length // sequence.stride, sequence.stride)
    text, p = sequence.text_tokens, sequence.frame_tokens
    logits = model.logits(hidden.reshape(*blocks, -1)[:, :, text : text + p])
    targets = tokens.reshape(blocks)[:, :, text + 1 :] - Vocab(sequence).frame_start
    # Padding blocks have no codes; their weight is 0, but the index must be valid.
    targets = jnp.maximum(targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
    right = jnp.argmax(logits, axis=-1) == targets
    total = jnp.sum(weight) * p
    loss = jnp.sum(losses * weight[..., None]) / total
    return loss, {"accuracy": jnp.sum(right * weight[..., None]) / total}
