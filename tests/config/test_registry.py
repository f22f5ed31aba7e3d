import json
import re
import sys

import pytest

from fv_jax.config.registry import Registry


def test_a_thing_is_imported_when_it_is_first_used(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    registry = Registry("space", {"hsv": "colorsys:rgb_to_hsv"})
    assert list(registry) == ["hsv"]
    assert "colorsys" not in sys.modules
    assert registry["hsv"](1, 1, 1) == (0, 0, 1)
    assert "colorsys" in sys.modules


def test_things_are_added_from_outside():
    registry = Registry("reader", {"a": int})
    registry.register("json", json.loads)
    registry.register("lazy", "json:dumps")
    assert (registry["a"], registry["json"], registry["lazy"]) == (int, json.loads, json.dumps)
    assert len(registry) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("foldr", "no such source 'foldr'; did you mean 'folder'? there are: folder, shapes"),
        ("?", "no such source '?'; there are: folder, shapes"),
    ],
)
def test_a_name_that_is_not_there_says_which_are(name, message):
    registry = Registry("source", {"folder": int, "shapes": int})
    assert name not in registry
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        registry[name]
