"""The model whose weights a training starts from, checked before any clip is read."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from fv_jax.config.model import RetNetConfig, SequenceConfig, to_json
from fv_jax.config.training import NetworkExperiment
from fv_jax.generation import pretrained
from fv_jax.models.nearby import NearbyIds
from fv_jax.models.places import PlaceHead
from fv_jax.sequence.vocab import Vocab
from fv_jax.training.tasks.network_data import frame_ids
from fv_jax.training.tasks.network_loss import network_config, sequence_config


def model_to_start_from(config: NetworkExperiment) -> pretrained.Model | None:
    """The model that `config.start` names; None for random weights.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing.
        ValueError: it is damaged, or its weights do not fit the training. What the longest text
            needs, where `text_tokens` is 0, is not known here: `check_fits` is to be asked again.
    """
    if not config.start:
        return None
    try:
        model = pretrained.load(config.start)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no model {config.start!r} to start from: train it first (shapes starts from "
            "`fv train shapes_images`), or give --start '' for random weights"
        ) from error
    ids = frame_ids(config)
    sequence = sequence_config(
        config,
        grid=ids.grid,
        codes=ids.tokenizer.codebook_size,
        text_vocabulary=model.text.size,
        text_tokens=config.text_tokens or model.config.sequence.text_tokens,
    )
    network = network_config(config, sequence, ids.levels)
    model = _with_gaps(model, sequence)
    model = _with(
        model, network, "nearby", lambda c: NearbyIds(c, sequence.frame_codes, rngs=nnx.Rngs(0))
    )
    model = _with(model, network, "places", lambda c: PlaceHead(c, rngs=nnx.Rngs(0)))
    check_fits(config, model, network, sequence)
    return model


def _with(
    model: pretrained.Model, network: RetNetConfig, part: str, make: Callable[[RetNetConfig], Any]
) -> pretrained.Model:
    """The model with weights for a part of the network, where it has none: it goes on as it was."""
    before = model.config.network
    if getattr(before, part) or not getattr(network, part):
        return model
    config = dataclasses.replace(before, **{part: getattr(network, part)})
    return dataclasses.replace(
        model,
        config=dataclasses.replace(model.config, network=config),
        params={**model.params, part: nnx.to_pure_dict(nnx.state(make(config), nnx.Param))},
    )


def _with_gaps(model: pretrained.Model, sequence: SequenceConfig) -> pretrained.Model:
    """The model with blocks that name their gaps, where it has none and only they are missing.

    The gap takes the last text slot, so blocks stay as long as the network has learned. Gaps are
    embedded as serial numbers are in the mean.
    """
    before = model.config.sequence
    config = dataclasses.replace(
        before, gaps=sequence.gaps, text_tokens=max(before.text_tokens - 1, 0)
    )
    if before.gaps or config != sequence:
        return model
    vocab, embedding = Vocab(config), model.params["embedding"]
    serials = embedding[vocab.serial_start : vocab.gap_start]
    gaps = jnp.broadcast_to(serials.mean(0), (len(config.gaps), serials.shape[1]))
    embedding = jnp.insert(embedding, vocab.gap_start, gaps, axis=0)
    return dataclasses.replace(
        model,
        config=dataclasses.replace(model.config, sequence=config),
        params={**model.params, "embedding": embedding},
    )


def check_fits(
    config: NetworkExperiment,
    model: pretrained.Model,
    network: RetNetConfig,
    sequence: SequenceConfig,
) -> None:
    """Refuse a model to start from that differs from what is to be trained.

    Args:
        config: the training.
        model: the model to start from.
        network: the network to be trained.
        sequence: the packed sequence that it is to be trained on.

    Raises:
        ValueError: it differs in more than how its layers are computed; says in what.
    """
    for part, wanted, got in (
        ("network", _weights_need(network), _weights_need(model.config.network)),
        ("sequence", to_json(sequence), to_json(model.config.sequence)),
    ):
        differ = [f"{k} {got[k]} instead of {v}" for k, v in wanted.items() if got[k] != v]
        if differ:
            raise ValueError(
                f"cannot start from {config.start}: its {part} has {'; '.join(differ)}"
            )


def _weights_need(network: RetNetConfig) -> dict[str, Any]:
    """The settings without which the weights mean something else."""
    ignored = ("chunk", "matmul_dtype", "shared_start")
    return {k: v for k, v in to_json(network).items() if k not in ignored}
