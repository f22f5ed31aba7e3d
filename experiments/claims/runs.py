"""Small trainings that differ in one thing, each taken up where it was left.

A run has a folder `out/claims/BUDGET/NAME-SEED`. It starts from the run of images (`image`) of the
same network and seed, as the shipped model does, since little text is learned from videos alone
(`experiments/shapes.py`). What several claims need is trained once.

BUDGET fixes network, data and steps: "small" is minutes of one CPU core for each run, "shipped"
has the shipped model's network, for a GPU.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.claims.changes import Change, as_it_is
from experiments.claims.transformer import OPTIONS, EmbeddedTransformer, TransformerEngine
from fv_jax.config.model import PRESETS, RetNetConfig
from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig
from fv_jax.data.rows import Kind, RowMaker
from fv_jax.files import replacing, write_text
from fv_jax.generation import pretrained
from fv_jax.generation.engine import Engine
from fv_jax.generation.generator import Generator
from fv_jax.media.montage import montage, save_png
from fv_jax.sequence.vocab import Vocab
from fv_jax.training.loop import train
from fv_jax.training.tasks.network import NetworkTask
from fv_jax.training.tasks.network_data import network_data

OUT = Path("out")


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every run of a comparison has in common."""

    network: RetNetConfig
    image_steps: int
    steps: int
    insert_steps: int  # of interpolation alone
    batch_size: int = 8
    key_frame_share: float = 0.75  # of the rows; words are learned from key frames
    data: str = "shapes,split=train,count=12000"
    valid: str = "shapes,split=valid,count=256"


