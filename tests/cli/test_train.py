"""`fv train`: which of its words choose, which set, and which are wrong."""

import sys

import pytest

from fv_jax.cli.main import main
from fv_jax.cli.train import Flags, settings_of
from fv_jax.training.experiments import load_training


@pytest.mark.parametrize(
    "args",
    [
        ["--stage", "interpolation", "--run.steps", "3", "--preset", "tiny"],
        ["--run.steps=3", "--preset=tiny", "--stage=interpolation"],
    ],
)
def test_flags_choose_the_variant_and_set_the_rest(args):
    flags, config = settings_of(load_training("ucf101"), args)
    assert flags == Flags()
    assert config.name == "ucf101_tiny_interpolation"
    assert config.run.steps == 3


def test_other_flags_and_the_values_of_settings():
    args = ["--insertions", "8", "1", "4", "3", "--text", "", "--run.mesh.data", "-1"]
    module = load_training("bair")
    flags, config = settings_of(module, [*args, "--estimate", "--devices=8", "--profile"])
    assert flags == Flags(estimate=True, devices=8, profile=True)
    assert config.name == module.get_config().name
    assert (config.insertions, config.text, config.run.mesh.data) == (((8, 1), (4, 3)), "", -1)


def test_a_variant_that_is_on_or_off():
    module = load_training("shapes")
    for args, on in ((["--faithful"], True), (["--no-faithful"], False), ([], False)):
        assert settings_of(module, args)[1] == module.get_config(faithful=on)


def test_an_experiment_without_variants_has_only_the_other_flags():
    module = load_training("shapes_images")
    flags, config = settings_of(module, ["--profile"])
    assert flags == Flags(profile=True)
    assert config == module.get_config()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["ucf101", "--stage", "keyframes"], ["--stage", "'keyframes'", "key_frames"]),
        (["ucf101", "--preset=large"], ["--preset", "'large'", "tiny"]),
        (["ucf101", "--stage"], ["--stage"]),
        (["shapes", "--stage", "tokenizer"], ["--stage"]),
        (["shapes", "--run.stepz", "3"], ["--run.stepz", "--run.steps"]),
        (["shapes", "--run.steps", "0"], ["steps", "0"]),
        (["shapes", "--estimate", "--devices", "many"], ["--devices", "'many'"]),
        (["shapes", "--estimate", "--devices", "0"], ["--devices", "0"]),
        (["shapes", "--devices", "8"], ["--devices", "--estimate"]),
        (["shapes", "--topology", "v5e:2x4"], ["--topology", "--estimate"]),
        (["shapes_features", "--estimate"], ["shapes_features", "no costs"]),
        (["nosuch"], ["nosuch", "shapes_tokenizer"]),
        (["paper_runs"], ["paper_runs", "get_config"]),
    ],
)
def test_wrong_words_are_one_line(args, words, capsys):
    assert main(["train", *args]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("fv: ")
    assert "\n" not in line
    assert all(word in line for word in words)


def test_help_shows_the_flags_and_the_variant_s_defaults(capsys):
    assert main(["train", "bair", "--preset", "tiny", "--stage=interpolation", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("--stage {tokenizer,key_frames,interpolation}", "--preset {paper,tiny}",
                 "--faithful, --no-faithful", "--estimate", "--devices N", "--topology NAME",
                 "--profile", "(default: bair_tiny_interpolation)"):  # fmt: skip
        assert word in shown


def test_an_estimate_takes_the_settings_and_trains_nothing(tmp_path, monkeypatch):
    asked = []
    fake = type(sys)("fv_jax.planning.estimate")
    fake.estimate = lambda config, **more: asked.append((config, more))  # pyright: ignore
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.chdir(tmp_path)
    args = ["--estimate", "--devices", "8", "--run.steps", "5", "--stage=interpolation"]
    assert main(["train", "kinetics600", *args]) == 0
    ((got, more),) = asked
    assert (got.name, got.run.steps) == ("kinetics600_interpolation", 5)
    assert more == {"devices": 8, "topology": None}
    assert not (tmp_path / "out").exists()
