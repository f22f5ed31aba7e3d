"""Object stores: a copy follows its place, and a place its copy, whatever stops in between."""

import json
import shutil
import sys

import fake_buckets
import fsspec
import jax
import numpy as np
import pytest
import videos
from tiny_task import Experiment, LineTask

from fv_jax.cli.main import main
from fv_jax.data.sources.base import open_source
from fv_jax.data.token_cache import TokenFolder, tokens_at
from fv_jax.files import buckets
from fv_jax.generation import pretrained
from fv_jax.tokenizers.load import load_tokenizer
from fv_jax.training.checkpoint import Checkpointer
from fv_jax.training.loop import train
from fv_jax.training.optimizer import build_optimizer
from fv_jax.training.state import TrainState
from fv_jax.weights.shipped import SHIPPED

# What aiohttp says of gcsfs.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


@pytest.fixture(params=["gs", "s3"])
def store(request, tmp_path, monkeypatch):
    """An empty store; `place(PATH)` names a place in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with fake_buckets.running(request.param) as found:
        found.place = lambda path: f"{request.param}://mine/{path}"
        fsspec.filesystem(request.param).clear_instance_cache()  # of the store of another test
        buckets._fetched.cache_clear()
        yield found


def on_another_machine(tmp_path):
    """Nothing of a store is here any more."""
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    buckets._fetched.cache_clear()


def test_a_folder_is_fetched_and_only_what_has_changed_is_fetched_again(store):
    store.put("mine/a/x.txt", b"one")
    store.put("mine/a/deep/y.bin", b"\r\n\r\n\0")
    store.put("mine/ab.txt", b"beside")
    folder = buckets.fetch(store.place("a"))
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {"x.txt", "y.bin"}
    assert (folder / "deep" / "y.bin").read_bytes() == b"\r\n\r\n\0"
    store.requests.clear()
    store.put("mine/a/x.txt", b"two")
    del store.files["mine/a/deep/y.bin"]
    assert buckets.fetch(store.place("a/")) == folder
    assert (folder / "x.txt").read_bytes() == b"two"
    assert not (folder / "deep" / "y.bin").exists()
    store.requests.clear()
    buckets.fetch(store.place("a"))
    assert not any("x.txt" in request for request in store.requests)
    assert buckets.fetch(store.place("ab.txt")).read_bytes() == b"beside"


def test_what_changes_in_a_copy_is_carried_and_nothing_else(store):
    store.put("mine/a/old.txt", b"old")
    store.put("mine/a/stays.txt", b"stays")
    with buckets.carried(store.place("a")) as work:
        (work.folder / "old.txt").unlink()
        (work.folder / "deep").mkdir()
        (work.folder / "deep" / "new.bin").write_bytes(b"n" * 6_000_000)  # in parts
        (work.folder / ".half-1.txt").write_text("being written")
    assert {name: len(data) for name, data in store.files.items()} == {
        "mine/a/stays.txt": 5, "mine/a/deep/new.bin": 6_000_000,
    }  # fmt: skip
    assert store.written["mine/a/stays.txt"] == 1
    with buckets.carried(store.place("a")):
        store.requests.clear()
    assert not store.requests


@pytest.mark.parametrize("end", [b"", b"\r", b"\n", b"\r\n", b"--"])
def test_what_is_carried_is_there_to_the_last_byte(store, end):
    store.put("mine/a/y.bin", b"before")
    with buckets.carried(store.place("a")) as work:
        (work.folder / "x.bin").write_bytes(b"\r\n\r\nx" + end)
    assert store.files["mine/a/x.bin"] == b"\r\n\r\nx" + end


def test_files_that_vouch_for_others_are_carried_last(store):
    with buckets.carried(store.place("a")) as work:
        for name in ("config.json", "z.bin", "1/files.json", "1/zz"):
            (work.folder / name).parent.mkdir(exist_ok=True, parents=True)
            (work.folder / name).write_text(name)
    names = [name.removeprefix("mine/a/") for name in store.files]
    assert names == ["1/zz", "z.bin", "1/files.json", "config.json"]


def test_what_could_not_be_carried_goes_with_the_next(store, capsys):
    def write(name, error=None):
        store.refuses = False
        with buckets.carried(store.place("a")) as work:
            work.folder.mkdir(parents=True, exist_ok=True)
            (work.folder / name).write_text("new")
            store.refuses = True
            if error:
                raise error

    with pytest.raises(OSError, match=r"://mine/a: the store .*; what is new is in .* the next$"):
        write("x.txt")
    with pytest.raises(KeyError):  # what went wrong before comes first, and the rest is told
        write("y.txt", KeyError())
    assert "what is new is in" in capsys.readouterr().err
    store.refuses = False
    with buckets.carried(store.place("a")):
        pass
    assert store.files == {"mine/a/x.txt": b"new", "mine/a/y.txt": b"new"}


def test_two_do_not_work_in_one_copy(store):
    with buckets.carried(store.place("a")), pytest.raises(ValueError, match="another process"):
        buckets.carried(store.place("a/")).__enter__()


def test_bad_places_are_one_line(store, capsys, monkeypatch):
    prompt = ["generate", "a small red circle", "--out", "OUT.mp4", "--model"]
    for args, words in [
        ([*prompt, store.place("none")], "nothing is at"),
        ([*prompt, store.place("")[:5]], "names no bucket"),
        ([*prompt[:3], store.place("x.mp4")], "--out: must be a path of this machine"),
        (["train", "shapes_images", "--data", store.place("none")], "nothing is at"),
    ]:
        assert main(args) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    store.refuses = True
    assert main([*prompt, store.place("none")]) == 2
    assert "the store does not do that" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "fsspec.core", None)  # as where it is not installed
    assert main([*prompt, store.place("none")]) == 2
    assert 'pip install "fv-jax[cloud]"' in capsys.readouterr().err


def test_models_and_tokenizers_are_read_from_a_store(store):
    store.put_folder("mine/models/shapes", SHIPPED / "shapes")
    model, same = pretrained.load(store.place("models/shapes")), pretrained.load("shapes")
    jax.tree.map(np.testing.assert_array_equal, model.params, same.params)
    tokenizer = load_tokenizer(store.place("models/shapes/tokenizer.safetensors"))
    assert tokenizer.fingerprint() == same.frames.fingerprint()


def test_clips_are_read_from_a_store_and_tokens_go_there_and_come_back(store, tmp_path, capsys):
    for number in range(3):
        clip = tmp_path / f"{number}.mp4"
        videos.write(clip, videos.noise(24, (64, 64), number), "mp4")
        store.put(f"mine/clips/{number}.mp4", clip.read_bytes())
    assert len(open_source(f"{store.place('clips')},match=1*")) == 1
    assert tokens_at(f"{store.place('clips')},match=1*") is None
    args = ["tokenize", store.place("clips"), "--out", store.place("tokens"), "--size", "64"]
    assert main([*args, "--force"]) == 0
    assert f"--data {store.place('tokens')}" in capsys.readouterr().out
    on_another_machine(tmp_path)
    assert len(TokenFolder(tokens_at(store.place("tokens")))) == 3


def test_a_run_goes_on_from_a_store_on_another_machine(store, tmp_path):
    class CrashError(Exception):
        pass

    def crash():
        raise CrashError

    def run(*on_sample):
        with buckets.carried(store.place("run")) as work:
            train(LineTask(*on_sample), Experiment(), work.folder, saved=work.carry)

    train(LineTask(), Experiment(), tmp_path / "whole")
    with pytest.raises(CrashError):
        run(crash)
    saved = {name.split("/")[3] for name in store.files if "/checkpoints/" in name}
    assert saved == {"2"}
    on_another_machine(tmp_path)
    run()
    on_another_machine(tmp_path)
    folder = buckets.fetch(store.place("run"))
    jax.tree.map(np.testing.assert_array_equal, _state(folder), _state(tmp_path / "whole"))
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6]
    assert "mine/run/model/record.json" in store.files


def test_a_checkpoint_reaches_the_store_before_the_run_ends(store):
    seen = []

    def look():
        seen.append({name.split("/")[3] for name in store.files if "/checkpoints/" in name})

    with buckets.carried(store.place("run")) as work:
        train(LineTask(look), Experiment(), work.folder, saved=work.carry)
    assert "2" in seen[1]  # it was whole before that of step 4 began


def test_a_store_that_refuses_does_not_stop_a_training(store, capsys):
    def run():
        with buckets.carried(store.place("run")) as work:
            store.refuses = True
            train(LineTask(), Experiment(), work.folder, saved=work.carry)

    with pytest.raises(OSError, match="the store does not do that"):
        run()
    assert "training goes on" in capsys.readouterr().err
    assert (buckets.copy_of(store.place("run")) / "checkpoints" / "6").is_dir()


def _state(folder):
    config = Experiment()
    tx = build_optimizer(config.optimizer, config.run.steps)
    task, checkpoints = LineTask(), Checkpointer(folder / "checkpoints", keep=2)
    data = task.data()
    state = checkpoints.restore(TrainState.create(task.init(jax.random.key(9)), tx), data)
    checkpoints.close()
    return jax.tree.map(np.asarray, state)
