"""Checkpoints: weights, optimizer, data position and config as one orbax composite."""

import dataclasses
from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp

from fv_jax.config import to_json
from fv_jax.training.state import TrainState


class Checkpointer:
    """Saves in the background, keeps the newest few, restores the newest."""

    def __init__(self, folder: Path, *, keep: int):
        self._manager = ocp.CheckpointManager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
        )

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data: Any, config: Any) -> None:
        """Write a checkpoint named by its step, unless that step is there already."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_tree(state)),
                data=grain.checkpoint.CheckpointSave(data),
                config=ocp.args.JsonSave(to_json(config)),
            ),
        )

    def config(self) -> dict[str, Any]:
        """The config that the newest checkpoint was made with, as JSON values."""
        step = self._manager.latest_step()
        items = ocp.args.Composite(config=ocp.args.JsonRestore())
        return self._manager.restore(step, args=items)["config"]

    def restore(self, state: TrainState, data: Any) -> TrainState:
        """The newest checkpoint's state; `data` is moved to its position.

        Args:
            state: a state of the same structure (it gives shapes, dtypes and shardings).
            data: the grain iterator, set in place.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _tree(state))
        restored = self._manager.restore(
            self._manager.latest_step(),
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),
                data=grain.checkpoint.CheckpointRestore(data),
            ),
        )
        return TrainState(**restored["state"])

    def close(self) -> None:
        """Wait for the last save."""
        self._manager.wait_until_finished()
        self._manager.close()


def _tree(state: TrainState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
