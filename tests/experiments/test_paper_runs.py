"""The paper's trainings: their settings as the paper has them, and their small forms end to end.

The small ones run on pieces of real clips where these are at hand, laid out as each data set is.
"""

import csv
import os
import subprocess
import sys
import time

import av
import numpy as np
import pytest
import tiny
import videos
from tensorflow_datasets.proto import tf_example_generated_pb2 as tf_example
from tfrecord_writer import write_tfrecord

from fv_jax.cli.main import main
from fv_jax.evaluation.protocols import protocol
from fv_jax.media.frames import fit
from fv_jax.media.writers import write_gif, write_mp4
from fv_jax.sequence.packing import key_frames_after
from fv_jax.training import experiments

STAGES, PRESETS = ("tokenizer", "key_frames", "interpolation"), ("paper", "tiny")
PAPER = {  # epochs, clips, key frames, frames that these span
    "ucf101": (1000, 9537, 16, 61),
    "kinetics600": (500, 392_000, 16, 61),
    "bair": (800, 43_264, 8, 29),
}


def config(name, stage="key_frames", preset="paper"):
    return experiments.load_training(name).get_config(stage=stage, preset=preset)


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_has_settings_and_a_folder_of_its_own(name, stage, preset):
    middle = "" if preset == "paper" else f"_{preset}"
    assert config(name, stage, preset).name == f"{name}{middle}_{stage}"


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_faithful_run_is_retnet_s_own_network_in_its_own_folders(name, preset):
    get_config = experiments.load_training(name).get_config
    tokenizer, *plain = (config(name, stage, preset) for stage in STAGES)
    same, *stages = (get_config(stage=stage, preset=preset, faithful=True) for stage in STAGES)
    assert same == tokenizer
    for stage, ours in zip(stages, plain):
        assert stage.name == f"{ours.name}_faithful"
        assert (stage.data, stage.run, stage.tokenizer) == (ours.data, ours.run, ours.tokenizer)
        check_faithful(stage)
    assert [stage.start for stage in stages] == ["", f"out/{stages[0].name}/model"]


def check_faithful(network):
    assert (network.model.memory_tokens, network.model.angles) == (None, "geometric")
    assert not any((network.slot_embeddings, network.level_embeddings, network.model.shared_start))


def test_faithful_shapes_starts_from_random_weights():
    module = experiments.load_training("shapes")
    network = module.get_config(faithful=True)
    assert (network.name, network.start) == ("shapes_faithful", "")
    check_faithful(network)
    assert module.get_config().start


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_networks_train_for_the_paper_s_epochs(name, stage):
    c, (epochs, clips, key_frames, span) = config(name, stage), PAPER[name]
    assert c.expected.clips == clips
    assert c.run.steps * c.run.batch_size == pytest.approx(epochs * clips, rel=1e-4)
    assert (c.key_frames, c.clip_frames) == (key_frames, span)
    assert (c.size, c.expected.frame_grid, c.expected.frame_codes) == (160, (20, 20), 20_000)
    assert c.run.batch_size % (8 * c.run.accumulate) == 0  # eight GPUs share every part of a batch
    assert c.optimizer.weight_decay == 0  # plain Adam


@pytest.mark.parametrize("name", PAPER)
def test_the_tokenizer_makes_what_the_networks_expect(name):
    c, expected = config(name, "tokenizer"), config(name).expected
    assert expected is not None
    side = c.size // c.tokenizer.patch
    assert (side, side) == expected.frame_grid
    assert c.tokenizer.levels == expected.code_levels
    assert np.prod(c.tokenizer.levels) == expected.frame_codes


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stage", STAGES[1:])
def test_networks_are_trained_to_begin_with_one_frame_or_five(name, stage, preset):
    c = config(name, stage, preset)
    assert c.given_frames == protocol("flashvideo_five").given_frames == 5
    assert 0 < c.given_share < 1
    after = (key_frames_after(5, c.key_frames) - 1) * c.key_frame_stride + 1
    assert preset == "tiny" or after >= protocol("flashvideo_five").frames


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_stage_begins_where_the_one_before_ended(name, preset):
    tokenizer, first, second = (config(name, stage, preset) for stage in STAGES)
    assert first.tokenizer == second.tokenizer == f"out/{tokenizer.name}/model"
    assert (first.start, second.start) == ("", f"out/{first.name}/model")
    assert (first.data, first.model, first.text_tokens) == (
        second.data, second.model, second.text_tokens
    )  # fmt: skip
    assert first.key_frame_share == 1 > second.key_frame_share > 0
    assert first.fps == second.fps


