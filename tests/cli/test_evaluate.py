"""`fv evaluate` and `fv report` from outside: results, resuming, one clear line on errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import random_i3d
import reference_metrics
import videos
from screen import left_on_screen

from fv_jax.cli import evaluate as run_evaluate
from fv_jax.cli import report as run_report
from fv_jax.cli.main import main
from fv_jax.evaluation.metrics import METRICS
from fv_jax.media import open_clip
from fv_jax.media.readers import fps_of
from fv_jax.media.writers import write_mp4
from fv_jax.metrics import psnr, ssim
from fv_jax.metrics.interface import PairMetric
from fv_jax.reporting.tables import own_table, read_result

REAL = [videos.noise(12, (32, 48), seed) for seed in range(3)]
FAKE = [np.roll(frames, 1, axis=2) for frames in REAL]


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Folders `real` and `fake`, and a place for results."""
    for name in ("FV_I3D_WEIGHTS", "FV_LPIPS_TRUNK", "FV_LPIPS_HEADS"):
        monkeypatch.delenv(name, raising=False)
    for name, clips in (("real", REAL), ("fake", FAKE)):
        (tmp_path / name).mkdir()
        for i, frames in enumerate(clips):
            np.savez(tmp_path / name / f"{i}.npz", frames=frames)
    return tmp_path


def evaluate(home: Path, *args: object) -> int:
    places = ["--out", home / "out", "--cache", home / "cache"]
    return main([str(word) for word in ("evaluate", *places, *args)])


def result(home: Path, name: str) -> dict:
    path = home / "out" / "results" / f"evaluate-{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_two_folders_are_scored_and_all_is_written_down(sets, capsys):
    assert evaluate(sets, sets / "real", sets / "fake") == 0
    values = result(sets, "fake")
    metrics = values["metrics"]
    assert metrics["psnr"]["value"] == pytest.approx(psnr(np.stack(REAL), np.stack(FAKE)))
    assert metrics["ssim"]["value"] == pytest.approx(ssim(np.stack(REAL), np.stack(FAKE)))
    for name in ("lpips", "fvd"):
        assert metrics[name]["value"] is None
        assert "no weights" in metrics[name]["reason"]
    assert values["protocol"]["profile"] == "repo"
    assert values["counts"]["frames"] == 12
    assert values["paired_by"] == "name"
    assert len(values["hashes"]["real"]) == 64
    assert {"commit", "date", "machine", "jax"} <= set(values["source"])
    assert values["command"].startswith(f"fv evaluate {sets / 'real'} {sets / 'fake'} --out")
    assert all(Path(clip["fake"]).is_file() for clip in values["shown"])
    assert "null (no weights" in capsys.readouterr().out


def test_scores_are_found_again(sets, monkeypatch):
    assert evaluate(sets, sets / "real", sets / "fake") == 0
    before = result(sets, "fake")["metrics"]
    numbers = {path: path.read_bytes() for path in sets.rglob("numbers.bin")}
    assert len(numbers) == 2
    assert evaluate(sets, sets / "real", sets / "fake") == 0
    assert result(sets, "fake")["metrics"] == before
    assert {path: path.read_bytes() for path in numbers} == numbers


def test_given_frames_count_where_the_flags_say(sets):
    start = [np.concatenate([r[:3], f[3:]]) for r, f in zip(REAL, FAKE)]
    for i, frames in enumerate(start):
        save(sets, i, frames)
    args = (sets / "real", sets / "fake", "--metrics", "psnr", "--given-frames", 3)
    assert evaluate(sets, *args) == 0
    assert evaluate(sets, *args, "--given-in-frames", "yes", "--name", "all") == 0
    assert evaluate(sets, *args, "--given-in-fvd", "no", "--name", "less") == 0
    rest, every = (result(sets, name)["metrics"]["psnr"]["value"] for name in ("fake", "all"))
    assert every == pytest.approx((3 * 100 + 9 * rest) / 12)
    assert result(sets, "less")["protocol"]["given_in_fvd"] is False
    assert "--given-in-fvd no" in result(sets, "less")["command"]


