"""Checkpoints: everything comes back bit for bit, on any mesh, or else something older does."""

import os
import shutil
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from places import ROOT, SUPPORT
from small_disk import mounted
from tiny_task import Experiment, LineTask

from fv_jax.config.model import to_json
from fv_jax.training.checkpoint import Checkpointer
from fv_jax.training.state import TrainState
from fv_jax.training.step import make_train_step

TASK, TX = LineTask(), optax.adam(0.01)
STEP = make_train_step(TASK.loss, TX, ema_decay=0.9, seed=0)

# What a script needs that is run as a process of its own, with other devices.
PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
if len(sys.argv) > 4:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(sys.argv[3], 2, int(sys.argv[4]))
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
sys.path[:0] = ["tests", "tests/training"]
from tiny_task import Experiment, LineTask
from test_checkpoint import many_kinds, placed, same
from fv_jax.training import checkpoint
from fv_jax.training.checkpoint import Checkpointer
folder, data = Path(sys.argv[2]), LineTask().data()

def mesh(*shape):
    auto = (jax.sharding.AxisType.Auto,) * len(shape)
    return jax.make_mesh(shape, ("a", "b", "c")[: len(shape)], axis_types=auto)

def limit(size):
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if size else most, most))
"""


def fresh(seed=0):
    return TrainState.create(TASK.init(jax.random.key(seed)), TX)


def trained(steps, data):
    state = fresh()
    for _ in range(steps):
        state, _ = STEP(state, next(data))
    return state


def many_kinds(step):
    """A state of NumPy arrays of many dtypes and shapes, with nodes that hold none."""
    rng = np.random.default_rng(step)
    params = {
        "matrix": rng.normal(size=(16, 24)).astype(np.float32),
        "zeros": np.zeros((8, 8), np.float32),
        "half": rng.normal(size=(8, 40)).astype(jnp.bfloat16),
        "small": {"int": rng.integers(-9, 9, 16).astype(np.int8), "one": np.float32(step)},
        "mask": rng.uniform(size=8) < 0.5,
        "left_out": None,
    }
    weights = {name: params[name] for name in ("matrix", "half")}
    masked = optax.masked(optax.scale_by_adam(), {"matrix": True, "half": False})
    tx = optax.chain(optax.clip_by_global_norm(1.0), masked, optax.scale_by_adam())
    noisy = lambda x: np.asarray(x + rng.normal(size=x.shape)).astype(x.dtype)
    opt_state = jax.tree.map(noisy, tx.init(weights))
    ema = jax.tree.map(lambda x: x.copy(), params)
    return TrainState(np.int32(step), params, ema, opt_state, np.int32(2))


def placed(state, mesh, *axes):
    """Its arrays on a mesh: the first dimensions on the axes that divide them."""

    def place(x):
        names = [a if n % mesh.shape[a] == 0 else None for a, n in zip(axes, x.shape)]
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*names))
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, state)


def same(state, want):
    """Whether they have the same structure, dtypes, shapes and bits."""
    whole = lambda x: jax.experimental.multihost_utils.process_allgather(x, tiled=True)
    bits = lambda x: (x.dtype, x.shape, np.asarray(x).tobytes())
    if jax.process_count() > 1:
        state = jax.tree.map(whole, state)
    if jax.tree.structure(state) != jax.tree.structure(want):
        return False
    return all(map(lambda x, y: bits(x) == bits(y), jax.tree.leaves(state), jax.tree.leaves(want)))


def run(script, folder, devices=1, *more):
    """Start a script; stdout and stderr are texts."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{SUPPORT}"}
    command = [sys.executable, "-c", PRELUDE + script, str(devices), str(folder), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
    )  # fmt: skip


def lines_of(process):
    """Its lines on stderr; it must have ended well."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    return [line for line in errors.splitlines() if not line.startswith("[Gloo]")]


@pytest.fixture
def checkpointer(tmp_path):
    made = Checkpointer(tmp_path, keep=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with checkpoints of steps 1 and 2; do not change it."""
    folder, data = tmp_path_factory.mktemp("two"), TASK.data()
    checkpoints = Checkpointer(folder, keep=2)
    for step in (1, 2):
        next(data)
        checkpoints.save(many_kinds(step), data, Experiment())
    checkpoints.close()
    return folder


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_state_data_and_config_come_back_exactly(tmp_path, checkpointer):
    data = TASK.data()
    state = trained(3, data)
    checkpointer.save(state, data, Experiment())
    expected = [next(data) for _ in range(3)]
    checkpointer.close()
    again = Checkpointer(tmp_path, keep=2)
    other_data = TASK.data()
    next(other_data)
    restored = again.restore(fresh(seed=9), other_data)
    assert again.latest_step() == 3
    assert again.config() == to_json(Experiment())
    again.close()
    assert same(restored, state)
    for want in expected:
        np.testing.assert_array_equal(next(other_data)["x"], want["x"])


