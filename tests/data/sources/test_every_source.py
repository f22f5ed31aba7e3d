"""Every kind of source end to end: from its layout on disk to ids that training reads."""

import numpy as np
import pytest
import tfds_shapes
import tiny

from fv_jax.config.model import TokenSettings
from fv_jax.data.sources.base import open_source
from fv_jax.data.tokenize import tokenize
from fv_jax.media.frames import fit
from fv_jax.media.writers import write_gif, write_mp4
from tests.data.sources import test_bair, test_kinetics, test_ucf101


def own_folder(folder):
    write_mp4(tiny.video(6), 8.0, folder / "a cat" / "0.mp4")
    write_gif(tiny.video(6, seed=1), 8.0, folder / "a dog" / "1.gif")
    return f"{folder},picture_fps=8"


def ucf101(folder):
    test_ucf101.write_clips(folder / "UCF-101")
    test_ucf101.write_lists(folder / "ucfTrainTestlist")
    return f"ucf101:{folder}"


def kinetics(folder):
    test_kinetics.write_csv(folder / "train.csv")
    test_kinetics.write_clips(folder / "train")
    return f"kinetics600:{folder}"


def bair_records(folder):
    return f"bair:{test_bair.write_original(folder)}"


def bair_prepared(folder):
    return f"bair:{test_bair.write_array_record(folder)},camera=image_main"


def tfds(folder):
    tfds_shapes.prepare(folder, "tiny")
    return f"tfds:fv_shapes/tiny,data_dir={folder},split=valid"


def procedural(folder):
    return "shapes,split=test,count=3"


def arcade(folder):
    return "arcade:games=pong+qbert,split=test,count=3,frames=6"


def rendered_arcade(folder):
    source = open_source(arcade(folder))
    for i in range(len(source)):
        frames = source[i].open().frames(range(6))
        write_mp4(frames, 8.0, folder / source[i].text / f"{i}.mp4")
    return str(folder)


@pytest.mark.parametrize(
    "make",
    [own_folder, ucf101, kinetics, bair_records, bair_prepared, tfds, procedural, arcade,
     rendered_arcade],
)  # fmt: skip
def test_ids_of_every_source(tmp_path, make):
    source = open_source(make(tmp_path / "clips"))
    settings = TokenSettings(fps=8.0, size=32, shard_clips=2, force=True)  # few codes are in use
    tokens = tokenize(source, tiny.MeanTokenizer(), tmp_path / "tokens", settings)
    assert not tokens.manifest.left_out or make is kinetics  # whose missing clips are listed
    assert len(tokens) == len(source) >= 2
    for i in range(len(source)):
        entry, (text, ids) = source[i], tokens[i]
        assert (tokens.clips[i]["id"], text) == (entry.id, entry.text)
        assert text
        first = fit(entry.open().frames([0]), (32, 32))
        np.testing.assert_array_equal(ids[0], tiny.MeanTokenizer().encode(first).ravel())
