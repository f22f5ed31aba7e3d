"""A table made of clips: the better the more codes, never worse than what it began with."""

import json

import numpy as np
import pytest
import tiny

from fv_jax.cli.main import main
from fv_jax.config.training import CodebookExperiment
from fv_jax.media.writers import write_mp4
from fv_jax.tokenizers.codebook import CodebookTokenizer
from fv_jax.tokenizers.load import load_tokenizer
from fv_jax.training import codebook
from fv_jax.training.codebook import Patches, table, train

CONFIG = CodebookExperiment(
    "tiles", data="shapes,count=60", valid="shapes,split=valid,count=4", size=64, codes=200
)


def patches(count=400):
    rng = np.random.default_rng(0)
    weight = rng.uniform(size=count)
    return Patches(rng.integers(0, 256, (count, 192), np.uint8), weight / weight.sum())


def lost(found, pixels, weight):
    tokenizer = CodebookTokenizer(found)
    tiles = pixels.reshape(-1, 8, 8, 3)
    made = tokenizer.decode(tokenizer.encode(tiles)).astype(int)
    return float((((made - tiles) ** 2).sum((1, 2, 3)) * weight).sum())


@pytest.mark.parametrize("codes", [2, 30])
def test_rounds_lose_less_and_less(codes):
    every = patches()
    of = lambda rounds: table(every, CodebookExperiment("x", codes=codes, rounds=rounds))
    begun, once, often = (lost(of(n), every.pixels, every.weight) for n in (0, 1, 6))
    assert often < once < begun


def test_more_codes_lose_less_and_as_many_as_patches_lose_nothing():
    every = patches()
    losses = [
        lost(table(every, CodebookExperiment("x", codes=n)), every.pixels, every.weight)
        for n in (10, 100, 400)
    ]
    assert losses[0] > losses[1] > losses[2] == 0


def test_what_counts_most_comes_first():
    every = patches()
    first = table(every, CodebookExperiment("x", codes=400))[0]
    np.testing.assert_array_equal(first.ravel(), every.pixels[every.weight.argmax()])


def test_a_training_leaves_a_tokenizer_its_record_and_a_picture(tmp_path, capsys, monkeypatch):
    model, warning = train(CONFIG, tmp_path)
    tokenizer = load_tokenizer(str(model))
    assert tokenizer.codebook_size == 200
    record = json.loads((model / "tokenizer_training.json").read_text())
    assert record["scores"]["psnr"] > 26
    assert "psnr" in capsys.readouterr().out
    assert not warning
    assert (tmp_path / "samples" / "sample.png").is_file()
    monkeypatch.setattr(codebook, "cut", None)  # what was read of the clips is kept
    again = load_tokenizer(str(train(CONFIG, tmp_path)[0]))
    assert again.fingerprint() == tokenizer.fingerprint()


def test_another_source_adds_what_the_first_does_not_show(tmp_path):
    write_mp4(tiny.video(6), 8.0, tmp_path / "clips" / "0.mp4")
    wide = CodebookExperiment(
        **{**vars(CONFIG), "wide": str(tmp_path / "clips"), "wide_share": 0.5}
    )
    narrow, both = (
        load_tokenizer(str(train(config, tmp_path / str(i))[0]))
        for i, config in enumerate((CONFIG, wide))
    )
    frames = np.stack([np.tile(frame, (4, 4, 1))[:64, :64] for frame in tiny.video(6)])
    error = lambda t: np.square(t.decode(t.encode(frames)).astype(int) - frames).mean()
    assert error(both) < error(narrow)


def test_clips_that_all_look_alike_end_with_a_warning(tmp_path):
    gray = lambda level: np.full((4, 64, 64, 3), level, np.uint8)
    for name, level in (("train/0", 99), ("train/1", 200), ("valid/2", 99)):
        write_mp4(gray(level), 8.0, tmp_path / f"{name}.mp4")
    clips = {"data": f"{tmp_path}/train", "valid": f"{tmp_path}/valid"}
    config = CodebookExperiment("gray", **clips, size=64, codes=2)
    _, warning = train(config, tmp_path / "out")
    assert "dead tokenizer" in warning
    assert "perplexity 1 " in warning


def test_too_few_patches_are_refused_in_one_line(tmp_path, capsys):
    recipe = tmp_path / "tiles.py"
    recipe.write_text(
        "from fv_jax.config.training import CodebookExperiment\n"
        "def get_config():\n"
        "    return CodebookExperiment('tiles', data='shapes,count=4', size=64, codes=9999)\n"
    )
    assert main(["train", str(recipe), "--folder", str(tmp_path / "out")]) == 2
    assert "too few for 9999 codes; give fewer --codes" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model").exists()
