"""Settings check themselves and survive JSON."""

import dataclasses
import json

import numpy as np
import pytest

from fv_jax.config.model import (
    PRESETS,
    Options,
    RetNetConfig,
    SequenceConfig,
    TokenizerConfig,
    TokenSettings,
    from_json,
    to_json,
)
from fv_jax.config.training import (
    NetworkExperiment,
    OptimizerConfig,
    RunConfig,
    TokenizerExperiment,
)

CONFIGS = [
    TokenizerConfig(levels=(8, 5, 5), halo=2),
    RetNetConfig(memory_tokens=None, matmul_dtype="bfloat16"),
    RetNetConfig(memory_tokens=(4.0, 99.0)),
    SequenceConfig(frame_grid=(3, 7)),
    SequenceConfig(gaps=(2, 4)),
    OptimizerConfig(clip_norm=0.5),
    RunConfig(folder="somewhere"),
    TokenizerExperiment("a", tokenizer=TokenizerConfig(patch=16), crop=4, noise=0),
    NetworkExperiment("b", insertions=((4, 3), (2, 1)), run=RunConfig(steps=7)),
    NetworkExperiment("c", gaps=(2, 4), skip=(1.0, 0.9), skip_given=True),
    Options(top_k=3),
    Options(insert=(3, 1), inherit="auto", skip=False),
    TokenSettings(fps=4),
    *PRESETS.values(),
]

# (class, bad fields, what the message must name: the field and the value got)
BAD = [
    (TokenizerConfig, {"levels": ()}, ["levels"]),
    (SequenceConfig, {"gaps": (4, 2)}, ["gaps", "(4, 2)"]),
    (SequenceConfig, {"gaps": (0, 2)}, ["gaps", "(0, 2)"]),
    (TokenizerConfig, {"levels": (5, 2)}, ["levels", "(5, 2)"]),
    (TokenizerConfig, {"halo": 8}, ["halo", "8"]),
    (TokenizerConfig, {"patch": 0}, ["patch", "0"]),
    (TokenizerConfig, {"hysteresis": -0.1}, ["hysteresis", "-0.1"]),
    (RetNetConfig, {"width": 161}, ["width", "161"]),
    (RetNetConfig, {"value_width": 321}, ["value_width", "321"]),
    (RetNetConfig, {"width": 15, "heads": 5}, ["heads", "15 / 5 = 3"]),
    (RetNetConfig, {"width": 10, "heads": 5}, ["heads", "10 / 5 = 2"]),
    (RetNetConfig, {"memory_tokens": (9.0, 4.0)}, ["memory_tokens", "(9.0, 4.0)"]),
    (RetNetConfig, {"memory_tokens": (0.0, 4.0)}, ["memory_tokens", "(0.0, 4.0)"]),
    (RetNetConfig, {"matmul_dtype": "float16"}, ["matmul_dtype", "float16", "bfloat16"]),
    (RetNetConfig, {"chunk": 0}, ["chunk", "0"]),
    (SequenceConfig, {"frame_grid": (0, 8)}, ["frame_grid", "(0, 8)"]),
    (SequenceConfig, {"text_tokens": 0}, ["text_tokens", "0"]),
    (OptimizerConfig, {"clip_norm": 0.0}, ["clip_norm", "0"]),
    (OptimizerConfig, {"ema_decay": 1.0}, ["ema_decay", "1"]),
    (OptimizerConfig, {"learning_rate": -1.0}, ["learning_rate", "-1"]),
    (RunConfig, {"steps": 0}, ["steps", "0"]),
    (RunConfig, {"keep_checkpoints": 0}, ["keep_checkpoints", "0"]),
    (Options, {"temperature": -0.5}, ["temperature", "-0.5"]),
    (Options, {"inherit": 1.5}, ["inherit", "1.5"]),
    (Options, {"top_p": 0.0}, ["top_p", "0"]),
    (Options, {"top_p": 1.1}, ["top_p", "1.1"]),
    (Options, {"top_k": -1}, ["top_k", "-1"]),
    (Options, {"insert": -2}, ["insert", "-2"]),
    (Options, {"insert": (1, 0)}, ["insert", "(1, 0)"]),
    (Options, {"insert": ()}, ["insert", "()"]),
    (Options, {"insert": (1, 1, 1), "levels": 3}, ["insert", "9"]),
    (Options, {"levels": -1}, ["levels", "-1"]),
    (Options, {"key_frames": -1}, ["key_frames", "-1"]),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_json_round_trip(config):
    text = json.dumps(to_json(config))
    assert from_json(type(config), json.loads(text)) == config


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_configs_are_hashable_and_frozen(config):
    again = from_json(type(config), json.loads(json.dumps(to_json(config))))
    assert hash(again) == hash(config)
    name = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, None)


@pytest.mark.parametrize(("kind", "fields", "words"), BAD)
def test_bad_values_are_named_with_what_was_got(kind, fields, words):
    with pytest.raises(ValueError, match=r"must|: no ") as caught:
        kind(**fields)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_every_number_is_finite(config, number):
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        wrong = number
        if isinstance(value, tuple) and value:
            value, wrong = value[0], (number, *value[1:])
        if isinstance(value, float):
            with pytest.raises(ValueError, match=rf"{field.name} must be "):
                dataclasses.replace(config, **{field.name: wrong})


@pytest.mark.parametrize(
    "fields",
    [
        {"key_frame_share": 1.5},
        {"text_drop": -0.1},
        {"interpolation_text_drop": 1.1},
        {"given_share": -0.1},
        {"given_frames": 4},
        {"given_frames": 2, "key_frame_stride": 1},
        {"given_frames": 5, "key_frames": 2},
        {"insertions": ((5, 3),)},  # 3 frames cannot divide 5 into equal steps
        {"insertions": ((4, 0),)},
        {"serial_numbers": 4},  # 3 inserted need SN_5
        {"serial_numbers": 5, "key_frames": 6},
        {"key_frames": 0},
        {"gaps": (2, 8)},  # key frames and what is inserted lie 4 apart
        {"skip": (1.0, 0.0)},
        {"skip": (1.1,)},
        {"skip": (1.0,), "insertions": ()},
        {"skip_given": True},
    ],
)
def test_a_network_experiment_that_cannot_run_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        NetworkExperiment("x", **fields)


def test_an_unknown_field_is_refused_by_name_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"no 'wdith'; did you mean 'width'\?"):
        from_json(RetNetConfig, {"wdith": 3})


def test_a_missing_field_is_refused_by_name():
    with pytest.raises(ValueError, match="name"):
        from_json(NetworkExperiment, {})


def test_a_bad_value_inside_a_nested_config_is_refused():
    values = to_json(NetworkExperiment("x"))
    values["model"]["heads"] = 0
    with pytest.raises(ValueError, match=r"RetNetConfig\.heads"):
        from_json(NetworkExperiment, values)


def test_derived_sizes():
    assert (RetNetConfig().key_dim, RetNetConfig().value_dim) == (32, 64)
    sequence = SequenceConfig(text_tokens=12, frame_grid=(8, 6))
    assert (sequence.frame_tokens, sequence.stride) == (48, 61)
