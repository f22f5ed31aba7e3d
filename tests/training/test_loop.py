"""The loop: a run that stops and goes on is the run that never stopped."""

import dataclasses
import json
import signal

import grain
import jax
import numpy as np
import pytest
from tiny_task import Experiment, LineTask

from fv_jax.files import only_process_in
from fv_jax.training.checkpoint import Checkpointer
from fv_jax.training.interrupt import Interrupted, Terminated
from fv_jax.training.loop import train
from fv_jax.training.optimizer import build_optimizer
from fv_jax.training.state import TrainState

CONFIG = Experiment()  # 6 steps, a sample at 4, a checkpoint at 2, 4 and 6


class CrashError(Exception):
    pass


def crash():
    raise CrashError


def final_state(folder):
    """The newest checkpoint's state, and the next batch of its data."""
    tx = build_optimizer(CONFIG.optimizer, CONFIG.run.steps)
    task, checkpoints = LineTask(), Checkpointer(folder / "checkpoints", keep=2)
    data = task.data()
    state = checkpoints.restore(TrainState.create(task.init(jax.random.key(9)), tx), data)
    checkpoints.close()
    return jax.tree.map(np.asarray, state), next(data)


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train(LineTask(), CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """... of one that crashed in step 4, of which only step 2 was saved, and was run again."""
    folder = tmp_path_factory.mktemp("crashed")
    with pytest.raises(CrashError):
        train(LineTask(crash), CONFIG, folder)
    assert [r["step"] for r in records(folder)] == [1, 2, 3, 4]
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')  # as a killed process leaves it
    train(LineTask(), CONFIG, folder)
    return folder


def stopped_by(number, folder):
    """... of one that was asked to stop in step 4, and was run again."""
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match="stopped at step 4; the same command continues") as stop:
        train(LineTask(lambda: signal.raise_signal(number)), CONFIG, folder)
    assert stop.value.exit_code == (0 if number == signal.SIGTERM else 130)
    assert isinstance(stop.value, Terminated) == (number == signal.SIGTERM)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert int(final_state(folder)[0].step) == 4
    train(LineTask(), CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    return stopped_by(signal.SIGINT, tmp_path_factory.mktemp("interrupted"))


@pytest.fixture(scope="module")
def terminated(tmp_path_factory):
    return stopped_by(signal.SIGTERM, tmp_path_factory.mktemp("terminated"))


@pytest.mark.parametrize("kind", ["crashed", "interrupted", "terminated"])
def test_a_run_taken_up_again_equals_one_never_stopped_bit_for_bit(kind, whole, request):
    state, batch = final_state(request.getfixturevalue(kind))
    want, want_batch = final_state(whole)
    assert int(state.step) == 6
    jax.tree.map(np.testing.assert_array_equal, state, want)
    np.testing.assert_array_equal(batch["x"], want_batch["x"])


@pytest.mark.parametrize("kind", ["whole", "crashed", "interrupted", "terminated"])
def test_the_log_holds_every_step_once(kind, whole, request):
    folder = request.getfixturevalue(kind)
    lines = records(folder)
    losses = {r["step"]: r["loss"] for r in lines if "loss" in r}
    assert [r["step"] for r in lines if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert losses == {r["step"]: r["loss"] for r in records(whole) if "loss" in r}
    # Who stops a run does not wait for its samples.
    sampled = [6] if kind in ("interrupted", "terminated") else [4, 6]
    assert [r["step"] for r in lines if "valid_norm" in r] == sampled
    seconds = [r["seconds"] for r in lines]
    assert seconds == sorted(seconds)


def test_the_folder_holds_what_its_docstring_says(whole):
    assert sorted(p.name for p in (whole / "samples").iterdir()) == ["0000004.png", "0000006.png"]
    assert any((whole / "tensorboard").iterdir())
    record = json.loads((whole / "model" / "record.json").read_text())
    assert (record["steps"], record["parameters"]) == (6, 8)
    assert record["config"] == json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert record["final"]["loss"] == [r["loss"] for r in records(whole) if "loss" in r][-1]


def test_what_is_exported_is_the_average(whole):
    # A finished run that is started again trains no further, and exports again.
    before, _ = final_state(whole)
    task = LineTask(crash)
    assert train(task, CONFIG, whole) == whole / "model"
    after, _ = final_state(whole)
    jax.tree.map(np.testing.assert_array_equal, after, before)
    jax.tree.map(np.testing.assert_array_equal, task.exported, before.ema)
    assert (before.ema["layer"]["w"] != before.params["layer"]["w"]).any()


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("optimizer", "learning_rate", 0.2), ("run", "batch_size", 8), ("run", "seed", 1)],
)
def test_a_folder_of_another_config_is_refused_and_left_alone(whole, part, name, value):
    changed = dataclasses.replace(getattr(CONFIG, part), **{name: value})
    before = (whole / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match=rf"holds a run with other settings \({part}\.{name}\)"):
        train(LineTask(), dataclasses.replace(CONFIG, **{part: changed}), whole)
    assert (whole / "log.jsonl").read_bytes() == before
    assert int(final_state(whole)[0].step) == 6