def test_a_result_is_replaced_by_its_own_command_alone(sets, capsys):
    places = (sets / "real", sets / "fake")
    assert evaluate(sets, *places, "--metrics", "psnr") == 0
    before = (sets / "out" / "results" / "evaluate-fake.json").read_bytes()
    assert result(sets, "fake")["overrides"] == ["--metrics psnr"]
    capsys.readouterr()
    shutil.copytree(sets / "real", sets / "other" / "fake")
    others = [
        (*places, "--metrics", "ssim"),
        (*places, "--metrics", "psnr", "--frames", "10"),
        (sets / "real", sets / "other" / "fake", "--metrics", "psnr"),
        ("shapes", "--metrics", "psnr", "--name", "fake"),
    ]
    for args in others:
        assert evaluate(sets, *args) == 2
        line = capsys.readouterr().err
        for words in ("evaluate-fake.json", f"fv evaluate {sets / 'real'}", "--name"):
            assert words in line
    assert (sets / "out" / "results" / "evaluate-fake.json").read_bytes() == before
    assert not (sets / "cache" / "clips").exists()
    assert evaluate(sets, *others[0], "--name", "mine") == 0
    nowhere = ("--i3d-weights", sets / "nothing")
    assert evaluate(sets, *places, "--metrics", "psnr", *nowhere) == 0


def test_a_set_of_videos_against_one_npz(sets):
    (sets / "videos").mkdir()
    for i, frames in enumerate(REAL):
        write_mp4(frames, 8, sets / "videos" / f"{i}.mp4")
    np.savez(sets / "all.npz", videos=np.stack(REAL))
    args = (sets / "all.npz", sets / "videos", "--metrics", "psnr", "--name", "mine")
    assert evaluate(sets, *args, "--frames", "10", "--given-frames", "2", "--size", "16") == 0
    values = result(sets, "mine")
    assert set(values["metrics"]) == {"psnr"}
    assert values["metrics"]["psnr"]["value"] > 25
    assert (values["counts"]["frames"], values["counts"]["width"]) == (10, 16)


def test_a_metric_from_outside_is_one_class_and_one_line(sets, capsys, monkeypatch):
    class Brightness(PairMetric):
        label, unit, higher_is_better, fingerprint = "Brightness", "levels", False, "brightness 1"

        def __init__(self, rules, weights):
            pass

        def __call__(self, real, fake):
            return np.abs(real.mean((1, 2, 3, 4)) - fake.mean((1, 2, 3, 4)))

    monkeypatch.setattr(METRICS, "_things", dict(METRICS._things))  # of this test alone
    METRICS.register("brightness", Brightness)
    brighter = [np.clip(frames.astype(int) + 9, 0, 255).astype(np.uint8) for frames in REAL]
    for i, frames in enumerate(brighter):
        save(sets, i, frames)
    assert evaluate(sets, sets / "real", sets / "fake", "--metrics", "brightness", "psnr") == 0
    found = result(sets, "fake")["metrics"]["brightness"]["value"]
    assert found == pytest.approx(np.mean(brighter) - np.mean(REAL))
    assert f"Brightness  {found:.6g}" in capsys.readouterr().out
    path = sets / "out" / "results" / "evaluate-fake.json"
    table = own_table({"tables": []}, [read_result(path, "evaluate")])
    assert dict(zip(table.header, table.rows[0]))["Brightness, levels ↓"] == f"{found:.4g}"


def test_clips_too_short_for_fvd_leave_it_null_where_nobody_asked(sets, monkeypatch, capsys):
    args = (sets / "real", sets / "fake", "--frames", "6", "--protocol", "bair")
    assert evaluate(sets, *args) == 0
    values = result(sets, "fake")
    assert values["metrics"]["fvd"] == {"value": None, "reason": "6 frames, FVD needs 9"}
    assert values["metrics"]["psnr"]["value"] > 0
    assert values["warnings"] == ["3 of the protocol's 256 clips"]
    ready = lambda rules, weights: object.__new__(METRICS["fvd"])  # it has weights
    monkeypatch.setattr(METRICS["fvd"], "made", ready)
    assert evaluate(sets, *args) == 2
    assert "0.npz: got 6 frames, FVD needs 9" in capsys.readouterr().err