def test_every_kind_of_array_and_empty_nodes_come_back(two):
    checkpoints = Checkpointer(two, keep=2)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), many_kinds(0))
    restored = checkpoints.restore(shapes, TASK.data())
    checkpoints.close()
    assert same(restored, many_kinds(2))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored))


def test_what_is_saved_is_the_state_before_the_next_step(tmp_path, checkpointer):
    # The step donates its state while the checkpoint is being written.
    big = lambda key: {"w": jax.random.normal(key, (500, 1000))}
    loss = lambda params, batch, key: (jnp.sum(params["w"] ** 2), {})
    step = make_train_step(loss, TX, ema_decay=0.9, seed=0)
    data, state = TASK.data(), TrainState.create(big(jax.random.key(0)), TX)
    for _ in range(3):
        state, _ = step(state, next(data))
        copy = jax.tree.map(np.array, state)
        checkpointer.save(state, data, Experiment())
        for _ in range(3):
            state, _ = step(state, next(data))
        checkpointer.wait()
        assert same(checkpointer.restore(state, TASK.data()), copy)


def test_saving_does_not_disturb_the_data(checkpointer):
    data, plain = TASK.data(), TASK.data()
    state = trained(2, data)
    checkpointer.save(state, data, Experiment())
    for _ in range(2):
        next(plain)
    np.testing.assert_array_equal(next(data)["x"], next(plain)["x"])


def test_an_empty_folder_has_no_checkpoint(checkpointer):
    assert checkpointer.latest_step() is None
    with pytest.raises(ValueError, match="no checkpoint in"):
        checkpointer.restore(fresh(), TASK.data())


def test_the_newest_are_kept_and_a_step_is_saved_once(tmp_path, checkpointer):
    data = TASK.data()
    state = fresh()
    for _ in range(4):
        state, _ = STEP(state, next(data))
        checkpointer.save(state, data, Experiment())
        checkpointer.save(state, data, Experiment())
    assert checkpointer.wait()
    assert checkpointer.latest_step() == 4
    checkpointer.close()
    assert steps_in(tmp_path) == [3, 4]


def test_every_nth_stays_too(tmp_path):
    checkpoints, data, state = Checkpointer(tmp_path, keep=1, keep_every=3), TASK.data(), fresh()
    for step in (1, 2, 3, 5, 6, 8, 10):
        checkpoints.save(state.replace(step=jnp.int32(step)), data, Experiment())
    checkpoints.close()
    assert steps_in(tmp_path) == [3, 6, 10]


def test_what_a_killed_process_left_is_cleared(tmp_path, two):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tmp_path / "2", tmp_path / "3.orbax-checkpoint-tmp" / "state")
    (tmp_path / "1").rename(tmp_path / "1.old")  # it was killed while it deleted that
    checkpoints = Checkpointer(tmp_path, keep=2)
    assert checkpoints.latest_step() == 2
    checkpoints.save(many_kinds(3), TASK.data(), Experiment())
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_any_damaged_file_means_the_checkpoint_before(tmp_path, two, capsys):
    files = [path.relative_to(two) for path in (two / "2").rglob("*") if path.is_file()]
    of_arrays = [file for file in files if "ocdbt" in str(file)]
    assert len(files) > 12
    assert len(of_arrays) > 3
    for i, file in enumerate(files):
        folder = shutil.copytree(two, tmp_path / str(i))
        flip(folder / file)
        checkpoints, data = Checkpointer(folder, keep=2), TASK.data()
        assert checkpoints.latest_step() == 2
        assert checkpoints.config() == to_json(Experiment())
        state = checkpoints.restore(many_kinds(0), data)
        told = capsys.readouterr().err
        if file.parent.name == "2" and file.name != "files.json":  # orbax's, and not needed
            assert same(state, many_kinds(2))
            assert not told
        else:
            assert same(state, many_kinds(1))
            assert data.get_state() == {"batches": 1}
            assert told.count("\n") == 1
            assert f"step 2 is damaged ({file.relative_to('2')} " in told
            assert "going on from step 1" in told
            assert checkpoints.latest_step() == 1
            assert (folder / "2.damaged").is_dir()
        checkpoints.close()


