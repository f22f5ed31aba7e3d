"""Key frames in three ways, trained and scored on a budget of seconds."""

import json

import jax
import numpy as np
import pytest

from experiments import changes
from experiments.benches import changes as bench
from fv_jax.config.model import RetNetConfig

TINY = changes.Budget(
    "shapes,split=train,count=8", "shapes,split=valid,count=4",
    RetNetConfig(width=24, layers=1, heads=2, value_width=48, hidden=32, angles="even"),
    batch_size=2, image_steps=2, image_rows=2, text_tokens=12, warm_up=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Runs of a tiny budget lie here, and the images of seed 0 already do."""
    folder = tmp_path_factory.mktemp("key_frames")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "OUT", folder)
        patch.setitem(changes.BUDGETS, "shapes", TINY)
        changes.train_images("shapes", 0)
        yield folder


def task(way, steps=8):
    return changes.KeyFrameTask(changes.settings("shapes", way, 0, steps))


def test_ways_begin_alike_and_their_nats_are_the_loss_of_all_that_changes(out):
    tasks = {way: task(way) for way in changes.WAYS}
    begin = {way: t.sample(t.start, out) for way, t in tasks.items()}
    for way in changes.WAYS:
        assert begin[way]["first"] == pytest.approx(begin["dense"]["first"], rel=1e-5)
    assert begin["features"]["later"] == pytest.approx(begin["dense"]["later"], rel=1e-5)
    assert begin["changes"]["later"] > begin["changes"]["places"] > begin["dense"]["places"] == 0

    t = tasks["changes"]
    key_frames = [t.clips.valid.draw(i, np.random.default_rng(0))[1][::4] for i in range(4)]
    scored = sum(ids[0].size + (ids[1:] != ids[:-1]).sum() for ids in key_frames)
    (batch,) = t.unseen
    assert batch["weight"].sum() == scored
    params = t.init(jax.random.key(1))
    loss, metrics = jax.jit(t.loss)(params, batch, jax.random.key(0))
    all_ids = sum(ids.size for ids in key_frames)
    first, later, places = np.asarray(jax.jit(t.nats_of)(params, batch))
    assert first + later == pytest.approx(float(loss) * all_ids, rel=1e-5)
    assert places == pytest.approx(float(metrics["places"]) * all_ids, rel=1e-5)


@pytest.mark.slow
def test_the_whole_bench_trains_scores_and_keeps_what_it_found(out, monkeypatch):
    home = out / "key_frames" / "shapes"
    seconds = {"dense": 0.1, "features": 0.125, "changes": 0.06}
    (home / "step_seconds.json").write_text(json.dumps(seconds))
    settings = bench.Settings(seeds=(0,), seconds=1, videos=2, clips=2, repeats=1, out=out)
    bench.run(settings)
    page, numbers = (out / "results" / f"changes-shapes.{kind}" for kind in ("md", "json"))
    table, values = page.read_text(), json.loads(numbers.read_text())
    # As many as fit, in eight parts.
    assert values["steps"] == {"dense": 8, "features": 8, "changes": 16}
    for way, steps in values["steps"].items():
        (found,) = values["scores"][way]
        assert list(found["curve"]) == [str(steps * part // 8) for part in range(1, 9)]
        assert found["curve"][str(steps)] == found["nats, later"]
        assert found["times"]["batch 1, W = 8, steps"] < found["times"]["batch 1, W = 1, steps"]
    dense, _, changed = (values["scores"][way][0] for way in changes.WAYS)
    assert dense["tokens fed"] == 5 * (13 + 64)
    assert 5 * 13 + 64 <= changed["tokens fed"] <= dense["tokens fed"]
    assert dense["decisions"] == 64
    assert 1 < changed["decisions"] < 65
    assert "| tokens fed a video | 385.000 | 385.000 |" in table

    def never(*_, **__):
        raise AssertionError("it is done")

    monkeypatch.setattr(changes, "train", never)
    monkeypatch.setattr(bench, "_sampled", never)
    monkeypatch.setattr(bench, "_times", never)
    bench.run(settings)
    assert page.read_text().split("\n")[3:] == table.split("\n")[3:]


@pytest.mark.slow
def test_a_step_is_timed_once(out, monkeypatch):
    path = out / "key_frames" / "shapes" / "step_seconds.json"
    path.unlink(missing_ok=True)
    found = changes.step_seconds("shapes", rounds=1)
    assert set(found) == {*changes.WAYS}
    assert min(found.values()) > 0
    monkeypatch.setattr(changes, "build_program", None)  # it must not be called again
    assert changes.step_seconds("shapes") == found
