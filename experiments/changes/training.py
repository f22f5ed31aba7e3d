"""Small trainings of the three networks that take equal CPU time, each taken up where it was left.

Those of one seed start from the same weights: `images` trains the core's network on first frames
with their texts, which little is learned of from videos alone (`experiments/shapes.py`). They see
the same clips in the same order, and the learning rate stays where it is after the warm-up, so that
a curve can be read at any step or time; what is scored is the running average of the weights.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.arcade_tokenizer import GAMES
from experiments.changes.network import WAYS, KeyFrameNetwork, nats
from experiments.changes.rows import SortedBatches
from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig
from fv_jax.files import replacing, write_text
from fv_jax.training.loop import train
from fv_jax.training.mesh import make_layout
from fv_jax.training.program import build_program
from fv_jax.training.tasks.network import NetworkTask
from fv_jax.training.tasks.network_data import network_data

OUT = Path("out")
WARM_UP = 50  # steps
_POINTS = 8  # of a curve
_TIMED = 24  # batches


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


_SMALL = RetNetConfig(width=96, layers=3, heads=4, value_width=192, hidden=128, angles="even")
_GAMES = f"arcade:games={'+'.join(GAMES)},split="
BUDGETS = {
    "shapes": Budget(
        "shapes,split=train,count=12000", "shapes,split=valid,count=256", _SMALL, batch_size=8,
        image_steps=600, image_rows=24, text_tokens=12,
    ),
    "arcade": Budget(
        f"{_GAMES}train,count=1024", f"{_GAMES}valid,count=64",
        dataclasses.replace(_SMALL, memory_tokens=(8.0, 4096.0), chunk=155), batch_size=2,
        image_steps=200, image_rows=4, text_tokens=2,
        tokenizer="out/arcade_tokenizer/model", fps=15.0, size=160,
    ),
    "tiny": Budget(  # for tests
        "shapes,split=train,count=24", "shapes,split=valid,count=16",
        RetNetConfig(width=24, layers=1, heads=2, value_width=48, hidden=32, angles="even"),
        batch_size=2, image_steps=2, image_rows=2, text_tokens=12,
    ),
}  # fmt: skip


class KeyFrameTask(NetworkTask):
    """A `NetworkTask` of one of `WAYS`, of key frames alone."""

    def __init__(self, config: NetworkExperiment, way: str):
        super().__init__(config, network_data(config, OUT / "tokens"))
        self.way = way
        self.graph = nnx.graphdef(nnx.eval_shape(lambda: self._model(jax.random.key(0))))
        self.cost = jax.jit(lambda params, batch: nats(nnx.merge(self.graph, params), batch))

    def axes(self) -> Any:
        """Every device keeps all weights: there are few."""
        return None

    def loss(self, params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Nats of a video's events over its number of ids: as large for every way."""
        del key
        ids, places = nats(nnx.merge(self.graph, params), batch)
        return (ids + places).sum() / batch["frames"].size, {}

    def data(self, rows: Any) -> Any:
        """All rows of every batch, on one device."""
        del rows
        return self.batches().iterator()

    def batches(self, valid: bool = False) -> SortedBatches:
        """Of the training, or of unseen clips once."""
        c, clips = self.config, self._data.valid if valid else self._data.train
        return SortedBatches(
            clips, self.text, self.sequence, key_frames=c.key_frames, stride=c.key_frame_stride,
            changes=self.way == "changes", seed=0 if valid else c.run.seed,
            batch_size=len(clips) // 8 if valid else c.run.batch_size, count=8 if valid else 10**9,
        )  # fmt: skip

    def sample(self, params: Any, picture: Path) -> dict[str, float]:
        """Nats a frame on unseen clips; no picture."""
        del picture
        return self.validate(params)

    def validate(self, params: Any) -> dict[str, float]:
        """Nats of first frames and of later ones on unseen clips; of these the places' part."""
        batches, found = self.batches(valid=True), []
        for index in range(len(batches)):
            ids, places = self.cost(params, batches[index])
            mean = lambda x: float(x.mean()) if x.size else 0.0
            found.append([mean(ids[:, 0]), mean((ids + places)[:, 1:]), mean(places[:, 1:])])
        return dict(zip(("first", "later", "places"), np.mean(found, axis=0).tolist()))

    def export(self, params: Any, folder: Path, record: dict[str, Any]) -> None:
        """Weights, float32, in the order of `jax.tree.leaves`; and the record."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "weights.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, *jax.tree.leaves(params))
        write_text(folder / "training.json", json.dumps(record, indent=1) + "\n")

    def _model(self, key: jax.Array) -> Any:
        return KeyFrameNetwork(self.network, self.sequence, self.way, rngs=nnx.Rngs(key))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run: its task, averaged weights, record, and its nats by step."""

    task: KeyFrameTask
    params: Any
    record: dict[str, Any]
    curve: dict[int, dict[str, float]]