BUDGETS = {
    "small": Budget(
        RetNetConfig(width=96, layers=3, heads=4, value_width=192, hidden=128, angles="even"),
        image_steps=600, steps=2000, insert_steps=800,
    ),
    "shipped": Budget(PRESETS["shapes"], image_steps=1500, steps=6000, insert_steps=3000),
    "tiny": Budget(  # for tests
        RetNetConfig(width=24, layers=1, heads=2, value_width=48, hidden=32, angles="even"),
        image_steps=2, steps=2, insert_steps=2, batch_size=2, data="shapes,split=train,count=8",
        valid="shapes,split=valid,count=16",
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network of a comparison.

    Attributes:
        name: of its runs.
        change: of the packed sequence.
        network: settings that differ from the budget's.
        transformer: the baseline instead of the RetNet.
        images: name of the image run to start from, "" for none.
        tasks: "both", or "insert" for interpolation alone.
        weight: loss weights of a row's blocks, None for the task's own.
    """

    name: str
    change: Change = as_it_is
    network: tuple[tuple[str, Any], ...] = ()
    transformer: bool = False
    images: str = "image"
    tasks: str = "both"
    weight: tuple[float, ...] | None = None


BASELINE = Variant("baseline")


class ClaimTask(NetworkTask):
    """A `NetworkTask` of a variant."""

    def __init__(self, config: NetworkExperiment, variant: Variant):
        super().__init__(config, network_data(config, OUT / "tokens"))
        self.variant = variant
        self.rows = _Rows(config, self.sequence, self.text, self.blocks, variant=variant)
        if variant.transformer:
            self._graph = nnx.graphdef(nnx.eval_shape(lambda: self._model(jax.random.key(0))))

    def axes(self) -> Any:
        """Every device keeps all weights: there are few."""
        return None if self.variant.transformer else super().axes()

    def sample(self, params: Any, picture: Path) -> dict[str, float]:
        """Videos as a montage; loss and accuracy on unseen clips."""
        if self.config.key_frame_share:
            clips = self.generator(params).generate(self.prompts, seed=0, options=OPTIONS)
            save_png(montage(clips), picture)
        return self._validate(params)

    def validate(self, params: Any) -> dict[str, float]:
        """Loss and accuracy on unseen clips, rows changed as in training; the same for all."""
        return self._validate(params)

    def export(self, params: Any, folder: Path, record: dict[str, Any]) -> None:
        """Weights, float32, in the order of `jax.tree.leaves`; and the record."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "weights.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, *jax.tree.leaves(params))
        write_text(folder / "training.json", json.dumps(record, indent=1) + "\n")

    def generator(self, params: Any, *, changed: bool = True) -> Generator:
        """Samples from the variant; not `changed`, into sequences that the caller has changed."""
        model = pretrained.Model(
            self.config.name, self._model_config(), params, self.frames, self.text
        )
        if self.variant.transformer:
            return Generator(model, TransformerEngine(model, params, self.network))
        return Generator(model, _ChangedEngine(model, self.variant.change) if changed else None)

    def _model(self, key: jax.Array) -> Any:
        if not self.variant.transformer:
            return super()._model(key)
        s = self.sequence
        return EmbeddedTransformer(self.network, Vocab(s).size, s.frame_codes, rngs=nnx.Rngs(key))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run: its task, averaged weights and folder."""

    task: ClaimTask
    params: Any
    folder: Path
    record: dict[str, Any]


def trained(variant: Variant, seed: int, budget: str) -> Trained:
    """The variant's run with this seed, trained now as far as it is not."""
    start = None
    if variant.images:
        changed = variant.network or variant.transformer
        images = dataclasses.replace(
            variant, name=f"image-{variant.name}" if changed else variant.images,
            images="", change=as_it_is,
        )  # fmt: skip
        start = _run(images, seed, budget, images_only=True).params
    return _run(variant, seed, budget, start=start)


def is_trained(variant: Variant, seed: int, budget: str) -> bool:
    """Whether the run is finished."""
    return (Path(settings(variant, seed, budget).run.folder) / "done").exists()


def _run(
    variant: Variant, seed: int, budget: str, *, start: Any = None, images_only: bool = False
) -> Trained:
    config = settings(variant, seed, budget, images_only=images_only)
    task = ClaimTask(config, variant)
    task.start = start
    folder = Path(config.run.folder)
    done, weights = folder / "done", folder / "model" / "weights.npz"
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    leaves, tree = jax.tree.flatten(shapes)
    if not done.exists():
        train(task, config, folder)
        write_text(done, "")  # a run that is stopped leaves weights, too
    with np.load(weights) as file:
        arrays = [jnp.asarray(file[name]) for name in file.files]
    if [a.shape for a in arrays] != [leaf.shape for leaf in leaves]:
        raise ValueError(f"{weights} are of another network; delete {folder}")
    record = json.loads((folder / "model" / "training.json").read_text(encoding="utf-8"))
    return Trained(task, jax.tree.unflatten(tree, arrays), folder, record)


def settings(
    variant: Variant, seed: int, budget: str, *, images_only: bool = False
) -> NetworkExperiment:
    """The training's settings."""
    b = BUDGETS[budget]
    steps = b.steps if variant.tasks == "both" else b.insert_steps
    rows = b.batch_size
    if images_only:
        steps, rows = b.image_steps, 3 * b.batch_size
    config = NetworkExperiment(
        name=variant.name,
        data=b.data, valid=b.valid,
        model=dataclasses.replace(b.network, **dict(variant.network)),
        optimizer=OptimizerConfig(
            final_learning_rate=1e-3 if images_only else 3e-5, warmup_steps=100, ema_decay=0.99
        ),
        run=RunConfig(
            steps=steps, batch_size=rows, seed=seed, sample_every=10**6, checkpoint_every=100,
            keep_checkpoints=1, folder=str(OUT / "claims" / budget / f"{variant.name}-{seed}"),
        ),
        key_frame_share=b.key_frame_share if variant.tasks == "both" else 0.0,
    )  # fmt: skip
    return dataclasses.replace(config, key_frames=1, insertions=()) if images_only else config


@dataclasses.dataclass(frozen=True)
class _Rows(RowMaker):
    """A `RowMaker` whose rows are changed."""

    variant: Variant = BASELINE

    def __call__(
        self, clip: Any, rng: np.random.Generator, kind: Kind | None = None
    ) -> dict[str, np.ndarray]:
        row = super().__call__(clip, rng, kind)
        tokens = self.variant.change(row["tokens"][None], self.sequence)[0]
        weight = self.variant.weight
        weights = row["weight"] if weight is None else np.asarray(weight, np.float32)
        return {"tokens": tokens.astype(np.int32), "weight": weights}


class _ChangedEngine(Engine):
    """An `Engine` that samples into changed sequences."""

    def __init__(self, model: pretrained.Model, change: Change):
        super().__init__(model)
        self._change = change

    def decode(self, state, sampler, stats, *, tokens, **more):
        """As `Engine.decode`."""
        changed = self._change(tokens, sampler.sequence).astype(np.int32)
        return super().decode(state, sampler, stats, tokens=changed, **more)
