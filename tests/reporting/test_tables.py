"""Tables of the paper with our rows: every row of it, and no number that was not measured."""

import json
from pathlib import Path

import pytest

from fv_jax.reporting import tables
from fv_jax.reporting.tables import FORMAT, Table

PAPER = json.loads(Path("experiments/paper_tables.json").read_text(encoding="utf-8"))


def result(experiment="bair_interpolation", name="bair", **metrics):
    values = {"fvd": {"value": None, "reason": "no weights"}, "psnr": {"value": 17.25}}
    return {
        "format": FORMAT, "name": name, "experiment": experiment, "command": f"fv evaluate {name}",
        "source": {"machine": "M", "date": "D", "commit": "C"},
        "protocol": {"name": "bair", "profile": "repo", "given_frames": 1, "best_of": 1},
        "counts": {"frames": 16, "fake": 256, "real_pieces": 256, "runs": 4, "width": 64},
        "metrics": {**values, **metrics}, "warnings": ["few"], "path": Path("evaluate-bair.json"),
    }  # fmt: skip


def made(*results):
    return tables.paper_tables(PAPER, results, lambda name: f"eight GPUs for {name}")


def test_the_papers_tables_are_whole():
    counts = [len(table["rows"]) for table in PAPER["tables"]]
    assert counts == [9, 6, 4]
    last = [table["rows"][-1] for table in PAPER["tables"]]
    assert [row["fvd"] for row in last] == [408, 25.2, 83]
    assert (last[2]["psnr"], last[2]["ssim"], last[2]["lpips"]) == (17.1, 0.741, 0.098)


def test_what_was_not_run_has_no_number_and_says_what_it_needs():
    for table, paper in zip(made(), PAPER["tables"]):
        ours = [table.rows[i] for i in table.ours]
        assert len(table.rows) == len(paper["rows"]) + len(ours)
        assert [row[0] for row in ours] == [
            f"this code (protocol {name})"
            for name in (paper["experiment"], "flashvideo", "flashvideo_five")
        ]
        assert {cell for row in ours for cell in row[1:]} <= {"-", "not run"}
        assert table.notes == (f"not run: needs eight GPUs for {paper['experiment']}",)


def test_a_result_takes_the_place_and_null_stays_null():
    ours = result(psnr={"value": 17.25, "deviation": 0.125})
    bair = made(ours)[2]
    assert bair.rows[-3] == [
        "this code (protocol bair: 16 frames, 1 given, 4 x 256 clips against 256, profile repo)",
        "null", "17.25 ± 0.12", "not asked for", "not asked for",
    ]  # fmt: skip
    text = tables.markdown(bair)
    for words in (
        "FVD is null: no weights.",
        "Warning: few.",
        "`fv evaluate bair` on M; D, commit C",
    ):
        assert words in text
    assert "not run" in tables.markdown(made(ours)[0])


def test_small_presets_are_no_rows_of_the_paper():
    small = result("bair_tiny_interpolation", "small")
    assert "not run" in tables.markdown(made(small)[2])
    own = tables.own_table(PAPER, [small, result()])
    assert own is not None
    assert [row[0] for row in own.rows] == ["small"]
    assert tables.own_table(PAPER, [result()]) is None


def test_a_faithful_training_is_a_row_of_the_paper_and_says_so():
    row = made(result("bair_interpolation_faithful") | {"overrides": ["--faithful"]})[2].rows[-3]
    assert row[0].endswith("profile repo, faithful)")


def test_the_papers_own_protocols_have_rows_beside_the_field_s():
    five = {"name": "flashvideo_five", "profile": "repo", "given_frames": 5, "best_of": 1}
    all_used = result() | {
        "protocol": five,
        "given_used": 5,
        "overrides": ["--protocol flashvideo_five"],
    }
    table = made(all_used)[2]
    assert [row[1] for row in table.rows[-3:]] == ["not run", "not run", "null"]
    assert "16 frames, 5 given, 4 x" in table.rows[-1][0]
    two = made(all_used | {"given_used": 2})[2].rows[-1][0]
    assert "5 given, 2 of them used" in two
    debiased = result() | {"protocol": five | {"name": "bair_debiased"}}
    assert not any("given" in row[0] for row in made(debiased)[2].rows)
    assert tables.own_table(PAPER, [debiased]) is not None


