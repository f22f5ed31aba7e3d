"""`fv studio`: it opens, serves this machine alone, and ends at a signal."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from fv_jax.cli.main import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 lets others in: give --token, 16 letters or more"),
        (["--host", "0.0.0.0", "--token", "short"], "--token must have at least 16 letters"),
        (["--port", "65536"], "--port must be in 0..65535, got 65536"),
        (["--model", "none"], "no model named 'none'"),
    ],
)
def test_what_is_wrong_is_one_line(capsys, words, said):
    port = [] if "--port" in words else ["--port", "0"]
    assert main(["studio", *port, *words]) == 2
    out = capsys.readouterr()
    assert said in out.err
    assert out.err.count("\n") == 1


def test_a_port_that_is_taken_is_said(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["studio", "--port", str(port)]) == 2
    assert f"cannot listen at 127.0.0.1 port {port}" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "fv_jax.studio.server", raising=False)
    assert main(["studio", "--port", "0"]) == 2
    assert "`pip install fv-jax[studio]` first" in capsys.readouterr().err


def test_it_serves_until_a_signal_comes():
    # In the background of a shell Ctrl-C is ignored.
    command = ["env", "--default-signal=INT", sys.executable, *"-m fv_jax studio --port 0".split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.endswith("shows shapes; Ctrl-C ends it\n")
            address = line.split()[0]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{address}v1/model", timeout=300) as answer:
                assert json.load(answer)["name"] == "shapes"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
