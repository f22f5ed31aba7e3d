"""A line that says what is done, once it lasts."""

import time

from fv_jax.cli import progress
from fv_jax.cli.progress import working


def test_work_that_lasts_is_told_and_short_work_is_not(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LATER", 0.05)
    with working("thinking"):
        pass
    assert capsys.readouterr().err == ""
    with working("thinking"):
        time.sleep(0.5)
    assert "thinking: 00:00" in capsys.readouterr().err


def test_what_comes_before_counts(monkeypatch, capsys):
    """A program that has imported for a second says something half a second later."""
    monkeypatch.setattr(progress, "_LATER", 0.0)
    for began, words in ((-1.4, "thinking: 00:00"), (60, "")):
        monkeypatch.setattr(progress, "STARTED", time.perf_counter() + began)
        with working("thinking"):
            time.sleep(0.4)
        assert words in capsys.readouterr().err
        assert words or not capsys.readouterr().err
