"""BAIR: the original records and those that TFDS prepares, without TensorFlow."""

import functools
import io
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_generated_pb2 as tf_example
from tfrecord_writer import write_tfrecord

from fv_jax.data.sources.base import open_source
from fv_jax.media.readers import ClipError

CLIPS = 5
PREPARED = "bair_robot_pushing_small/2.0.0/bair_robot_pushing_small"


@functools.cache
def pixels(clip, camera="image_aux1"):
    """What the clip shows; a function of its number."""
    rng = np.random.default_rng([clip, camera == "image_main"])
    return rng.integers(0, 256, (30, 64, 64, 3), np.uint8)


@functools.cache
def original(clip, frames=30, size=64 * 64 * 3):
    """The trajectory as the data set's authors stored it."""
    example = tf_example.Example()
    feature = example.features.feature
    for t in range(frames):
        for camera in ("image_main", "image_aux1"):
            data = pixels(clip, camera)[t].tobytes()[:size]
            feature[f"{t}/{camera}/encoded"].bytes_list.value.append(data)
        feature[f"{t}/action"].float_list.value.extend([0.0] * 4)
        feature[f"{t}/endeffector_pos"].float_list.value.extend([0.0] * 3)
    return example.SerializeToString()


@functools.cache
def prepared(clip):
    """The trajectory as TFDS stores it: a list of PNGs."""
    example = tf_example.Example()
    for camera in ("image_main", "image_aux1"):
        for frame in pixels(clip, camera):
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "png", compress_level=0)
            example.features.feature[camera].bytes_list.value.append(file.getvalue())
    example.features.feature["action"].float_list.value.extend([0.0] * 120)
    return example.SerializeToString()


def write_original(folder, split="train"):
    """Five clips in files whose order as text is not that of their numbers."""
    home = folder / "softmotion30_44k" / split
    write_tfrecord(home / "traj_256_to_511.tfrecords", [original(0), original(1)])
    write_tfrecord(home / "traj_1024_to_1279.tfrecords", [original(2), original(3), original(4)])
    return folder


def write_prepared(folder, split="train"):
    path = folder / f"{PREPARED}-{split}.tfrecord"
    write_tfrecord(path.with_name(f"{path.name}-00000-of-00002"), [prepared(0), prepared(1)])
    write_tfrecord(
        path.with_name(f"{path.name}-00001-of-00002"), [prepared(2), prepared(3), prepared(4)]
    )
    return folder


def write_array_record(folder, split="train"):
    path = folder / f"{PREPARED}-{split}.array_record-00000-of-00001"
    path.parent.mkdir(parents=True)
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for clip in range(CLIPS):
        writer.write(prepared(clip))
    writer.close()
    return folder


FORMS = [write_original, write_prepared, write_array_record]


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("camera", ["image_aux1", "image_main"])
def test_every_form_gives_the_same_pixels(tmp_path, write, camera):
    source = open_source(f"bair:{write(tmp_path)},camera={camera}")
    assert (len(source), source.problems) == (CLIPS, [])
    for clip in (4, 0, 2):
        reader = source[clip].open()
        assert (len(reader.times), reader.size) == (30, (64, 64))
        np.testing.assert_array_equal(reader.frames([29, 0]), pixels(clip, camera)[[29, 0]])
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("write", FORMS)
def test_ids_differ_and_stay(tmp_path, write):
    write(tmp_path)
    ids = [[source[i].id for i in range(CLIPS)] for source in [open_source(f"bair:{tmp_path}")] * 2]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == CLIPS
    assert all(entry_id.startswith("train/") for entry_id in ids[0])


@pytest.mark.parametrize("below", [".", "softmotion30_44k", "softmotion30_44k/train"])
def test_any_folder_above_will_do(tmp_path, below):
    write_original(tmp_path)
    assert len(open_source(f"bair:{tmp_path / below}")) == CLIPS


