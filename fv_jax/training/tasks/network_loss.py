"""What is trained of a network, without data: weights, loss, shape of the batches."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fv_jax.config.model import NEARBY_FRAMES, NEARBY_TAPS, RetNetConfig, SequenceConfig
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.rows import blocks_of_a_row, first_scored, key_frame_blocks, kinds
from fv_jax.generation import pretrained
from fv_jax.models.retnet import RetNet
from fv_jax.models.sharding import of_params
from fv_jax.sequence.vocab import Vocab
from fv_jax.training.losses import frame_loss
from fv_jax.training.mesh import resolved
from fv_jax.training.state import Params


class NetworkLoss:
    """The part of `NetworkTask` that needs no data; enough to estimate and compile a step.

    Attributes:
        sequence: what a row is packed from.
        network: sizes of the network, with slots and code levels as the sequence needs them.
        blocks: blocks of a row.
        parts: that a row's tokens are cut into.
        tokens_per_step: padding included; on average, where batches differ.
    """

    def __init__(
        self, config: NetworkExperiment, sequence: SequenceConfig, levels: tuple[int, ...],
        devices: int,
    ):  # fmt: skip
        """`levels`: of the tokenizer's codes, () if it has none; `devices`: of the mesh."""
        self.config, self.sequence = config, sequence
        self.frozen: dict[str, Any] = {}
        self.start: Params | None = None
        self.network = network_config(config, sequence, levels)
        # A row is cut between blocks, so that each device scores whole frames.
        self.parts = resolved(config.run.mesh, devices).sequence
        self.blocks = blocks_of_a_row(config, self.parts)
        whole = self.blocks * sequence.stride
        lengths = [
            (share, kind.length or whole) for share, kind in kinds(config, sequence, self.parts)
        ]
        mean = sum(share * length for share, length in lengths)
        self.tokens_per_step = round(config.run.batch_size * mean)
        self._graph = pretrained.network_graph(self.network, sequence)

    def init(self, key: jax.Array) -> Params:
        """Random weights."""
        return nnx.to_pure_dict(nnx.state(self._model(key), nnx.Param))

    def axes(self) -> Any:
        """Logical axes of every weight."""
        return of_params(nnx.eval_shape(lambda: self._model(jax.random.key(0))))

    def loss(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Cross-entropy of frame ids; the key is not used (there is no dropout)."""
        del key
        return frame_loss(
            nnx.merge(self._graph, params), batch["tokens"], batch["weight"], self.sequence,
            **{name: values for name, values in batch.items() if name not in ("tokens", "weight")},
            remat=self.config.remat, loss_chunk=self.config.loss_chunk,
        )  # fmt: skip

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the largest batch of all processes."""
        length, nearby = self.blocks * self.sequence.stride, NEARBY_FRAMES * NEARBY_TAPS
        shapes: dict[str, tuple[int, ...]] = {"tokens": (length,), "weight": (self.blocks,)}
        if self.config.changes:
            choices = kinds(self.config, self.sequence, self.parts)
            kind = max((kind for _, kind in choices), key=lambda kind: kind.length)
            length = kind.length
            scored = length - first_scored(self.sequence, kind.inserted, self.parts)
            later = (kind.inserted + 2 if kind.inserted else key_frame_blocks(self.config)) - 1
            shapes = {
                "tokens": (length,), "weight": (scored,), "places": (scored,),
                "positions": (length + 1,),
                "around": (later, self.sequence.frame_tokens, nearby),
            }  # fmt: skip
        if self.network.nearby:
            shapes["nearby"] = (length, nearby)
        rows, dtype = self.config.run.batch_size, {"weight": jnp.float32}
        return {
            name: jax.ShapeDtypeStruct((rows, *shape), dtype.get(name, jnp.int32))
            for name, shape in shapes.items()
        }

    def _model(self, key: jax.Array) -> RetNet:
        s = self.sequence
        return RetNet(self.network, Vocab(s).size, s.frame_codes, rngs=nnx.Rngs(key))


def sequence_config(
    config: NetworkExperiment,
    *,
    grid: tuple[int, int],
    codes: int,
    text_vocabulary: int,
    text_tokens: int,
) -> SequenceConfig:
    """The packed sequence of an experiment.

    Args:
        config: the experiment.
        grid: (h, w) ids of a frame.
        codes: the number of ids of the frame tokenizer.
        text_vocabulary: the number of text ids.
        text_tokens: the text slots of a block.
    """
    return SequenceConfig(
        text_tokens=text_tokens,
        frame_grid=grid,
        text_vocabulary=text_vocabulary,
        frame_codes=codes,
        serial_numbers=config.serial_numbers,
        gaps=config.gaps,
    )


def network_config(
    config: NetworkExperiment, sequence: SequenceConfig, levels: tuple[int, ...]
) -> RetNetConfig:
    """The network of an experiment, with slots, code levels and places as its sequence has them."""
    return dataclasses.replace(
        config.model,
        slots=sequence.stride if config.slot_embeddings else 0,
        code_levels=levels if config.level_embeddings else (),
        places=sequence.frame_tokens if config.changes else 0,
    )


def of_expected_data(config: NetworkExperiment, devices: int) -> NetworkLoss:
    """The loss of an experiment whose data is not at hand, but known (`config.expected`).

    Raises:
        ValueError: nothing is known of the data.
    """
    expected = config.expected
    if expected is None or not config.text_tokens:
        raise ValueError(
            f"{config.name} does not say what its data is like (`expected`, `text_tokens`)"
        )
    sequence = sequence_config(
        config, grid=expected.frame_grid, codes=expected.frame_codes,
        text_vocabulary=expected.text_vocabulary, text_tokens=config.text_tokens,
    )  # fmt: skip
    return NetworkLoss(config, sequence, expected.code_levels, devices)