def save(sets, name, frames):
    np.savez(sets / "fake" / f"{name}.npz", frames=frames)


def shrink(sets):
    for path in sets.glob("*/*.npz"):
        np.savez(path, frames=np.load(path)["frames"][:, :8, :8])


def rename(sets):
    (sets / "fake" / "2.npz").rename(sets / "fake" / "3.npz")


ERRORS = {
    "shorter": (lambda s: save(s, 2, FAKE[2][:11]), ["2.npz", "11 frames", "12 frames"]),
    "smaller": (lambda s: save(s, 2, FAKE[2][:, :24]), ["2.npz", "48x24", "48x32"]),
    "tiny": (shrink, ["SSIM", "11x11 px, got 8x8 in", "real/0.npz"]),
    "floats": (lambda s: save(s, 1, FAKE[1] / 127.5 - 1), ["1.npz", "floats must be in [0, 1]"]),
    "more": (lambda s: save(s, 3, FAKE[0]), ["got 4", "want 3"]),
    "renamed": (rename, ["real/2.npz has no fake", "fake/3.npz no real"]),
    "empty": (lambda s: [p.unlink() for p in (s / "fake").iterdir()], ["fake", "no clip"]),
    "missing": (lambda s: shutil.rmtree(s / "fake"), ["fake", "no folder"]),
    "damaged": (lambda s: (s / "fake" / "0.npz").write_bytes(b"no"), ["0.npz", "cannot be read"]),
}


@pytest.mark.parametrize("what", ERRORS)
def test_bad_sets_are_one_line_that_names_the_file(what, sets, capsys):
    spoil, words = ERRORS[what]
    spoil(sets)
    assert evaluate(sets, sets / "real", sets / "fake") == 2
    line = left_on_screen(capsys.readouterr().err).strip()
    assert line.startswith("fv: ")
    assert "\n" not in line
    for word in words:
        assert word in line
    assert not (sets / "out").exists()
    frames_tell = what in ("shorter", "smaller", "tiny", "floats")
    assert frames_tell == (sets / "cache").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["REAL FAKE", "EXPERIMENT"]),
        (["REAL"], ["REAL", "one set"]),
        (["REAL", "FAKE", "REAL"], ["3 names"]),
        (["nosuch"], ["nosuch", "shapes"]),
        (["shapes_tokenizer"], ["shapes_tokenizer", "no network"]),
        (["ucf101", "--stage", "last"], ["last", "interpolation"]),
        (["shapes_images", "--faithful"], ["shapes_images has no --faithful", "none"]),
        (["bair", "--faithful"], ["bair_interpolation_faithful", "--model"]),
        (["ucf101"], ["ucf101_interpolation", "--model"]),
        (["shapes", "--frames", "40"], ["40", "17"]),
        (["REAL", "FAKE", "--metrics", "foo"], ["foo", "psnr"]),
        (["REAL", "FAKE", "--protocol", "foo"], ["foo", "bair_debiased"]),
        (["REAL", "FAKE", "--repeats", "2"], ["--repeats", "experiment"]),
        (["REAL", "FAKE", "--seed", "3", "--batch-size", "2"], ["--seed", "--batch-size"]),
        (["REAL", "FAKE", "--inherit", "0.5"], ["--inherit", "experiment"]),
        (["REAL", "FAKE", "--best-of", "2"], ["best_of=2", "got 1"]),
        (
            ["REAL", "FAKE", "--frames", "8", "--metrics", "fvd"],
            ["8 frames, FVD needs 9", "--metrics psnr"],
        ),
        (["REAL", "FAKE", "--given-frames", "12"], ["12", "0.npz"]),
        (["REAL", "FAKE", "--i3d-weights", "nosuch"], ["nosuch", "I3D"]),
        (["REAL", "FAKE", "--frames", "-1"], ["frames", "-1"]),
    ],
    ids=lambda value: " ".join(value)[:40] if value else None,
)
def test_bad_usage_is_one_line(args, words, sets, capsys, monkeypatch):
    monkeypatch.setattr(run_evaluate.experiments, "OUT", sets / "nothing")
    places = {"REAL": sets / "real", "FAKE": sets / "fake"}
    assert evaluate(sets, *(places.get(arg, arg) for arg in args)) == 2
    line = left_on_screen(capsys.readouterr().err).strip()
    assert line.startswith("fv: ")
    assert "\n" not in line
    for word in words:
        assert str(places.get(word, word)) in line
    assert not (sets / "out").exists()