def real_pieces(count=40, size=(120, 160)):
    """Pieces of the real clips, uint8 [count, Y, X, 3]; of made-up ones where there are none."""
    pieces = []
    for path in videos.real_clips():
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        pieces += [
            fit(np.stack(frames[start : start + count]), size)
            for start in range(0, len(frames) - count + 1, count)
        ]
    return pieces[:12] or [videos.noise(count, size, seed) for seed in range(12)]


def write_ucf101(folder, clips):
    names = [
        f"{label}/v_{label}_g{number:02d}_c01.avi"
        for number in range(1, len(clips))
        for label in ("ApplyEyeMakeup", "YoYo")
    ][: len(clips)]
    for name, frames in zip(names, clips):
        write_mp4(frames, 25.0, folder / "UCF-101" / name)
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("".join(f"{name} 1\n" for name in names))
    return f"ucf101:{folder}", "Apply Eye Makeup", folder / "UCF-101" / names[0]


def write_kinetics600(folder, clips):
    rows = [(f"tai{number:08d}", number) for number in range(len(clips))]
    for (name, start), frames in zip(rows, clips):
        write_mp4(frames, 30.0, folder / "train" / f"{name}_{start:06d}_{start + 10:06d}.mp4")
    with (folder / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        for name, start in rows:
            table.writerow(("tai chi", name, start, start + 10, "train"))
    return f"kinetics600:{folder}", "tai chi", folder / "train" / f"{rows[0][0]}_000000_000010.mp4"


def write_bair(folder, clips):
    small = [fit(frames, (64, 64))[:30] for frames in clips]
    records = [tf_example.Example() for _ in small]  # pyright: ignore
    for record, frames in zip(records, small):
        for t, frame in enumerate(frames):
            key = f"{t}/image_aux1/encoded"
            record.features.feature[key].bytes_list.value.append(frame.tobytes())
    home = folder / "softmotion30_44k" / "train"
    write_tfrecord(home / "traj_0_to_255.tfrecords", [r.SerializeToString() for r in records])
    write_gif(small[0], 10.0, folder / "first.gif")  # first frames come from a video file
    return f"bair:{folder}", "a robot arm pushes objects", folder / "first.gif"


LAYOUTS = {"ucf101": write_ucf101, "kinetics600": write_kinetics600, "bair": write_bair}


def commands(name, source, text, first, settings=lambda stage: ()):
    """The commands of the experiment's docstring, for its preset `tiny`."""
    fps, out = config(name).fps, f"out/{name}_tiny"
    train = lambda stage: ["train", name, "--stage", stage, "--preset", "tiny", *settings(stage)]
    yield [*train("tokenizer"), "--data", source]
    yield [
        "tokenize", source, "--tokenizer", f"{out}_tokenizer/model", "--size", "64",
        "--fps", str(fps), "--out", f"out/tokens/{name}_tiny",
    ]  # fmt: skip
    yield train("key_frames")
    yield train("interpolation")
    yield [
        "generate", text, "--first-frames", str(first), "--model", f"{out}_interpolation/model",
        *(["--given-frames", "5"] if name == "kinetics600" else []), "--out", "made.npz",
    ]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_video(path):
    with np.load(path) as made:
        assert made["frames"].shape == (9, 64, 64, 3)
        assert made["key_frame"].sum() == 3


def few_steps(stage):
    """Of a still smaller network: what is left is compiling."""
    run = "--run.steps 2 --run.sample-every 2 --run.batch-size 2"
    if stage == "tokenizer":
        more = "--pairs 8 --crop 2 --evaluation-clips 2 --tokenizer.width 16"
    else:
        more = (
            "--model.width 24 --model.layers 1 --model.heads 2 --model.value-width 24 "
            "--model.hidden 16 --model.chunk 27"
        )
    return f"{run} {more}".split()


@pytest.mark.slow  # e2e/test_own_videos.py goes the same way
def test_a_tiny_run_goes_from_clips_to_a_video(place):
    layout = LAYOUTS["kinetics600"](place / "data", [tiny.video(30, seed=i) for i in range(4)])
    for command in commands("kinetics600", *layout, few_steps):
        assert main(command) == 0
    check_video("made.npz")


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tiny_preset_takes_two_minutes(place, name):
    layout = LAYOUTS[name](place / "data", real_pieces())
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(place / "cache")}  # cold
    seconds = {}
    for command in commands(name, *layout):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "fv_jax", *command], env=environment, check=True)
        step = command[3] if command[0] == "train" else command[0]
        seconds[step] = round(time.monotonic() - start, 1)
    print(f"{name}: {sum(seconds.values()):.0f} s: {seconds}")
    check_video(place / "made.npz")
    assert sum(seconds.values()) < 150
