"""`fv_shapes`, the TFDS set: built, read and described without TensorFlow."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from places import ROOT
from tfds_shapes import FvShapes, prepare

from fv_jax.data.sources.base import open_source
from fv_jax.shapes import scenes

COUNTS = {"train": 8, "valid": 4, "test": 4, "heldout": 4}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the smallest config is prepared."""
    folder = tmp_path_factory.mktemp("tfds")
    assert prepare(folder, "tiny") == folder / "fv_shapes" / "tiny" / "1.0.0"
    return folder


def test_records_are_the_clips_of_shapes_in_order(data_dir):
    builder = tfds.builder("fv_shapes/tiny", data_dir=data_dir)
    for split, count in COUNTS.items():
        records = builder.as_data_source(split)
        assert len(records) == count
        for index, record in enumerate(records):
            spec = scenes.clip(split, index)
            assert record["caption"].decode() == spec.caption
            np.testing.assert_array_equal(record["video"], scenes.render(spec))
            for name in ("size", "colour", "shape", "direction", "background"):
                label = builder.info.features[name].int2str(record[name])
                assert label == getattr(spec, name)
    assert "tensorflow" not in sys.modules


def test_preparing_again_keeps_what_is_there(data_dir):
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.array_record*")}
    prepare(data_dir, "tiny")
    assert before == {path: path.stat().st_mtime_ns for path in data_dir.rglob("*.array_record*")}
    assert len(before) == 4


@pytest.mark.parametrize("split", COUNTS)
def test_it_is_a_source_like_shapes(data_dir, split):
    source = open_source(f"tfds:fv_shapes/tiny,data_dir={data_dir},split={split}")
    own = open_source(f"shapes,split={split},count={COUNTS[split]}")
    assert source.noise_free
    assert [(e.id, e.text) for e in source] == [(e.id, e.text) for e in own]
    for entry, expected in zip(source, own):
        reader, want = entry.open(), expected.open()
        np.testing.assert_array_equal(reader.times, want.times)
        np.testing.assert_array_equal(reader.frames(range(17)), want.frames(range(17)))


def test_a_config_that_is_not_prepared_says_how_to(data_dir):
    with pytest.raises(ValueError, match=r"not prepared in .*download_and_prepare\(\)"):
        open_source(f"tfds:fv_shapes,data_dir={data_dir}")


def test_unknown_configs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="config must be small, full, tiny, got 'huge'"):
        prepare(tmp_path, "huge")


def test_every_config_holds_the_sizes_it_claims():
    clip = scenes.NUM_FRAMES * scenes.FRAME_SIZE**2 * 3
    for config in FvShapes.BUILDER_CONFIGS:
        count = config.train + config.valid + config.test + config.heldout
        number, unit = config.description.split()
        claimed = float(number) * {"MB": 1e6, "GB": 1e9}[unit]
        assert claimed == pytest.approx(count * clip, rel=0.1)


CHECKS = """
import unittest
import tensorflow_datasets as tfds
from tfds_shapes import FvShapes

class FvShapesTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = FvShapes
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    SPLITS = {"train": 8, "valid": 4, "test": 4, "heldout": 4}
    EXAMPLE_DIR = "."

unittest.main(verbosity=2)
"""


def test_tfds_s_own_checks(tmp_path):
    # In a process of its own, for the other tests are to see that nothing imports TensorFlow.
    for module in ("tensorflow", "dill"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(reason=f"{module} is not installed; TFDS's DatasetBuilderTestCase needs it")
    path = tmp_path / "checks.py"
    path.write_text(CHECKS)
    path_of = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path_of},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "OK" in done.stderr