@pytest.mark.parametrize("part", [".", "state", "config", "state/ocdbt.process_0"])
def test_a_missing_folder_means_the_checkpoint_before(part, tmp_path, two, capsys):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "2" / part)
    (tmp_path / "2").mkdir(exist_ok=True)
    checkpoints = Checkpointer(tmp_path, keep=2)
    assert same(checkpoints.restore(many_kinds(0), TASK.data()), many_kinds(1))
    assert "is missing), it is now" in capsys.readouterr().err
    checkpoints.close()


def test_after_a_damaged_checkpoint_the_same_step_is_saved_again(tmp_path, two, capsys):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    for _ in range(2):  # the second finds the first one's 2.damaged in its way
        flip(tmp_path / "2" / "data" / "metadata")
        checkpoints = Checkpointer(tmp_path, keep=1)
        assert same(checkpoints.restore(many_kinds(0), TASK.data()), many_kinds(1))
        checkpoints.save(many_kinds(1), TASK.data(), Experiment())  # is there
        checkpoints.save(many_kinds(2), TASK.data(), Experiment())
        assert checkpoints.wait()
        assert same(checkpoints.restore(many_kinds(0), TASK.data()), many_kinds(2))
        checkpoints.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "2.damaged"]
        again = Checkpointer(tmp_path, keep=1)
        assert same(again.restore(many_kinds(0), TASK.data()), many_kinds(2))
        again.close()
        shutil.copytree(two / "1", tmp_path / "1")
    assert capsys.readouterr().err.count("is damaged (data/metadata is not what was written)") == 2


def test_if_all_are_damaged_the_error_says_how_and_nothing_is_moved(tmp_path, two):
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    (tmp_path / "2" / "files.json").write_text("[1]")
    (tmp_path / "1" / "state" / "manifest.ocdbt").write_text("")
    checkpoints = Checkpointer(tmp_path, keep=2)
    message = (
        rf"every checkpoint in {tmp_path} is damaged \(step 2: files.json is damaged; "
        r"step 1: state/manifest.ocdbt has 0 bytes, \d+ were written\); put back a copy"
    )
    for use in (checkpoints.config, lambda: checkpoints.restore(many_kinds(0), TASK.data())):
        with pytest.raises(ValueError, match=message):
            use()
    checkpoints.close()
    assert steps_in(tmp_path) == [1, 2]