@pytest.mark.parametrize("flag", ["--out", "--cache"])
@pytest.mark.parametrize("place", ["real", "fake", "fake/results", "linked"])
def test_results_do_not_lie_among_the_clips(flag, place, sets, capsys):
    (sets / "linked").symlink_to(sets / "real")
    before = sorted(sets.rglob("*"))
    assert evaluate(sets, sets / "real", sets / "fake", flag, sets / place) == 2
    assert f"{flag} '{sets / place}' lies in what is read" in capsys.readouterr().err
    assert sorted(sets.rglob("*")) == before


def test_clips_to_play_have_the_rate_of_their_originals(sets):
    for name, clips in (("real", REAL), ("fake", FAKE)):
        (sets / f"{name}_30").mkdir()
        for i, frames in enumerate(clips):
            write_mp4(frames, 30, sets / f"{name}_30" / f"{i}.mp4")
    assert evaluate(sets, sets / "real_30", sets / "fake_30", "--metrics", "psnr") == 0
    assert evaluate(sets, sets / "real", sets / "fake", "--metrics", "psnr") == 0
    for name, fps in (("fake_30", 30), ("fake", 8)):
        (shown, *_) = result(sets, name)["shown"]
        assert fps_of(open_clip(shown["fake"])) == pytest.approx(fps)


def test_the_shipped_model_is_measured_and_reported(sets, capsys, monkeypatch):
    """From nothing to the page: generate, score, again without generating, report."""
    monkeypatch.setattr(run_evaluate.experiments, "OUT", sets / "nothing")
    args = ("shapes", "--count", "2", "--batch-size", "2", "--metrics", "psnr", "fvd", "shapes_fvd")
    assert evaluate(sets, *args) == 0
    values = result(sets, "shapes")
    assert values["metrics"]["psnr"]["value"] > 18
    assert values["metrics"]["fvd"]["value"] is None
    assert values["metrics"]["shapes_fvd"]["value"] > 0
    assert "shapes-FVD of 2 real and 2 fake clips: up to 64" in values["warnings"][0]
    assert len(values["clips"]) == len(values["seeds"][0]) == 2
    made = {path: path.stat().st_mtime_ns for path in (sets / "cache" / "clips").rglob("*.npz")}
    assert len(made) == 2
    assert evaluate(sets, *args) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    readme, page = sets / "README.md", sets / "page"
    readme.write_text("# Results\n\nkept\n")
    report = ["report", "--results", sets / "out" / "results", "--readme", readme, "--page", page]
    for _ in range(2):  # a second time replaces, and adds nothing
        assert main([str(word) for word in report]) == 0
        text = readme.read_text()
        assert text.startswith("# Results\n\nkept\n")
        assert text.count("## paper-tables") == text.count("**Our own evaluations**") == 1
    assert "![shapes](out/results/evaluate-shapes.png)" in text
    assert text.count("not run: needs the data set, 8 x A100-80GB for about") == 3
    html = (page / "index.html").read_text()
    assert html.count("<video") == 4
    assert len(list(page.rglob("*.mp4"))) == 4


