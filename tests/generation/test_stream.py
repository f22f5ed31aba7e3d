"""Streams: the frames of `generate`, then more; stopped, saved, loaded, forked."""

import dataclasses
import gc
import itertools

import jax
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from fv_jax.config.model import Options
from fv_jax.generation.engine import Engine
from fv_jax.generation.generator import Generator
from fv_jax.generation.stream import Stream

OPTIONS = Options(insert=3, inherit=0.3, window=4)
ROUND = 9  # frames of three key frames and what lies between


def take(stream, count):
    return list(itertools.islice(stream, count))


def ids(frames):
    return np.stack([frame.ids for frame in frames])


def begin(generator, seed=40, prompt=tiny.PROMPTS[0]):
    return generator.stream(prompt, seed=seed, options=OPTIONS)


@pytest.fixture(scope="module")
def frames(generator):
    """Three rounds: 3 key frames, then one new key frame a round."""
    with pytest.warns(UserWarning, match="in rounds that begin with the last 2 key"):
        return take(begin(generator), ROUND + 8)


def test_the_first_round_is_what_generate_makes(generator, frames):
    (clip,) = generator.generate(tiny.PROMPTS[:1], seed=40, options=OPTIONS)
    made = lambda name: np.stack([getattr(frame, name) for frame in frames[:ROUND]])
    for name in ("ids", "key_frame", "inherited"):
        np.testing.assert_array_equal(made(name), getattr(clip, name))
    # One frame is decoded at a time here: sums of floats may round to the next level of 255.
    difference = made("frame").astype(int) - clip.frames
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-3
    assert [frame.index for frame in frames] == list(range(ROUND + 8))


@pytest.mark.parametrize("changes", [False, True])
def test_the_same_holds_where_the_network_reads_ids_nearby(changes):
    config = tiny.model_config()
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, nearby=3))
    model = tiny.model_of_changes() if changes else tiny.model_of(config)
    generator = Generator(model, Engine(model, tiny.STEP_TIME))
    (clip,) = generator.generate(tiny.PROMPTS[:1], seed=40, options=OPTIONS)
    frames = take(begin(generator), ROUND)
    np.testing.assert_array_equal(ids(frames), clip.ids)
    (plain,) = tiny.generator().generate(tiny.PROMPTS[:1], seed=40, options=OPTIONS)
    assert (plain.ids != clip.ids).any()


@pytest.mark.filterwarnings("ignore:the model was trained with")
@pytest.mark.parametrize("made", [3, 7])
def test_a_stream_of_changes_goes_on_in_rounds_and_from_a_file(tmp_path, made):
    model = tiny.model_of_changes()
    maker = Generator(model, Engine(model, tiny.STEP_TIME))
    whole, stream = take(begin(maker), ROUND + 8), begin(maker)
    take(stream, made)
    stream.save(tmp_path / "stream.safetensors")
    again = Stream.load(Generator(model), tmp_path / "stream.safetensors")
    np.testing.assert_array_equal(ids(take(again, 10)), ids(whole[made : made + 10]))


def test_later_rounds_go_on_with_the_same_rhythm(frames):
    keys = [frame.index for frame in frames if frame.key_frame]
    assert keys == [0, 4, 8, 12, 16]
    assert [frames[k].key_round for k in keys] == [0, 0, 0, 1, 2]
    assert len(np.unique(ids([frames[k] for k in keys]), axis=0)) == 5


@pytest.mark.filterwarnings("ignore:the model was trained with")
@pytest.mark.parametrize("made", [0, 1, 4, 7, 10, 13])
def test_a_loaded_stream_goes_on_as_if_it_had_never_stopped(generator, frames, tmp_path, made):
    stream = begin(generator)
    take(stream, made)
    stream.save(tmp_path / "stream.safetensors")
    assert (tmp_path / "stream.safetensors").stat().st_size < 100_000
    again = Stream.load(Generator(tiny.model()), tmp_path / "stream.safetensors")
    rest = take(again, 6)
    assert [frame.index for frame in rest] == list(range(made, made + 6))
    np.testing.assert_array_equal(ids(rest[:4]), ids(frames[made : made + 4]))


def test_a_fork_goes_its_own_way_and_leaves_the_stream_alone(generator, frames):
    stream = begin(generator)
    take(stream, 5)
    same, other = stream.fork(), stream.fork(seed=7)
    changed = stream.fork(prompt=tiny.PROMPTS[1])
    np.testing.assert_array_equal(ids(take(same, 4)), ids(frames[5:9]))
    assert (ids(take(other, 4)) != ids(frames[5:9])).any()
    assert (ids(take(changed, 4)) != ids(frames[5:9])).any()
    np.testing.assert_array_equal(ids(take(stream, 4)), ids(frames[5:9]))


@pytest.mark.filterwarnings("ignore:the model was trained with")
def test_the_state_does_not_grow(generator):
    stream = begin(generator)
    take(stream, 1)
    before, arrays = stream.state_bytes, None
    for round_ in range(3):
        take(stream, 4)
        now = len(jax.live_arrays())
        assert stream.state_bytes == before
        if round_ > 0:
            assert arrays is None or now <= arrays
            arrays = now


def test_another_models_stream_is_refused(generator, tmp_path):
    path = tmp_path / "stream.safetensors"
    begin(generator).save(path)
    model = tiny.model()
    params = jax.tree.map(lambda leaf: leaf * 1.01, model.params)
    other = Generator(type(model)(model.name, model.config, params, model.frames, model.text))
    with pytest.raises(ValueError, match="saved with another model"):
        Stream.load(other, path)


def test_damaged_files_are_refused(generator, tmp_path):
    path = tmp_path / "stream.safetensors"
    begin(generator).save(path)
    whole = path.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped").write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    save_file(load_file(path), tmp_path / "bare")
    for name in ("cut", "flipped", "bare"):
        with pytest.raises(ValueError, match="damaged or no"):
            Stream.load(generator, tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no file"):
        Stream.load(generator, tmp_path / "absent")


def test_bad_requests_are_refused_at_once(generator):
    with pytest.raises(ValueError, match="the prompt is empty"):
        generator.stream("")
    with pytest.raises(ValueError, match="more than 2 key frames a round, got 2"):
        generator.stream(tiny.PROMPTS[0], options=Options(key_frames=2))
    with pytest.raises(ValueError, match="seeds must be in"):
        generator.stream(tiny.PROMPTS[0], seed=-1)


@pytest.mark.filterwarnings("ignore:the model was trained with")
def test_neither_the_state_nor_what_jax_holds_grows_over_many_rounds(generator):
    stream = begin(generator)
    held = []
    for _ in range(5):
        last = take(stream, 12)[-1]  # three key frames
        gc.collect()
        sizes = [array.nbytes for array in jax.live_arrays()]  # the arrays must not be kept
        held.append((stream.state_bytes, len(sizes), sum(sizes)))
    assert last.index == 59
    assert last.key_round > 10
    assert held == held[:1] * 5