def test_other_arrays_are_refused_by_name(tmp_path, two):
    checkpoints, state = Checkpointer(two, keep=2), many_kinds(0)
    params = {**state.params, "half": np.zeros((8, 40), np.float32), "new": np.zeros(3)}
    params["left_out"] = params.pop("mask")
    message = (
        r"step 2 in \S+ holds other arrays \(params/half: bfloat16\[8, 40\], wanted "
        r"float32\[8, 40\]; params/left_out: nothing, wanted bool\[8\]; params/mask: bool\[8\], "
        r"wanted nothing; \.\.\.\)"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.restore(state.replace(params=params), TASK.data())
    checkpoints.close()
    assert steps_in(two) == [1, 2]


def test_another_mesh_gives_the_same_bits(tmp_path):
    script = """
checkpoints = Checkpointer(folder, keep=2)
state = many_kinds(5)
checkpoints.save(placed(state, mesh(1, 8), "b", "a"), data, Experiment())
checkpoints.close()
wanted = [
    placed(state, mesh(1, 8), "b", "a"),
    placed(state, mesh(1, 8), "a", "b"),
    placed(state, mesh(2, 2, 2), "a", "b"),
    placed(state, mesh(2, 2, 2), "c"),
    placed(state, mesh(2, 2, 2)),
    jax.tree.map(lambda x: jax.device_put(x, jax.devices()[3]), state),
]
for want in wanted:
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), want
    )
    for like in (want, shapes):
        checkpoints = Checkpointer(folder, keep=2)
        got = checkpoints.restore(like, data)
        checkpoints.close()
        assert same(got, state)
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
            assert x.sharding == y.sharding, (x.sharding, y.sharding)
"""
    assert lines_of(run(script, tmp_path, 8)) == []


def test_two_processes_agree_and_one_reads_what_they_wrote(tmp_path):
    script = """
first = jax.process_index() == 0
data = LineTask().data(range(2 * jax.process_index(), 2 * jax.process_index() + 2))
from jax.experimental.multihost_utils import sync_global_devices
checkpoints = Checkpointer(folder / "shared", keep=2)
for step in (1, 2, 3):
    next(data)
    checkpoints.save(placed(many_kinds(step), mesh(2, 2), "a", "b"), data, Experiment())
checkpoints.close()
if first:
    os.truncate(next((folder / "shared" / "3" / "state").glob("ocdbt.process_1/d/*")), 9)
sync_global_devices("damaged")
checkpoints = Checkpointer(folder / "shared", keep=2)
assert checkpoints.config()["run"]["seed"] == 0
assert same(checkpoints.restore(placed(many_kinds(0), mesh(4), "a"), data), many_kinds(2))
assert data.get_state() == {"batches": 2}
next(data)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit(2000)
checkpoints.save(placed(many_kinds(3), mesh(4), "a"), data, Experiment())
assert not checkpoints.wait()
limit(None)
next(data)
checkpoints.save(placed(many_kinds(4), mesh(4), "a"), data, Experiment())
assert checkpoints.wait()
checkpoints.close()
own = folder / sys.argv[4]
own.mkdir()
if first:
    (own / "7").mkdir()
try:
    Checkpointer(own, keep=2)
except ValueError as error:
    assert "the processes see different checkpoints" in str(error)
else:
    raise AssertionError
"""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    processes = [run(script, tmp_path, 2, coordinator, str(i)) for i in range(2)]
    told, told_by_second = [lines_of(process) for process in processes]
    assert [line.split(" (")[0] for line in told] == [
        "fv: the checkpoint at step 3 is damaged",
        "fv: the checkpoint at step 3 could not be written",
    ]
    assert told_by_second == []
    checkpoints, data = Checkpointer(tmp_path / "shared", keep=2), TASK.data()
    assert same(checkpoints.restore(many_kinds(0), data), many_kinds(4))
    assert data.get_state() == {"batches": 4}
    checkpoints.close()


# `fill(room)` and `free()` come before it.
FULL = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rng = np.random.default_rng
big = lambda step: many_kinds(step).replace(ema=rng(step).random(10**5, "float32"))

def check(folder, room):
    checkpoints = Checkpointer(folder, keep=2)
    for step in (1, 2):
        checkpoints.save(big(step), data, Experiment())
    assert checkpoints.wait()
    fill(room)
    for step in (3, 4):
        checkpoints.save(big(step), data, Experiment())
        assert not checkpoints.wait()
        assert sorted(os.listdir(folder)) == ["1", "2"]
    other = Checkpointer(folder, keep=2)
    assert same(other.restore(big(0), data), big(2))
    other.close()
    checkpoints.save(big(5), data, Experiment())
    try:
        checkpoints.close()
    except OSError as error:
        print(error, file=sys.stderr)
    assert sorted(os.listdir(folder)) == ["1", "2"]
    checkpoints = Checkpointer(folder, keep=2)
    checkpoints.save(big(5), data, Experiment())
    assert not checkpoints.wait()
    free()
    checkpoints.save(big(5), data, Experiment())
    checkpoints.close()
    assert sorted(os.listdir(folder)) == ["2", "5"]
"""


def told_of_no_room(folder, reason):
    lines = [
        f"fv: the checkpoint at step {step} could not be written ({reason}); training goes on, "
        "the newest good one is step 2"
        for step in (3, 4, 5)
    ]
    last = (
        f"the last checkpoint, at step 5, could not be written ({reason}); the newest good one is "
        f"step 2; make room in {folder} and run the same command again"
    )
    return [*lines[:2], last, lines[2]]


def test_a_save_that_finds_no_room_is_told_and_the_next_tried(tmp_path):
    # How far a save gets: nothing can be written, some JSON, all but the arrays.
    script = """
fill, free = limit, lambda: limit(None)
for room in (1, 300, 20_000):
    check(folder / str(room), room)
"""
    told = lines_of(run(FULL + script, tmp_path))
    rooms = [told_of_no_room(tmp_path / room, "File too large") for room in ("1", "300", "20000")]
    assert told == [line for lines in rooms for line in lines]


def test_a_full_disk(tmp_path):
    script = """
import shutil
def fill(room):
    with open(folder / "full", "wb") as file:
        file.write(bytes(shutil.disk_usage(folder).free - room))
free = lambda: os.remove(folder / "full")
for room in (0, 20_000, 300_000):
    check(folder / "c", room)
    shutil.rmtree(folder / "c")
"""
    with mounted(tmp_path, "8m"):
        told = lines_of(run(FULL + script, tmp_path))
    assert told == 3 * told_of_no_room(tmp_path / "c", "No space left on device")
