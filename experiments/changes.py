"""Small trainings on key frames alone, told all ids or what changes, for `fv bench changes`.

    dense     every id of every key frame, each a step (paper section 3.2)
    features  the same, told the 3x3 ids of the key frames before around each place
    changes   after the first frame only what changes, told the same (`sequence/changes.py`)

Those of one seed start from the same weights: `images` trains the dense network on first frames
with their texts, which little is learned of from videos alone (`experiments/shapes.py`). They see
the same clips in the same order, and the learning rate stays where it is after the warm-up, so that
a curve can be read at any step or time; what is scored is the running average of the weights. Each
run is taken up where it was left, and one that is done may go on.

Rows of changes have the room that they need, of a few lengths (`RowMaker.batches_of`): nothing is
cut off.
"""

import dataclasses
import functools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.arcade_tokenizer import GAMES
from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig
from fv_jax.files import write_text
from fv_jax.generation.generator import Generator
from fv_jax.training.loop import train
from fv_jax.training.mesh import make_layout
from fv_jax.training.program import build_program
from fv_jax.training.tasks.network import NetworkTask
from fv_jax.training.tasks.network_data import network_data
from fv_jax.training.tasks.start import model_to_start_from

WAYS = ("dense", "features", "changes")
OUT = Path("out")
_NEARBY = 32
_POINTS = 8  # of a curve
_TIMED = 24  # batches: those of changes differ in length
_ROOMS = (0.125, 0.1875, 0.25, 0.5, 1.0)  # of the ids of later frames, for those that change
_ROWS = 8  # scored at a time


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the trainings on one set of clips have in common."""

    data: str
    valid: str
    network: RetNetConfig
    batch_size: int
    image_steps: int
    image_rows: int
    text_tokens: int
    tokenizer: str = "shapes"
    fps: float = 8.0
    size: int = 64
    warm_up: int = 50


_SMALL = RetNetConfig(width=96, layers=3, heads=4, value_width=192, hidden=128, angles="even")
_GAMES = f"arcade:games={'+'.join(GAMES)},split="
BUDGETS = {
    "shapes": Budget(
        "shapes,split=train,count=12000", "shapes,split=valid,count=256", _SMALL,
        batch_size=8, image_steps=600, image_rows=24, text_tokens=12,
    ),
    "arcade": Budget(
        f"{_GAMES}train,count=1024", f"{_GAMES}valid,count=64",
        dataclasses.replace(_SMALL, memory_tokens=(8.0, 4096.0), chunk=155),
        batch_size=2, image_steps=200, image_rows=4, text_tokens=2,
        tokenizer="out/arcade_tokenizer/model", fps=15.0, size=160,
    ),
}  # fmt: skip


class KeyFrameTask(NetworkTask):
    """A `NetworkTask` that is scored by the nats of whole frames.

    Attributes:
        clips: what it is trained and evaluated on.
    """

    def __init__(self, config: NetworkExperiment):
        self.clips = network_data(config, OUT / "tokens")
        super().__init__(config, self.clips, model_to_start_from(config))
        self._split = jax.jit(self.nats_of)

    def sample(self, params: Any, picture: Path) -> dict[str, float]:
        """Nats of first frames and of later ones on unseen clips, with their texts; of these the
        places' part. No picture.
        """
        del picture
        found = sum(np.asarray(self._split(params, batch), float) for batch in self.unseen)
        first, later, places = (found / len(self.clips.valid)).tolist()
        count = max(self.config.key_frames - 1, 1)
        return {"first": first, "later": later / count, "places": places / count}

    def nats_of(self, params: Any, batch: dict[str, Any]) -> jax.Array:
        """Nats of a batch's first frames, of its later ones, and of the places of these, [3].

        The loss is asked twice, with the weight of either; the network runs once.
        """
        weight, places = batch["weight"], batch.get("places")
        if places is None:
            block = jnp.broadcast_to(jnp.arange(weight.shape[1]), weight.shape)
        else:
            block = batch["positions"][:, -weight.shape[1] :] // self.sequence.stride

        def nats(chosen: jax.Array) -> jax.Array:
            part = {**batch, "weight": weight * chosen}
            if places is not None:
                part["places"] = jnp.where(chosen, places, -1)
            loss, metrics = self.loss(params, part, jax.random.key(0))
            of_places = metrics.get("places", jnp.zeros(()))
            return jnp.stack([loss, of_places]) * jnp.maximum(metrics["weight"], 1)

        (first, _), (later, of_places) = jax.vmap(nats)(jnp.stack([block == 0, block > 0]))
        return jnp.stack([first, later, of_places])

    @functools.cached_property
    def decisions(self) -> float:
        """Of a later frame of unseen clips: ids, or changes and that there are no more."""
        if not self.config.changes:
            return float(self.sequence.frame_tokens)
        asked = sum(int((batch["places"] >= 0).sum()) for batch in self.unseen)
        return asked / len(self.clips.valid) / (self.config.key_frames - 1)

    @functools.cached_property
    def unseen(self) -> list[dict[str, np.ndarray]]:
        """Rows of all unseen clips in batches; nothing of them is cut off."""
        config = dataclasses.replace(
            self.config, text_drop=0.0, skip=(1.0,) if self.config.changes else ()
        )
        maker = dataclasses.replace(self.rows, experiment=config)
        rng, clips = np.random.default_rng(0), self.clips.valid
        kind = maker.kind(rng)
        rows = [maker(clips.draw(i, rng), rng, kind) for i in range(len(clips))]
        parts = [rows[i : i + _ROWS] for i in range(0, len(rows), _ROWS)]
        return [{name: np.stack([r[name] for r in part]) for name in part[0]} for part in parts]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run: its settings, what was trained on, model, and its nats by step."""

    config: NetworkExperiment
    task: KeyFrameTask
    generator: Generator
    curve: dict[int, dict[str, float]]


