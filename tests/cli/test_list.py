"""`fv list`, `--help` and `--version`: what there is can be found without reading the source."""

import re
import subprocess
import sys

import pytest
import tiny

from fv_jax import __version__
from fv_jax.cli.main import main
from fv_jax.data.sources.base import SOURCES
from fv_jax.generation.pretrained import save
from fv_jax.training import experiments


def shown(capsys, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_everything_is_listed_with_a_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = shown(capsys, "list")
    for name in [*experiments.names(), *experiments.names("benches"), *SOURCES]:
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")][:1]
        assert len(line.split()) > 2
        assert len(line) <= 100
    assert "8x8 ids a frame" in text
    assert "cost: 1,500 steps of 24 rows (77 tokens each): 6.5 minutes on two CPU cores" in text
    assert "ucf101:PLACE,split=train,list=1" in text


@pytest.mark.parametrize("kind", ["experiments", "benches", "models"])
def test_everything_says_what_it_costs(kind, capsys):
    _, *lines = shown(capsys, "list", kind).splitlines()
    things = [thing for thing in re.split(r"\n(?=  \S)", "\n".join(lines)) if thing.strip()]
    assert len(things) >= 1
    for thing in things:
        cost = re.search(r"\n +cost: (.+)", thing)
        assert cost, f"no line `    cost   ..` in the docstring of {thing.split()[0]}"
        assert re.search(r"\d|minute|hour", cost[1])


def test_only_what_is_asked_for_and_models_that_were_trained_here(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny.model()
    record = {"steps": 3, "parameters": 5, "config": {"name": "tiny"}}
    folder = tmp_path / "out" / "mine" / "model"
    save(folder, model.config, model.params, model.frames, model.text, record)
    (tmp_path / "out" / "cut" / "model").mkdir(parents=True)
    (tmp_path / "out" / "cut" / "model" / "config.json").write_text("{")
    text = shown(capsys, "list", "models")
    assert "  out/mine/model " in text
    assert "3 steps of `tiny`" in text
    assert "cannot be read" in text
    assert "ucf101" not in text


@pytest.mark.parametrize(("command", "kind"), [("train", ""), ("bench", "benches")])
def test_help_names_what_can_follow(command, kind, capsys):
    text = " ".join(shown(capsys, command, "--help").split())
    assert f"There are: {', '.join(experiments.names(kind))}." in text


def test_the_version(capsys):
    assert shown(capsys, "--version") == f"fv {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_can_complete(shell, capsys):
    script = shown(capsys, "--tyro-print-completion", shell)
    for word in ("generate", "--first-frames", "convert-weights"):
        assert word in script


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("trian shapes", "no command 'fv trian'; did you mean 'train'?"),
        ("data inspct x", "no command 'fv data inspct'; did you mean 'inspect'?"),
        ("train", "fv train needs EXPERIMENT; `fv train --help` says more"),
        ("tokenize", "fv tokenize needs SOURCE and --out PATH; `fv tokenize --help` says more"),
        ("tokenize x", "fv tokenize needs --out PATH; `fv tokenize --help` says more"),
        ("generate a --modle b", "no option --modle; did you mean --model?"),
        ("generate a --zzzz", "no option --zzzz; `fv generate --help` says more"),
        ("generate a --model shpes", "did you mean 'shapes'?"),
        ("generate a b --format mp5", "--format: no 'mp5'; did you mean 'mp4'? there are: npz, "),
        ("train shaeps", "no experiment 'shaeps'; did you mean 'shapes'?"),
        ("bench shapes-fdv", "did you mean 'shapes-fvd'?"),
        ("train ucf101 --stage keyframes", "--stage: no 'keyframes'; did you mean 'key_frames'?"),
        ("data inspect shaps", "did you mean 'shapes'?"),
        ("data inspect shapes,cuont=3", "did you mean 'count'?"),
        ("tokenize shapes --out x --tokenizer shaps", "did you mean 'shapes'?"),
        ("evaluate a b --protocol ucf11", "did you mean 'ucf101'?"),
        ("evaluate ucf101 --preset tiyn", "ucf101 has no --preset tiyn; did you mean 'tiny'?"),
        ("evaluate a b --metrics pnsr", "metrics: no 'pnsr'; did you mean 'psnr'?"),
        ("generate a --out a.mp5", "from its suffix; did you mean '.mp4'?"),
        ("train shapes --model.angles evn", "--model.angles: no 'evn'; did you mean 'even'?"),
        ("data inspect shapes,split=tst", "split: no 'tst'; did you mean 'test'?"),
        ("list model", "no 'model'; did you mean 'models'?"),
    ],
)
def test_a_wrong_word_hears_the_nearest_right_one(words, line, capsys):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("fv: ")
    assert error.count("\n") == 1
    assert line in error


def test_a_reader_that_has_seen_enough_ends_it_without_a_word():
    code = "import sys; from fv_jax.cli.main import main; sys.exit(main(['list']))"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process, process.stdout as out, process.stderr as errors:
        assert out.readline()
        out.close()
        assert errors.read() == b""
    assert process.returncode == 141
