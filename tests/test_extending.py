"""The code of docs/extending.md: it runs, and what it adds is found by its name."""

import re

import pytest
import tiny
from places import ROOT

from fv_jax.data.sources.base import SOURCES
from fv_jax.evaluation.metrics import METRICS
from fv_jax.generation import pretrained
from fv_jax.ops.retention import FORMS
from fv_jax.tokenizers.load import TOKENIZERS

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
REGISTRIES = (FORMS, METRICS, SOURCES, TOKENIZERS)
SECTIONS = re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", PAGE, re.M | re.S)


@pytest.mark.parametrize(("title", "code"), SECTIONS, ids=[title for title, _ in SECTIONS])
def test_it_takes_less_than_twenty_lines_and_runs(title, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "load", lambda name: tiny.model())  # compiles sooner
    for registry in REGISTRIES:  # what is added here is forgotten afterwards
        monkeypatch.setattr(registry, "_things", dict(registry._things))
    assert len([line for line in code.splitlines() if line]) < 20
    exec(compile(code, title, "exec"), {"__name__": title})