def test_only_the_newest_checkpoints_stay(whole):
    assert CONFIG.run.keep_checkpoints == 2
    steps = sorted(p.name for p in (whole / "checkpoints").iterdir() if p.name.isdigit())
    assert steps == ["4", "6"]


def test_a_stopped_run_leaves_its_weights_so_far(tmp_path):
    class StoppedInItsFirstStep(LineTask):
        told = False

        def loss(self, *arguments):  # traced more than once
            if not self.told:
                self.told = True
                signal.raise_signal(signal.SIGINT)
            return super().loss(*arguments)

    task = StoppedInItsFirstStep()
    with pytest.raises(Interrupted, match="stopped at step 1"):
        train(task, CONFIG, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, task.exported, final_state(tmp_path)[0].ema)
    assert json.loads((tmp_path / "model" / "record.json").read_text())["steps"] == 1


class Poisoned(grain.DatasetIterator):
    """The data of a `LineTask` with NaN in the batches of some steps."""

    def __init__(self, data, steps):
        super().__init__()
        self.data, self.steps = data, steps

    def __next__(self):
        step = self.data.get_state()["batches"] + 1
        batch = next(self.data)
        return batch | {"x": batch["x"] * np.nan} if step in self.steps else batch

    def get_state(self):
        return self.data.get_state()

    def set_state(self, state):
        self.data.set_state(state)


class PoisonedTask(LineTask):
    steps: tuple[int, ...] = ()

    def data(self, rows=range(4)):
        return Poisoned(super().data(rows), self.steps)


def test_a_step_that_is_not_finite_changes_nothing_and_its_batch_is_kept(tmp_path, capsys):
    task = PoisonedTask()
    task.steps = (2, 5)
    train(task, CONFIG, tmp_path)
    lines = [r for r in records(tmp_path) if "loss" in r]
    assert [r["loss"] is None for r in lines] == [s in (2, 5) for s in range(1, 7)]
    assert [r["skipped"] for r in lines] == [0, 1, 1, 1, 2, 2]
    norms = [r["parameter_norm"] for r in lines]
    assert norms[1] == norms[0]
    assert norms[4] == norms[3]
    assert len(set(norms)) == 4
    kept = sorted(path.name for path in (tmp_path / "skipped").iterdir())
    assert kept == ["0000002-0.npz", "0000005-0.npz"]
    with np.load(tmp_path / "skipped" / kept[0]) as arrays:
        assert np.isnan(arrays["x"]).all()
        assert arrays["y"].shape == (4, 2)
    assert "step 2 was skipped" in capsys.readouterr().err
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(task.exported))


def test_too_many_skipped_steps_stop_the_run_and_more_may_be_allowed(tmp_path):
    task = PoisonedTask()
    task.steps = (1, 3, 4)
    strict = dataclasses.replace(CONFIG.run, max_skipped=1)
    with pytest.raises(ValueError, match=r"step 3 was skipped.*number 2, and max_skipped is 1"):
        train(task, dataclasses.replace(CONFIG, run=strict), tmp_path)
    train(task, CONFIG, tmp_path)
    assert [r["skipped"] for r in records(tmp_path) if "skipped" in r][-1] == 3


def test_every_line_says_what_the_step_cost(whole):
    for line in records(whole):
        if "loss" in line:
            assert 0 <= line["data_wait"] <= 1
            assert line["tokens_per_second"] > 0
            assert 0 < line["mfu"] < 1
            assert line["learning_rate"] >= 0


def test_a_profile_is_written_if_asked_for(tmp_path, capsys):
    train(LineTask(), CONFIG, tmp_path, profile=True)
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
    assert any(list(line.events) for plane in planes for line in plane.lines)
    assert "xprof" in capsys.readouterr().out


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path):
    with only_process_in(tmp_path), pytest.raises(ValueError, match="another process works in"):
        train(LineTask(), CONFIG, tmp_path)


def test_a_run_may_be_lengthened_and_watched_differently(tmp_path):
    train(LineTask(), CONFIG, tmp_path)
    longer = dataclasses.replace(CONFIG.run, steps=8, log_every=2, sample_every=8)
    train(LineTask(), dataclasses.replace(CONFIG, run=longer), tmp_path)
    assert int(final_state(tmp_path)[0].step) == 8
    assert [r["step"] for r in records(tmp_path) if "loss" in r] == [1, 2, 3, 4, 5, 6, 8]
