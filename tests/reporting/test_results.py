"""What a bench writes: one page and one JSON file, with the command that repeats it."""

import dataclasses
import json
from pathlib import Path

import pytest

from fv_jax.config.model import Options
from fv_jax.reporting.results import markdown, record


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "shapes"
    clips_of_each: int = 3
    names: tuple[str, ...] = ()
    options: Options = Options()
    out: Path = Path("out/bench")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NPROC", "XLA_FLAGS", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)


def test_a_second_run_replaces_its_page_and_leaves_the_others(tmp_path):
    settings = Settings(out=tmp_path)
    record("one", settings, {"x": 1}, "| first |\n")
    record("two", settings, {"x": 2}, "| other |\n")
    record("one", settings, {"x": 3}, "| second |\n")
    results = tmp_path / "results"
    one, values = (results / "one.md").read_text(), json.loads((results / "one.json").read_text())
    assert one.startswith(f"# one\n\n`{values['command']}` on {values['source']['machine']}; ")
    assert one.endswith("\n\n| second |\n")
    assert "first" not in one
    assert "| other |" in (results / "two.md").read_text()
    assert values["x"] == 3


def test_variants_have_pages_of_their_own_and_one_command(tmp_path):
    for variant in ("tiny", "paper"):
        record("one", Settings(out=tmp_path), {}, f"| {variant} |\n", variant)
    for variant in ("tiny", "paper"):
        page = (tmp_path / "results" / f"one-{variant}.md").read_text()
        assert f"| {variant} |" in page
        assert "bench one-" not in page


def test_the_command_holds_what_is_not_the_default(tmp_path, monkeypatch):
    command = lambda **changed: json.loads(_recorded(tmp_path, **changed))["command"]
    assert command() == f"fv bench one --out {tmp_path}"
    assert command(model="a b") == f"fv bench one --model 'a b' --out {tmp_path}"
    assert "--clips-of-each 5" in command(clips_of_each=5)
    assert "one --names a 'b c' --out" in command(names=("a", "b c"))
    options = Options(guidance=1.0, drafts=False)
    assert "one --options.guidance 1.0 --options.no-drafts --out" in command(options=options)
    monkeypatch.setenv("NPROC", "1")
    assert command() == f"NPROC=1 fv bench one --out {tmp_path}"


def _recorded(tmp_path, **changed) -> str:
    record("one", Settings(out=tmp_path, **changed), {}, "| x |\n")
    return (tmp_path / "results" / "one.json").read_text()


def test_tables_are_aligned_markdown():
    assert markdown(["a", "b"], [[1, 0.123456]]) == "| a | b |\n| --- | --- |\n| 1 | 0.1235 |\n"