def test_another_model_or_source_is_no_row_of_the_paper():
    flags = ["--size 160", "--given-frames 1", "--metrics psnr fvd"]
    usual = made(result() | {"overrides": flags})[2]
    assert "16 frames" in usual.rows[-3][0]
    for flag in ("--model shapes", "--source clips", "--count 2", "--inherit 0.5"):
        other = result() | {"overrides": [*flags, flag]}
        assert [row[1] for row in made(other)[2].rows[-3:]] == ["not run"] * 3
        own = tables.own_table(PAPER, [other])
        assert own is not None
        assert own.rows[0][1].endswith(f"profile repo, `{flag}`")


def test_markdown_cells_hold_their_bars_and_ours_is_bold():
    text = tables.markdown(Table("T", ["a", "b"], [["1", "x|y"], ["2", "z"]], (1,), ("note",)))
    assert text.splitlines() == [
        "**T**", "", "| a | b |", "| --- | --- |", "| 1 | x\\|y |", "| **2** | **z** |", "", "note",
    ]  # fmt: skip


def test_results_are_read_once_and_others_are_refused(tmp_path):
    values = {k: v for k, v in result().items() if k != "path"}
    (tmp_path / "evaluate-bair.json").write_text(json.dumps(values))
    (tmp_path / "evaluate-x.part.json").write_text("{")
    found = tables.read_results([tmp_path, tmp_path], "evaluate")
    assert [r["path"].name for r in found] == ["evaluate-bair.json"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "evaluate-bair.json").write_text(json.dumps(values | {"name": "other"}))
    both = tables.read_results([tmp_path, tmp_path / "other"], "evaluate")
    assert [r["name"] for r in both] == ["bair", "other"]
    bare = json.dumps({"format": FORMAT})
    for text in ("{", "[]", "{}", bare, json.dumps(values | {"metrics": {"psnr": 3}})):
        (tmp_path / "evaluate-odd.json").write_text(text)
        with pytest.raises(ValueError, match=r"evaluate-odd\.json"):
            tables.read_results([tmp_path], "evaluate")


@pytest.mark.parametrize("lacks", ["command", "source", "cells"])
def test_a_speed_bench_that_lacks_something_is_named_with_it(lacks, tmp_path):
    bench = json.loads(Path("experiments/results/efficiency-tiny.json").read_text())
    del bench[lacks]
    (tmp_path / "efficiency-odd.json").write_text(json.dumps(bench))
    with pytest.raises(ValueError, match=rf"efficiency-odd\.json .* lacks {lacks}"):
        tables.read_results([tmp_path], "efficiency")


def test_figure_6_shows_the_longest_clips_and_says_what_is_missing():
    bench = tables.read_results([Path("experiments/results")], "efficiency")
    *measured, paper = tables.figure_6(PAPER, bench)
    assert measured[0].header == ["way", "64 px", "128 px", "160 px"]
    assert "9.17 times" in paper.notes[0]
    assert "--preset paper" in paper.notes[1]
    assert tables.figure_6(PAPER, [])[0].notes == paper.notes


def test_figure_6_has_means_beside_medians_where_a_result_has_both():
    (bench,) = tables.read_results([Path("experiments/results")], "efficiency")
    before = tables.figure_6(PAPER, [bench])[0]
    assert "median," in before.title
    assert not any("(" in cell for row in before.rows for cell in row[1:])
    way = next(iter(tables.figure_6_cells(bench)[0]["ways"].values()))
    way |= {"seconds_per_frame": 0.004, "mean_seconds_per_frame": 0.005}
    after = tables.figure_6(PAPER, [bench])[0]
    assert "median (mean)" in after.title
    assert after.rows[0][1] == "4 (5)"
    assert after.rows[1:] == before.rows[1:]


def test_text_around_a_section_stays():
    page = "# Page\n\nbefore\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nafter\n"
    assert tables.replace_section(page, "a", "new\n") == page.replace("old", "new")