def test_splits_are_told_apart(tmp_path):
    write_original(tmp_path, "train")
    write_tfrecord(tmp_path / "softmotion30_44k/test/traj_0_to_255.tfrecords", [original(7)])
    source = open_source(f"bair:{tmp_path},split=test")
    assert (len(source), source[0].id) == (1, "test/traj_0_to_255.tfrecords/0000")
    assert source[0].text == "a robot arm pushes objects"
    np.testing.assert_array_equal(source[0].open().frames([3])[0], pixels(7)[3])


def test_the_rate_is_an_option(tmp_path):
    write_original(tmp_path)
    for option, last in [("", 2.9), (",fps=5", 5.8)]:
        times = open_source(f"bair:{tmp_path}{option}")[0].open().times
        assert times[-1] == pytest.approx(last)


def test_a_truncated_file_is_a_problem_and_the_rest_is_read(tmp_path):
    write_original(tmp_path)
    path = tmp_path / "softmotion30_44k/train/traj_256_to_511.tfrecords"
    path.write_bytes(path.read_bytes()[:-100])
    source = open_source(f"bair:{tmp_path}")
    assert len(source) == 4
    (problem,) = source.problems
    assert problem.id == "train/traj_256_to_511.tfrecords"
    assert problem.reason.startswith("the file ends within record 1")
    np.testing.assert_array_equal(source[1].open().frames([0])[0], pixels(2)[0])


def test_a_missing_file_of_a_prepared_set_is_a_problem(tmp_path):
    write_prepared(tmp_path)
    (tmp_path / f"{PREPARED}-train.tfrecord-00000-of-00002").unlink()
    source = open_source(f"bair:{tmp_path}")
    assert len(source) == 3
    (problem,) = source.problems
    assert problem.id.endswith("train.tfrecord-00000-of-00002")
    assert problem.reason == "no such file"


def test_a_damaged_array_record_is_a_problem(tmp_path):
    write_array_record(tmp_path)
    path = tmp_path / f"{PREPARED}-train.array_record-00000-of-00001"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="no array_record file, or a damaged one"):
        open_source(f"bair:{tmp_path}")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\xff\xff\xff", "the record is no tf.train.Example"),
        (original(0, frames=12), "want 30 frames of image_aux1, got 12"),
        (original(0, size=100), "0/image_aux1/encoded: want 12288 bytes of pixels, got 100"),
        (b"", "want 30 frames of image_aux1, got 0"),
    ],
)
def test_other_records_are_refused_when_read(tmp_path, record, reason):
    write_tfrecord(tmp_path / "train/traj_0_to_255.tfrecords", [record])
    reader = open_source(f"bair:{tmp_path}")[0].open()
    with pytest.raises(ClipError, match=reason):
        reader.frames([0])


def test_broken_pictures_are_refused_when_read(tmp_path):
    example = tf_example.Example()
    example.features.feature["image_aux1"].bytes_list.value.extend([b"no picture"] * 30)
    write_tfrecord(
        tmp_path / f"{PREPARED}-train.tfrecord-00000-of-00001", [example.SerializeToString()]
    )
    with pytest.raises(ClipError, match="a frame is no readable picture"):
        open_source(f"bair:{tmp_path}")[0].open().frames([0])


def test_two_forms_below_one_folder_are_refused(tmp_path):
    write_original(tmp_path)
    write_array_record(tmp_path)
    with pytest.raises(ValueError, match=r"split is in .*array_record\) and .*original\); give"):
        open_source(f"bair:{tmp_path}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (",camera=image_aux2", "camera: no 'image_aux2'; did you mean 'image_aux1'?"),
        (",split=val", "split: no 'val'; there are: train, test"),
        (",fps=0", "fps must be > 0, got 0"),
    ],
)
def test_unknown_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(f"bair:{tmp_path}{options}")


def test_a_folder_without_records_says_what_to_unpack(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no records of BAIR's train .*_v0\.tar"):
        open_source(f"bair:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_source(f"bair:{tmp_path}/nowhere")


def test_entries_beyond_the_end_are_refused(tmp_path):
    source = open_source(f"bair:{write_original(tmp_path)}")
    with pytest.raises(IndexError, match=r"must be in 0\.\.4, got 5"):
        source[5]
