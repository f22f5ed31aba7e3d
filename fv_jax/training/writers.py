"""Where a run's numbers and pictures go beside log.jsonl: one small interface, chosen by name.

`fv train --log tensorboard wandb` writes to both. A writer is a class with `scalars`, `picture` and
`close`; from outside the package `WRITERS.register("mine", Mine)` adds one.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from fv_jax.config.registry import Registry

WRITERS = Registry(
    "writer",
    {
        "tensorboard": "fv_jax.training.writers:TensorBoard",
        "wandb": "fv_jax.training.writers:WeightsAndBiases",
        "trackio": "fv_jax.training.writers:Trackio",
    },
)


@runtime_checkable
class Writer(Protocol):
    """What a run tells: numbers of a step, and a picture now and then."""

    where: str  # what to do to see it

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], after: int): ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """A picture file of a step."""
        ...

    def close(self) -> None:
        """Nothing comes after."""
        ...


def open_writer(
    kind: str, folder: Path, name: str, config: Mapping[str, Any], after: int
) -> Writer:
    """A writer of a kind.

    Args:
        kind: a name of `WRITERS`.
        folder: the run's.
        name: of the run, as people see it.
        config: its settings.
        after: the step that the run goes on after; what was written of later ones does not count.

    Raises:
        ValueError: no such kind, or its package is not installed.
    """
    make = WRITERS[kind]
    try:
        return make(folder, name, config, after)
    except ModuleNotFoundError as error:
        raise ValueError(f"--log {kind} needs {error.name}: pip install {error.name}") from error


class TensorBoard:
    """Files of TensorBoard in the run's folder."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], after: int):
        import tensorboardX

        self.where = f"tensorboard --logdir {folder / 'tensorboard'} (pip install tensorboard)"
        self._board = tensorboardX.SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """As `Writer`."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        """As `Writer`."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._board.add_image("sample", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """As `Writer`."""
        self._board.close()


class WeightsAndBiases:
    """https://wandb.ai, or with WANDB_MODE=offline its files in the run's folder."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], after: int):
        import wandb

        self._service: ModuleType = wandb
        self._run = wandb.init(
            project="fv-jax", name=name, id=_id_of(folder), resume="allow", dir=folder,
            config=dict(config),
        )  # fmt: skip
        self.where = f"wandb: {self._run.url or folder / 'wandb'}"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """As `Writer`."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        """As `Writer`."""
        self._run.log({"sample": self._service.Image(str(path))}, step=step)

    def close(self) -> None:
        """As `Writer`."""
        self._run.finish()


class Trackio(WeightsAndBiases):
    """https://pypi.org/project/trackio: the same calls, kept on this machine."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], after: int):
        import trackio

        self._service = trackio
        self._run = trackio.init(
            project="fv-jax", name=f"{name}-{_id_of(folder)}", resume="allow", config=dict(config),
            embed=False,
        )  # fmt: skip
        self.where = "trackio show --project fv-jax"


def _id_of(folder: Path) -> str:
    """Names a run for ever: one that is taken up goes on in the same place."""
    path = folder / "run-id"
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:12], encoding="ascii")
    return path.read_text(encoding="ascii")
