"""Sets that TFDS prepared: every kind of video and text, and clear words where it cannot be."""

import importlib.util
import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image
from tfrecord_writer import write_tfrecord

from fv_jax.data.sources import base
from fv_jax.data.sources.base import open_source
from fv_jax.media.readers import ClipError, fps_of
from fv_jax.media.video_file import VideoFile
from fv_jax.media.writers import write_mp4

CLIPS = 3
IMAGE = tfds.features.Image(shape=(None, None, 3))
TENSOR = tfds.features.Tensor(shape=(4, 16, 16, 3), dtype=np.uint8, encoding="bytes")
TEXT = tfds.features.Text()


class FakeSet(tfds.core.GeneratorBasedBuilder):
    """Three clips; the tests say with which features."""

    VERSION = tfds.core.Version("1.0.0")
    features, example = {}, staticmethod(dict)

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=self.features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(CLIPS):
            yield index, self.example(index)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Prepares the set in tmp_path with some features; gives its folder."""

    def build(features, example):
        if isinstance(features, dict):
            features = tfds.features.FeaturesDict(features)
        monkeypatch.setattr(FakeSet, "features", features)
        monkeypatch.setattr(FakeSet, "example", staticmethod(example))
        builder = FakeSet(data_dir=tmp_path, file_format="array_record")
        builder.download_and_prepare()
        return builder.data_path

    return build


def clip(index, frames=4, channels=3):
    return np.random.default_rng(index).integers(0, 256, (frames, 16, 16, channels), np.uint8)


def pngs(index):
    files = []
    for frame in clip(index):
        files.append(io.BytesIO())
        Image.fromarray(frame).save(files[-1], "png")
        files[-1].seek(0)
    return files


def tensor(*shape, **options):
    return tfds.features.Tensor(shape=shape, dtype=np.uint8, **options)


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (tensor(None, 16, 16, 3), clip),
        (TENSOR, clip),
        (tensor(None, None, None, 3, encoding="zlib"), clip),
        (tfds.features.Sequence(tensor(16, 16, 3)), clip),
        (tfds.features.Sequence(IMAGE), pngs),
        (tfds.features.Sequence(IMAGE, length=4), pngs),
    ],
    ids=["tensor", "bytes", "zlib", "tensors", "images", "images_of_known_number"],
)
def test_every_kind_of_video_gives_its_pixels(build, feature, value):
    folder = build(
        {"pixels": feature, "caption": TEXT},
        lambda index: {"pixels": value(index), "caption": f"a  clip {index}\n"},
    )
    source = open_source(f"tfds:{folder},fps=12.5")
    assert [entry.text for entry in source] == ["a clip 0", "a clip 1", "a clip 2"]
    assert [entry.id for entry in source] == [f"train/00000{index}" for index in range(CLIPS)]
    for index in (2, 0):
        reader = source[index].open()
        np.testing.assert_array_equal(reader.frames([3, 1]), clip(index)[[3, 1]])
        assert (len(reader.times), reader.size) == (4, (16, 16))
        assert fps_of(reader) == pytest.approx(12.5)
    assert not source.noise_free
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["mp4", "movie"])
def test_bytes_of_a_video_file_are_decoded(build, tmp_path, name):
    write_mp4(clip(0, frames=6), 10, tmp_path / "clip.mp4")
    data = (tmp_path / "clip.mp4").read_bytes()
    folder = build({name: TEXT, "text": TEXT}, lambda index: {name: data, "text": "noise"})
    option = "" if name == "mp4" else f",video={name}"
    source = open_source(f"tfds:{folder}{option}")
    reader = source[1].open()
    expected = VideoFile(tmp_path / "clip.mp4").frames([5])
    np.testing.assert_array_equal(reader.frames([5]), expected)
    assert (source[1].text, fps_of(reader)) == ("noise", pytest.approx(10))


def test_dictionaries_are_looked_into(build):
    features = tfds.features.Sequence(
        {"camera": {"left": IMAGE, "right": IMAGE}, "force": np.int64}
    )
    folder = build(
        features,
        lambda index: [
            {"camera": {"left": left, "right": right}, "force": 1}
            for left, right in zip(pngs(index), pngs(9))
        ],
    )
    source = open_source(f"tfds:{folder},video=camera/left")
    np.testing.assert_array_equal(source[1].open().frames(range(4)), clip(1))
    assert source[1].text == "video"
    with pytest.raises(
        ValueError, match=r"several videos \(camera/left, camera/right\); say video="
    ):
        open_source(f"tfds:{folder}")


def test_gray_becomes_rgb(build):
    folder = build({"video": tensor(4, 16, 16, 1)}, lambda index: {"video": clip(index, 4, 1)})
    frames = open_source(f"tfds:{folder}")[0].open().frames(range(4))
    np.testing.assert_array_equal(frames, np.repeat(clip(0, 4, 1), 3, axis=-1))


def test_labels_become_words(build):
    label = tfds.features.ClassLabel(names=["apply_lipstick", "zumba"])
    folder = build(
        {"video": TENSOR, "label": label, "place": label},
        lambda index: {"video": clip(index), "label": index % 2, "place": 1},
    )
    source = open_source(f"tfds:{folder}")
    assert [entry.text for entry in source] == ["apply lipstick", "zumba", "apply lipstick"]
    assert open_source(f"tfds:{folder},text=place")[0].text == "zumba"


def test_texts_that_cannot_be_told_apart_are_asked_for(build):
    folder = build(
        {"video": TENSOR, "one": TEXT, "two": TEXT},
        lambda index: {"video": clip(index), "one": "1", "two": "2"},
    )
    with pytest.raises(ValueError, match="several texts; say text=NAME, of one, two"):
        open_source(f"tfds:{folder}")
    assert open_source(f"tfds:{folder},text=two")[0].text == "2"


@pytest.fixture
def plain(build):
    """Folder of a set with nothing special."""
    return build(
        {"video": TENSOR, "text": TEXT}, lambda index: {"video": clip(index), "text": "noise"}
    )


def test_slices_of_splits(plain):
    source = open_source(f"tfds:{plain},split=train[1:]")
    assert len(source) == 2
    np.testing.assert_array_equal(source[0].open().frames([0])[0], clip(1)[0])
    assert source[0].id == "train[1:]/000000"


def test_sets_are_found_by_name(plain):
    source = open_source(f"tfds:fake_set,data_dir={plain.parents[1]}")
    assert (len(source), source[0].text) == (CLIPS, "noise")


def test_a_source_can_be_sent_to_another_process(plain):
    source = pickle.loads(pickle.dumps(open_source(f"tfds:{plain}")))
    np.testing.assert_array_equal(source[2].open().frames([0])[0], clip(2)[0])


def test_tfrecords_say_how_to_prepare_them_again(plain):
    (path,) = plain.glob("*.array_record*")
    write_tfrecord(
        path.with_name(path.name.replace("array_record", "tfrecord")),
        list(ArrayRecordDataSource(str(path))),
    )
    path.unlink()
    info = plain / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match=r"prepared as tfrecord, .*file_format='array_record'"):
        open_source(f"tfds:{plain}")


def test_video_features_say_that_they_need_tensorflow(plain):
    if importlib.util.find_spec("tensorflow"):
        pytest.skip(reason="TensorFlow is installed: Video features can be read")
    path = plain / "features.json"
    features = json.loads(path.read_text())
    features["featuresDict"]["features"]["video"] = {
        "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
        "video": {"shape": {"dimensions": ["-1", "16", "16", "3"]}, "dtype": "uint8"},
    }
    path.write_text(json.dumps(features))
    with pytest.raises(ValueError, match=r"without tensorflow \(a Video feature .*encoding="):
        open_source(f"tfds:{plain}")


def test_missing_files_are_an_error(plain):
    (path,) = plain.glob("*.array_record*")
    path.unlink()
    with pytest.raises(ValueError, match=r"1 of 1 files of .* are missing, such as .*prepare it"):
        open_source(f"tfds:{plain}")


def test_damaged_records_cannot_be_opened(plain):
    (path,) = plain.glob("*.array_record*")
    data = bytearray(path.read_bytes())
    data[200:264] = bytes(64)  # within the first record
    path.write_bytes(data)
    source = open_source(f"tfds:{plain}")
    assert len(source) == CLIPS
    with pytest.raises(ClipError):
        [entry.open() for entry in source]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (",split=valid", r"no split 'valid'; it has: train \(3\)"),
        (",split=train[:9]", r"no split 'train\[:9\]'; it has: train \(3\)"),
        (",video=text2", "no feature 'text2' that could be a video; it has: text, video"),
        (",text=video", "no feature 'video' that could be a text or a label; it has: text"),
        (",fps=0", "fps must be > 0, got 0"),
    ],
)
def test_unknown_options_are_refused(plain, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(f"tfds:{plain}{options}")


def test_a_set_without_video_is_refused(build):
    folder = build({"text": TEXT}, lambda index: {"text": "noise"})
    with pytest.raises(
        ValueError, match="has no feature that must be one; say video=NAME, of text"
    ):
        open_source(f"tfds:{folder}")


def test_unknown_sets_and_folders_are_refused(tmp_path, plain):
    with pytest.raises(ValueError, match=r"TFDS knows no set 'ucf101' \(some .* only with"):
        open_source(f"tfds:ucf101,data_dir={tmp_path}")
    with pytest.raises(FileNotFoundError, match="no folder '/no/where'; give one that TFDS"):
        open_source("tfds:/no/where")
    with pytest.raises(ValueError, match=rf"below it there is {plain}"):
        open_source(f"tfds:{plain.parent}")


def test_a_set_that_is_not_prepared_says_how_to(tmp_path):
    with pytest.raises(ValueError, match=rf"beans is not prepared in {tmp_path}; once: python -c"):
        open_source(f"tfds:beans,data_dir={tmp_path}")


def test_naming_other_sources_does_not_wait_for_tfds():
    code = "import sys, fv_jax.data.sources; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"tensorflow_datasets", "tensorflow", "jax"}


@pytest.mark.parametrize("kind", ["tfds:beans", "bair:somewhere"])
def test_without_tfds_the_extra_is_named(kind, monkeypatch):
    name = kind.partition(":")[0]
    monkeypatch.setattr(base.SOURCES, "_things", {name: f"fv_jax.data.sources.{name}:Any"})
    for module in [module for module in sys.modules if module.startswith("tensorflow_datasets")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, f"fv_jax.data.sources.{name}", raising=False)
    monkeypatch.delitem(sys.modules, "fv_jax.data.sources.tfds_features", raising=False)
    with pytest.raises(ValueError, match=rf'^{name} needs .*: pip install "fv-jax\[tfds\]"$'):
        open_source(kind)
