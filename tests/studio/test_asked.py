"""What a request's JSON says: all that is wrong is one line, and nothing else gets through."""

import json

import pytest
import tiny

from fv_jax.config.model import Options
from fv_jax.studio.asked import Asked, read_asked, read_fork


def read(**values):
    return read_asked(json.dumps(values).encode(), tiny.model())


def test_what_is_not_said_is_as_usual():
    assert read(prompt="a circle") == Asked("a circle")
    options = {"inherit": "auto", "insert": [1, 1], "levels": 1, "guidance": 2, "skip": False}
    want = Options(inherit="auto", insert=(1, 1), guidance=2, skip=False)
    assert read(prompt="a", seeds=[3, 1], options=options) == Asked("a", (3, 1), want)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": 3}, "prompt must be a text, got '3'"),
        ({"prompt": "a" * 1001}, "at most 1000 letters, got 1001"),
        ({"seeds": []}, "1 to 8 whole numbers"),
        ({"seeds": [0] * 9}, "1 to 8 whole numbers"),
        ({"seeds": [True]}, "1 to 8 whole numbers"),
        ({"seeds": 3}, "1 to 8 whole numbers"),
        ({"sead": 3}, "the request: no 'sead'; did you mean 'seed'?"),
        ({"options": []}, "options must be an object"),
        ({"options": {"temprature": 1}}, "options: no 'temprature'; did you mean 'temperature'?"),
        ({"options": {"temperature": "hot"}}, "options.temperature must be a number"),
        ({"options": {"temperature": -1}}, "options.temperature must be >= 0, got -1"),
        ({"options": {"skip": 1}}, "options.skip must be of type bool"),
        ({"options": {"top_k": 1.5}}, "options.top_k must be of type int"),
        ({"options": {"levels": True}}, "options.levels must be of type int"),
        ({"options": {"inherit": "much"}}, "options.inherit must be a number or"),
        ({"options": {"insert": [1, "x"]}}, "options.insert must be a whole number"),
        ({"options": {"window": 1e300}}, "options.window must be of type int"),
        ({"options": {"key_frames": 9}}, "key_frames must be in 1..3"),
        ({"options": {"insert": 1, "levels": 8}, "seeds": [0] * 8}, "at most 2048 are made"),
        ({"first_frames": "a", "interpolate": "b"}, "not both"),
    ],
)
def test_what_is_wrong_is_said(values, said):
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        read(**values)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff\xfe", b'{"options":{"guidance":NaN}}', b"[" * 60000]
)
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(ValueError, match=r"must be JSON|must be a JSON obj|must be finite"):
        read_asked(body, tiny.model())


def test_a_fork_takes_another_sentence_or_seed():
    assert read_fork(b"") == (None, None)
    assert read_fork(b'{"prompt": "a", "seed": 3}') == ("a", 3)
    for body in (b'{"seed": -1}', b'{"seed": "1"}', b'{"prompt": 1}', b'{"seeds": [1]}'):
        with pytest.raises(ValueError, match=r"must be|: no "):
            read_fork(body)
