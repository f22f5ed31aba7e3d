"""Scores by a protocol, with made-up metrics whose right answers are known."""

import time

import numpy as np
import pytest
import videos

from fv_jax.evaluation import evaluate as evaluation
from fv_jax.evaluation.clip_sets import ClipFile
from fv_jax.evaluation.evaluate import Sets, evaluate
from fv_jax.evaluation.protocols import Protocol
from fv_jax.metrics.interface import Missing, PairMetric, SetMetric

REAL = [videos.noise(12, (16, 16), seed) for seed in range(3)]


class Counted:
    """A metric that counts the clips that it is asked for."""

    def __init__(self):
        self.clips = 0

    def error(self, real, fake):
        self.clips += len(real)
        return np.abs(real.astype(float) - fake).mean((1, 2, 3, 4))

    def features(self, clips):
        self.clips += len(clips)
        return clips.astype(float).mean((2, 3))[..., 0]


def clip(frames, name="clip"):
    return ClipFile(name, lambda: frames)


def clips(arrays):
    return [clip(frames, f"clip {i}") for i, frames in enumerate(arrays)]


def shifted(frames, by):
    return np.clip(frames.astype(int) + by, 0, 255).astype(np.uint8)


class Means(SetMetric):
    """Distance of the sets' mean features."""

    label, higher_is_better, least_frames, fingerprint = "FVD", False, 9, "means"

    def __init__(self, features, width=12, record=None):
        self._features, self.width, self.record = features, width, record

    def features(self, clips):
        return self._features(clips)

    def distance(self, real, fake):
        return float(np.abs(real.mean(0) - fake.mean(0)).sum())


class Error(PairMetric):
    """A score of pairs."""

    label, fingerprint = "SSIM", "error"

    def __init__(self, error, higher=False, least_size=1):
        self._error, self.least_size = error, least_size
        self.higher_is_better = higher  # type: ignore[misc]

    def __call__(self, real, fake):
        return self._error(real, fake)


def test_equal_sets_have_no_distance_and_all_is_counted(tmp_path):
    counted = Counted()
    sets = Sets(clips(REAL), [[[c] for c in clips(REAL)]])
    metrics = {"error": Error(counted.error), "fvd": Means(Counted().features)}
    result = evaluate(sets, Protocol(), metrics, tmp_path)
    assert result["metrics"]["error"]["value"] == 0
    assert result["metrics"]["fvd"]["value"] == 0
    assert result["counts"] == {
        "real": 3, "real_pieces": 3, "fake": 3, "runs": 1, "frames": 12, "height": 16, "width": 16,
    }  # fmt: skip
    assert result["hashes"]["fake"] == [result["hashes"]["real"]]
    assert "FVD of 3 real and 3 fake clips: up to 12" in result["warnings"][0]


@pytest.mark.parametrize(("width", "count", "words"), [
    (2, 0, []), (3, 0, ["up to 3 leave"]), (2, 4, ["3 of the protocol's 4 clips"]), (2, 3, []),
])  # fmt: skip
def test_too_few_clips_are_a_warning(width, count, words, tmp_path):
    sets = Sets(clips(REAL), [[[c] for c in clips(REAL)]])
    first = lambda videos: videos[:, :width, 0, 0, 0].astype(float)
    result = evaluate(sets, Protocol(real_count=count), {"fvd": Means(first, width)}, tmp_path)
    assert len(result["warnings"]) == len(words)
    assert all(word in line for word, line in zip(words, result["warnings"]))


def test_nothing_is_computed_twice(tmp_path):
    for expected in (3, 0):
        frames, sets = Counted(), Sets(clips(REAL), [[[c] for c in clips(REAL[::-1])]])
        whole = Counted()
        metrics = {"error": Error(frames.error), "fvd": Means(whole.features)}
        evaluate(sets, Protocol(), metrics, tmp_path)
        assert (frames.clips, whole.clips) == (expected, expected)


def test_pairs_and_clips_are_computed_some_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "_BATCH", 2)
    sizes = []

    def error(real, fake):
        sizes.append(len(real))
        return np.abs(real.astype(float) - fake).mean((1, 2, 3, 4))

    fakes = [shifted(r, 3 * i) for i, r in enumerate(REAL)]
    sets = Sets(clips(REAL), [[[c] for c in clips(fakes)]])
    result = evaluate(sets, Protocol(), {"e": Error(error)}, tmp_path)
    whole = error(np.stack(REAL), np.stack(fakes)).mean()
    assert result["metrics"]["e"]["value"] == pytest.approx(whole)
    assert sizes == [2, 1, 3]