def settings(data: str, way: str, seed: int, steps: int) -> NetworkExperiment:
    """The training's settings; `way` may be "images", too."""
    b, images, changes = BUDGETS[data], way == "images", way == "changes"
    every = max(steps if images else steps // _POINTS, 1)
    nearby = 0 if way in ("images", "dense") else _NEARBY
    return NetworkExperiment(
        name=way, data=b.data, valid=b.valid, tokenizer=b.tokenizer, fps=b.fps, size=b.size,
        text_tokens=b.text_tokens, model=dataclasses.replace(b.network, nearby=nearby),
        start="" if images else str(_folder(data, "images", seed) / "model"),
        insertions=(), key_frames=1 if images else 5, changes=changes,
        skip=_ROOMS if changes else (),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, final_learning_rate=2e-3, warmup_steps=b.warm_up, ema_decay=0.99
        ),
        run=RunConfig(
            steps=steps, batch_size=b.image_rows if images else b.batch_size, seed=seed,
            sample_every=every, checkpoint_every=every, keep_checkpoints=1,
            folder=str(_folder(data, way, seed)),
        ),
    )  # fmt: skip


def _folder(data: str, way: str, seed: int) -> Path:
    return OUT / "key_frames" / data / f"{way}-{seed}"


def step_seconds(data: str, rounds: int = 3) -> dict[str, float]:
    """CPU seconds of a training step of every way, in turns over the same clips; kept.

    The making of batches is left out: 0.1 to 0.4 ms a clip.
    """
    path = OUT / "key_frames" / data / "step_seconds.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    programs, states, batches = {}, {}, {}
    for way in WAYS:
        config = dataclasses.replace(settings(data, way, 0, 1000), start="")
        task = KeyFrameTask(config)
        layout = make_layout(config.run.mesh)
        programs[way] = build_program(task, config.run, config.optimizer, layout)
        states[way] = programs[way].begin(0, None)
        rows = task.data(range(config.run.batch_size))
        batches[way] = [next(rows) for _ in range(_TIMED)]
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way in WAYS:
            start = time.process_time()
            for batch in batches[way]:
                states[way], _ = programs[way].step(states[way], batch, {})
            jax.block_until_ready(states[way])
            taken[way].append((time.process_time() - start) / _TIMED)
    found = {way: statistics.median(times[1:]) for way, times in taken.items()}
    write_text(path, json.dumps(found) + "\n")
    return found


def is_trained(data: str, way: str, seed: int, steps: int) -> bool:
    """Whether the run of so many steps is finished."""
    done = _folder(data, way, seed) / "done"
    return done.exists() and int(done.read_text(encoding="utf-8")) >= steps


def train_images(data: str, seed: int) -> None:
    """The weights that all ways of a seed start from, if they are not there yet."""
    steps = BUDGETS[data].image_steps
    if not is_trained(data, "images", seed, steps):
        config = settings(data, "images", seed, steps)
        _train(KeyFrameTask(config), config)


def trained(data: str, way: str, seed: int, steps: int) -> Trained:
    """The run of this way and seed, trained now as far as it is not; one that is done may go on."""
    train_images(data, seed)
    config = settings(data, way, seed, steps)
    task = KeyFrameTask(config)
    if not is_trained(data, way, seed, steps):
        _train(task, config)
    folder = Path(config.run.folder)
    lines = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    names = ("first", "later", "places")
    curve = {
        line["step"]: {name: line[f"valid_{name}"] for name in names}
        for line in lines
        if "valid_later" in line
    }
    return Trained(config, task, Generator.load(str(folder / "model")), curve)


def _train(task: KeyFrameTask, config: NetworkExperiment) -> None:
    folder = Path(config.run.folder)
    train(task, config, folder, log=())
    write_text(folder / "done", str(config.run.steps))  # a run that is stopped has a model, too