def settings(budget: str, way: str, seed: int, steps: int) -> NetworkExperiment:
    """The training's settings; `way` may be "images", too."""
    b, images = BUDGETS[budget], way == "images"
    return NetworkExperiment(
        name=way, data=b.data, valid=b.valid, tokenizer=b.tokenizer, fps=b.fps, size=b.size,
        text_tokens=b.text_tokens, model=b.network, insertions=(), key_frames=1 if images else 5,
        optimizer=OptimizerConfig(
            learning_rate=2e-3, final_learning_rate=2e-3, warmup_steps=WARM_UP, ema_decay=0.99
        ),
        run=RunConfig(
            steps=steps, batch_size=b.image_rows if images else b.batch_size, seed=seed,
            sample_every=max(steps // _POINTS, 1), checkpoint_every=max(steps // _POINTS, 1),
            keep_checkpoints=1, folder=str(OUT / "changes" / budget / f"{way}-{seed}"),
        ),
    )  # fmt: skip


def step_seconds(budget: str, rounds: int = 3) -> dict[str, float]:
    """CPU seconds of a training step of every way, in turns over the same clips; kept.

    They are means over many batches, since those of changes differ in length, and the least of
    some rounds, all compiled before.
    """
    path = OUT / "changes" / budget / "step_seconds.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    programs, states, batches = {}, {}, {}
    for way in WAYS:
        config = settings(budget, way, 0, 1000)
        task = KeyFrameTask(config, way)
        programs[way] = build_program(
            task, config.run, config.optimizer, make_layout(config.run.mesh)
        )
        states[way] = programs[way].begin(0, None)
        batches[way] = [task.batches()[index] for index in range(_TIMED)]
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way in WAYS:
            start = time.process_time()
            for batch in batches[way]:
                states[way], _ = programs[way].step(states[way], batch)
            jax.block_until_ready(states[way])
            taken[way].append((time.process_time() - start) / _TIMED)
    found = {way: statistics.median(times[1:]) for way, times in taken.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(found) + "\n")
    return found


def is_trained(budget: str, way: str, seed: int, steps: int) -> bool:
    """Whether the run of so many steps is finished."""
    done = Path(settings(budget, way, seed, steps).run.folder) / "done"
    return done.exists() and int(done.read_text(encoding="utf-8")) >= steps


def trained(budget: str, way: str, seed: int, steps: int) -> Trained:
    """The run of this way and seed, trained now as far as it is not; one that is done may go on."""
    start = None
    if way != "images":
        start = trained(budget, "images", seed, BUDGETS[budget].image_steps).params["network"]
    config = settings(budget, way, seed, steps)
    task = KeyFrameTask(config, "dense" if way == "images" else way)
    if start is not None:
        task.start = {**jax.jit(task.init)(jax.random.key(seed)), "network": start}
    folder = Path(config.run.folder)
    if not is_trained(budget, way, seed, steps):
        train(task, config, folder, log=())
        write_text(folder / "done", str(steps))  # a run that is stopped leaves weights, too
    tree = jax.tree.structure(jax.eval_shape(task.init, jax.random.key(0)))
    with np.load(folder / "model" / "weights.npz") as file:
        params = jax.tree.unflatten(tree, [jnp.asarray(file[name]) for name in file.files])
    record = json.loads((folder / "model" / "training.json").read_text(encoding="utf-8"))
    lines = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    names = ("first", "later", "places")
    curve = {
        line["step"]: {name: line[f"valid_{name}"] for name in names}
        for line in lines
        if "valid_later" in line
    }
    return Trained(task, params, record, curve)
