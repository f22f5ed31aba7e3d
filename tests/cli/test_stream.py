"""`fv generate --stream`: an endless stream's frames in a file or a pipe, and where it goes on."""

import os
import signal

import numpy as np
import pytest
import tiny

from fv_jax.cli.main import main
from fv_jax.generation.engine import Engine
from fv_jax.generation.generator import Generator
from fv_jax.media import opening

PROMPT = tiny.text().words[0]
pytestmark = pytest.mark.filterwarnings("ignore:the model was trained with")


@pytest.fixture(autouse=True)
def _tiny(generator, monkeypatch, tmp_path):
    monkeypatch.setattr(Generator, "load", lambda model: generator)
    monkeypatch.chdir(tmp_path)


def frames(generator, count: int) -> np.ndarray:
    stream = generator.stream(PROMPT, seed=3)
    return np.stack([next(stream).frame for _ in range(count)])


def piped(out: bytes) -> np.ndarray:
    return np.frombuffer(out, np.uint8).reshape(-1, 64, 64, 3)


def test_frames_come_through_a_pipe_as_they_are(generator, capfdbinary):
    assert main(["generate", PROMPT, "--stream", "6", "--seed", "3", "--out", "-"]) == 0
    shown = capfdbinary.readouterr()
    np.testing.assert_array_equal(piped(shown.out), frames(generator, 6))
    assert b"-video_size 64x64 -framerate 8 -" in shown.err


def test_a_stream_goes_on_where_it_was_kept(generator, capfdbinary):
    resumed = ["--stream", "5", "--out", "-", "--resume", "kept.safetensors"]
    assert main(["generate", PROMPT, "--seed", "3", *resumed]) == 0
    assert main(["generate", *resumed]) == 0
    made = piped(capfdbinary.readouterr().out)
    np.testing.assert_array_equal(made, frames(generator, 10))


def test_an_mp4_holds_so_many_frames_and_grows_with_the_scale(tmp_path):
    assert main(["generate", PROMPT, "--stream", "7", "--scale", "2", "--out", "a.mp4"]) == 0
    clip = opening.open_clip(tmp_path / "a.mp4")
    assert (len(clip.times), clip.size) == (7, (128, 128))


def test_ctrl_c_ends_the_file_and_keeps_the_stream(generator, tmp_path, monkeypatch, capfdbinary):
    calls, decode = [], Engine.decode

    def stopped_at_the_third(self, *args, **more):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return decode(self, *args, **more)

    monkeypatch.setattr(Engine, "decode", stopped_at_the_third)
    words = ["generate", PROMPT, "--seed", "3", "--stream", "40", "--resume", "kept.safetensors"]
    assert main([*words, "--out", "a.mp4"]) == 130
    made = len(opening.open_clip(tmp_path / "a.mp4").times)
    assert 0 < made < 40
    capfdbinary.readouterr()
    assert main(["generate", "--stream", "2", "--out", "-", "--resume", "kept.safetensors"]) == 0
    rest = piped(capfdbinary.readouterr().out)
    np.testing.assert_array_equal(rest, frames(generator, made + 2)[made:])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("a b --stream 3 --out x.mp4", "--stream takes one prompt, got 2"),
        ("--stream 3 --out x.mp4", "--stream takes one prompt, got 0"),
        ("a --stream 3 --out x.gif", "--stream writes .mp4, or raw frames to -"),
        ("a --stream -3", "--stream must be >= 0"),
        ("a --resume x --out x.mp4", "--resume is only for --stream"),
        ("--stream 3 --out x.mp4 --resume bad", "bad is damaged or no saved stream"),
        ("--stream 3 --out x.mp4 --resume bad --top-k 3", "leave the options out"),
        ("a --stream 3 --out bad/x.mp4", "is no folder"),
    ],
)
def test_what_cannot_be_is_one_line(words, error, capsys, tmp_path):
    (tmp_path / "bad").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert main(["generate", *words.split()]) == 2
    assert error in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]
