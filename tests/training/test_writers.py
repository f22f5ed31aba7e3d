"""Where a run's numbers and pictures go: TensorBoard is read back, services are imitated."""

import sys
from types import SimpleNamespace

import pytest
from places import ROOT
from tensorboardX.proto import event_pb2
from tiny_task import Experiment, LineTask

from fv_jax.cli.main import main
from fv_jax.cli.train import settings_of
from fv_jax.data.sources.tfrecord import RecordFile
from fv_jax.training.experiments import load_training
from fv_jax.training.loop import train
from fv_jax.training.writers import WRITERS

NUMBERS = {"loss", "tokens_per_second", "data_wait", "memory_gb"}


class Service:
    """What of wandb's and trackio's interface is used, and all that it was told."""

    def __init__(self, monkeypatch, name: str):
        self.runs: list[dict] = []
        self.logged: list[tuple[int, dict]] = []
        self.finished = 0
        fakes = {"init": self.init, "Image": lambda path: f"picture {path}"}
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**fakes))

    def init(self, **settings):
        self.runs.append(settings)
        return self

    url = "https://service/run"

    def log(self, values: dict, step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_tensorboard_has_numbers_and_pictures(tmp_path, capsys):
    train(LineTask(), Experiment(), tmp_path)
    (path,) = (tmp_path / "tensorboard").iterdir()
    records = RecordFile(path)
    events = [event_pb2.Event.FromString(records[i]) for i in range(len(records))]
    found = {(event.step, value.tag) for event in events for value in event.summary.value}
    assert {(step, name) for step in range(1, 7) for name in NUMBERS} <= found
    assert {step for step, name in found if name == "sample"} == {4, 6}
    assert (
        f"look at it with: tensorboard --logdir {tmp_path}/tensorboard" in capsys.readouterr().out
    )


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_a_service_gets_all_and_a_run_taken_up_goes_on_in_its_place(kind, tmp_path, monkeypatch):
    service = Service(monkeypatch, kind)

    def crash():
        raise OSError("the machine is gone")

    with pytest.raises(OSError, match="gone"):
        train(LineTask(crash), Experiment(), tmp_path, log=[kind])
    train(LineTask(), Experiment(), tmp_path, log=[kind])
    assert service.finished == 2
    first, second = service.runs
    name = "id" if kind == "wandb" else "name"
    assert first[name] == second[name]
    assert first["resume"] == second["resume"] == "allow"
    assert first["config"]["run"]["steps"] == 6
    assert {step for step, values in service.logged if NUMBERS <= values.keys()} == {*range(1, 7)}
    pictures = [(step, values["sample"]) for step, values in service.logged if "sample" in values]
    assert pictures[-1] == (6, f"picture {tmp_path}/samples/0000006.png")
    assert not (tmp_path / "tensorboard").exists()


def test_the_command_line_chooses(tmp_path, monkeypatch):
    flags, _ = settings_of(load_training("shapes"), ["--log", "wandb", "tensorboard"])
    assert flags.log == ("wandb", "tensorboard")
    assert set(WRITERS) == {"tensorboard", "wandb", "trackio"}
    assert settings_of(load_training("shapes"), [])[0].log == ("tensorboard",)


def test_what_is_not_there_is_said_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["train", "shapes", "--log", "wanbd"]) == 2
    assert "did you mean 'wandb'?" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    task = LineTask()
    with pytest.raises(ValueError, match="--log wandb needs wandb: pip install wandb"):
        train(task, Experiment(), tmp_path, log=["wandb"])
    assert task.exported is None
