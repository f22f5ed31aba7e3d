"""What `--help` shows: every flag with a line that says what it is, two lines before them."""

import re

import pytest

from fv_jax.cli.main import COMMANDS, main
from fv_jax.training import experiments

TRAININGS = [("train", name) for name in experiments.names()]
BENCHES = [("bench", name) for name in experiments.names("benches")]


def shown(words, monkeypatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", "100")  # a wider one gets two columns of boxes
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


def flags(text: str) -> dict[str, str]:
    """Flags and positional arguments with their help, defaults left out."""
    entries, name, positional = {}, "", False
    for line in text.splitlines():
        if found := re.fullmatch(r"(positional arguments|[\w. ]*options)", line.strip("╭─╮ ")):
            positional = found[1].startswith("positional")
            continue
        line = re.sub("[│ ]+$", "", line)[2:]  # a box, or spaces where it cannot be drawn
        if found := re.match(r"(--[a-z].*?|-h.*?)(?:  +(.*))?$", line) or (
            positional and re.match(r"([^\s-].*?)(?:  +(.*))?$", line)
        ):
            name = found[1]
            entries[name] = found[2] or ""
        elif name and line.startswith(" "):
            entries[name] += " " + line.strip()
    return {
        name: re.sub(r"\((default: .*|required)\)", "", text).strip()
        for name, text in entries.items()
    }


def test_a_bare_flag_would_be_seen():
    text = "│ --name STR   What it is. (default: a) │\n│ --size INT   (default: 3)            │"
    assert flags(text) == {"--name STR": "What it is.", "--size INT": ""}


@pytest.mark.parametrize(
    "words", [(name,) for name in COMMANDS] + TRAININGS + BENCHES, ids=" ".join
)
def test_every_flag_says_what_it_is(words, monkeypatch, capsys):
    text = shown(" ".join(words).split(), monkeypatch, capsys)
    found = flags(text)
    assert len(found) > 1
    assert [name for name, line in found.items() if not line] == []
    assert "options options" not in text


@pytest.mark.parametrize("words", TRAININGS + BENCHES, ids=" ".join)
def test_help_opens_with_two_lines_and_not_with_the_diary(words, monkeypatch, capsys):
    lines = shown(words, monkeypatch, capsys).splitlines()
    _, what, where = [line for line in lines if line.strip()][:3]
    folder = "benches/" if words[0] == "bench" else ""
    name = words[1].replace("-", "_")
    assert len(what) <= 100
    assert where == f"Its record is in experiments/{folder}{name}.py."


def test_the_first_help_is_enough_to_start(monkeypatch, capsys):
    text = shown([], monkeypatch, capsys)
    assert all(name.split()[0] in text for name in COMMANDS)
    text = shown(["generate"], monkeypatch, capsys)
    assert "Example: fv generate" in text
    for flag in ("--inherit", "--first-frames", "--out"):
        assert flag in text