def test_a_fresh_result_stands_beside_the_recorded_one_each_with_its_own_clips(sets, monkeypatch):
    monkeypatch.setattr(run_report, "_FRESH", sets / "out" / "results")
    monkeypatch.setattr(run_report, "_needs", lambda name: "much")
    args = (sets / "real", sets / "fake", "--metrics", "psnr")
    assert evaluate(sets, *args) == 0
    old, recorded = result(sets, "fake"), sets / "recorded"
    shutil.copytree(sets / "out" / "results", recorded)
    for i, frames in enumerate(REAL):
        save(sets, i, np.roll(frames, 2, axis=2))
    assert evaluate(sets, *args) == 0
    new = result(sets, "fake")
    folders = [Path(r["shown"][0]["fake"]).parent for r in (old, new)]
    assert len(set(folders)) == 2
    readme, page = sets / "README.md", sets / "page"
    readme.write_text("# Results\n")
    report = ["report", "--results", recorded, "--readme", readme, "--page", page]
    assert main([str(word) for word in report]) == 0
    html = (page / "index.html").read_text()
    assert html.count("<video") == 2 * 2 * 3
    assert "<h3>fake</h3>" in html
    assert "<h3>fake, fresh: not recorded</h3>" in html
    assert f"<td>fresh: protocol plain: {new['counts']['frames']} frames" in html
    assert "fresh: " not in readme.read_text()
    for number, folder in enumerate(folders):
        shown = page / "clips" / str(number) / "00-fake.mp4"
        assert shown.read_bytes() == (folder / "00-fake.mp4").read_bytes()


def test_a_report_of_nowhere_writes_nothing(sets, capsys):
    (sets / "results").mkdir()
    (sets / "README.md").write_text("# Results\n\nkept\n")
    for results, readme, words in (
        ("resluts", "README.md", "resluts' of results"),
        ("results", "nowhere.md", "nowhere.md"),
    ):
        args = ["report", "--results", sets / results, "--readme", sets / readme]
        assert main([str(word) for word in (*args, "--page", sets / "page")]) == 2
        line = capsys.readouterr().err
        assert line.startswith("fv: no f")
        assert words in line
        assert line.count("\n") == 1
    assert (sets / "README.md").read_text() == "# Results\n\nkept\n"
    assert not (sets / "page").exists()
    assert not (sets / "nowhere.md").exists()


@pytest.mark.slow
def test_all_metrics_are_the_reference_tools(sets):
    """Files of clips and of weights in, the common tool's own numbers out."""
    for name, clips in reference_metrics.videos().items():
        np.savez(sets / f"{name}.npz", videos=clips)
    np.savez(sets / "i3d.npz", **random_i3d.weights())
    np.savez(sets / "alexnet.npz", **reference_metrics.alexnet())
    weights = ("--i3d-weights", sets / "i3d.npz", "--lpips-trunk", sets / "alexnet.npz")
    weights += ("--lpips-heads", reference_metrics.LPIPS_HEADS)
    expected = {name: reference_metrics.expected(name) for name in ("psnr", "ssim", "lpips", "fvd")}
    args = (sets / "real.npz", sets / "fake.npz", *weights, "--allow-unverified-weights")
    for epsilon in ("0.001", "1e-05"):
        assert evaluate(sets, *args, "--i3d-epsilon", epsilon, "--name", epsilon) == 0
        found = {name: m["value"] for name, m in result(sets, epsilon)["metrics"].items()}
        assert found["psnr"] == pytest.approx(expected["psnr"]["final_mean"], abs=1e-4)
        assert found["ssim"] == pytest.approx(expected["ssim"]["final_mean"], abs=2e-5)
        assert found["lpips"] == pytest.approx(expected["lpips"]["repo_final_mean"], abs=1e-5)
        exact = expected["fvd"][f"exact_float64_eps{epsilon}"]["value"]
        assert found["fvd"] == pytest.approx(exact, rel=1e-4)
