"""A training without our changes to the network: what `--faithful` means.

RetNet's own decays and angles, no slot embeddings, no level embeddings, no gap tokens, nothing left
out of the rows, and a plain start: rows of the embedding are independent, and no weights of text to
image. What else differs from the paper stays; docs/deviations.md says of which runs each deviation
holds.
"""

import dataclasses

from fv_jax.config.training import NetworkExperiment


def faithful(config: NetworkExperiment) -> NetworkExperiment:
    """The same training with the network as the paper and RetNet have it, under a name of its own.

    Args:
        config: of a training that starts from random weights here, whatever `start` says.
    """
    model = dataclasses.replace(
        config.model, memory_tokens=None, angles="geometric", shared_start=False
    )
    return dataclasses.replace(
        config,
        name=f"{config.name}_faithful",
        start="",
        model=model,
        slot_embeddings=False,
        level_embeddings=False,
        gaps=(),
        skip=(),
        skip_given=False,
    )