def test_frames_too_small_for_a_score_are_named(tmp_path):
    score = Error(Counted().error, least_size=17)
    with pytest.raises(ValueError, match=r"SSIM needs frames of at least 17x17 px, .* clip 0"):
        evaluate(
            Sets(clips(REAL), [[[c] for c in clips(REAL)]]), Protocol(),
            {"ssim": score}, tmp_path,
        )  # fmt: skip


def test_the_best_of_the_first_trials_counts_and_repeats_have_a_deviation(tmp_path):
    trials = [clips([shifted(r, by) for by in (9, 3, 0)]) for r in REAL]
    worse = [clips([shifted(r, by) for by in (20, 10, 0)]) for r in REAL]
    rules = Protocol(best_of=2, fake_count=9)
    score = {"error": Error(Counted().error)}
    result = evaluate(Sets(clips(REAL), [trials]), rules, score, tmp_path)
    low = result["metrics"]["error"]["value"]
    assert 2 < low <= 3
    result = evaluate(Sets(clips(REAL), [trials, worse]), rules, score, tmp_path)
    found = result["metrics"]["error"]
    assert found["runs"][0] == low
    assert found["deviation"] == pytest.approx(np.std(found["runs"], ddof=1))
    best = {"error": Error(Counted().error, higher=True)}
    result = evaluate(Sets(clips(REAL), [trials]), rules, best, tmp_path)
    assert result["metrics"]["error"]["value"] > 5


def test_given_frames_count_in_the_set_alone_and_are_the_real_ones(tmp_path):
    fakes = [[clip(shifted(r, 40))] for r in REAL]
    rules = Protocol(given_frames=11)
    same = Sets(clips(REAL), [fakes])
    metrics = {"error": Error(Counted().error), "fvd": Means(Counted().features)}
    first = evaluate(same, rules, metrics, tmp_path)["metrics"]
    generated = Sets(clips(REAL), [fakes], generated=True)
    second = evaluate(generated, rules, metrics, tmp_path)["metrics"]
    assert first["error"]["value"] == second["error"]["value"]  # of the last frame only
    assert 0 < second["fvd"]["value"] < first["fvd"]["value"] / 8


def test_real_windows_are_all_in_the_set(tmp_path):
    rules = Protocol(frames=10, windows=3)
    sets = Sets(clips(REAL), [[[c] for c in clips(REAL)]])
    result = evaluate(sets, rules, {"fvd": Means(Counted().features, 10)}, tmp_path)
    assert (result["counts"]["real_pieces"], result["counts"]["fake"]) == (9, 3)


def test_what_is_missing_is_null_with_its_reason(tmp_path):
    sets = Sets(clips(REAL[:1]), [[clips(REAL[:1])]])
    given = {"lpips": Missing("no weights"), "fvd": Means(Counted().features)}
    metrics = evaluate(sets, Protocol(), given, tmp_path)["metrics"]
    assert metrics["lpips"] == {"value": None, "reason": "no weights"}
    assert metrics["fvd"] == {"value": None, "reason": "needs at least two clips on each side"}


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (REAL[2][:11], ["fake 2", "got 11 frames of 16x16", "want 12 frames of 16x16", "clip 0"]),
        (REAL[2][:, :12], ["fake 2", "got 12 frames of 16x12", "want 12 frames of 16x16"]),
    ],
)
def test_an_odd_clip_is_named(odd, words, tmp_path):
    fakes = [[clip(f, f"fake {i}")] for i, f in enumerate([*REAL[:2], odd])]
    with pytest.raises(ValueError, match=words[0]) as error:
        evaluate(Sets(clips(REAL), [fakes]), Protocol(), {}, tmp_path)
    for word in words:
        assert word in str(error.value)


def test_clips_too_short_for_fvd_are_named(tmp_path):
    short = clips([r[:8] for r in REAL])
    with pytest.raises(ValueError, match="FVD needs clips of at least 9 frames, clip 0 has 8"):
        evaluate(
            Sets(short, [[[c] for c in short]]), Protocol(),
            {"fvd": Means(Counted().features)}, tmp_path,
        )  # fmt: skip


def test_cautions_about_weights_are_warnings(tmp_path):
    sets = Sets(clips(REAL), [[[c] for c in clips(REAL)]])
    first = lambda videos: videos[:, :2, 0, 0, 0].astype(float)
    metric = Means(first, 2, {"cautions": ["of no known file"]})
    assert evaluate(sets, Protocol(), {"m": metric}, tmp_path)["warnings"] == ["of no known file"]


def test_a_bar_is_seen_though_not_one_clip_is_done(monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "_DELAY", 0.05)
    with evaluation.progress("thinking", 3):
        pass
    assert capsys.readouterr().err == ""
    with evaluation.progress("thinking", 3):
        time.sleep(0.5)
        assert "thinking:   0%" in capsys.readouterr().err
