"""Text: the words of the captions, whatever their case and punctuation."""

import pytest
import tiny

from fv_jax.generation import pretrained
from fv_jax.shapes import scenes
from fv_jax.tokenizers.text import TextTokenizer

SENTENCE = "a small red circle moves left over stripes"


def test_every_caption_is_known_word_by_word():
    tokenizer = tiny.text()
    for caption in scenes.all_captions():
        ids = tokenizer.encode(caption)
        assert len(ids) == len(caption.split())
        assert tokenizer.unknown(caption) == []


def test_different_captions_have_different_ids_and_equal_words_equal_ones():
    tokenizer, captions = tiny.text(), scenes.all_captions()
    assert len({tuple(tokenizer.encode(caption)) for caption in captions}) == len(captions)
    left = tokenizer.encode("left")
    assert [i for i in tokenizer.encode(SENTENCE) if [i] == left] == left


def test_words_are_exactly_those_of_the_captions():
    words = {word for caption in scenes.all_captions() for word in caption.split()}
    assert tiny.text().words == sorted(words)
    assert tiny.text().size == len(words) + 1  # and <unk>


@pytest.mark.parametrize(
    "text",
    [
        "A Small RED circle moves LEFT over Stripes",
        "a small, red circle moves left over stripes.",
        '"a small red circle" (moves left) over/stripes!?',
        "  a   small red\tcircle\nmoves left over stripes ",
        "a small-red_circle;moves:left&over*stripes",
    ],
)
def test_case_spaces_and_punctuation_do_not_matter(text):
    assert tiny.text().encode(text) == tiny.text().encode(SENTENCE)
    assert tiny.text().unknown(text) == []


def test_unknown_words_become_one_id_and_are_listed_once_in_order():
    tokenizer = tiny.text()
    text = "a furious Zebra moves left over a zebra and a cat"
    assert tokenizer.unknown(text) == ["furious", "Zebra", "zebra", "and", "cat"]
    unknown = tokenizer.encode("zebra")
    assert len(unknown) == 1
    assert unknown[0] not in tokenizer.encode(SENTENCE)
    a, moves, left, over = (tokenizer.encode(word)[0] for word in "a moves left over".split())
    # Neighboring unknown words are one.
    assert tokenizer.encode(text) == [
        a, *unknown, moves, left, over, a, *unknown, a, *unknown,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "   ", "\n", "...,;!"])
def test_empty_text_has_no_ids(text):
    assert tiny.text().encode(text) == []
    assert tiny.text().unknown(text) == []


def test_non_ascii_text_is_unknown_rather_than_an_error():
    assert tiny.text().unknown("un cercle bleu\u00e9 \u4e2d\u6587 red") == [
        "un", "cercle", "bleu\u00e9", "\u4e2d\u6587",
    ]  # fmt: skip


def test_save_and_load_keep_every_id(tmp_path):
    path = tmp_path / "text.model"
    path.write_bytes(tiny.text().model)
    loaded = TextTokenizer.load(path)
    assert loaded == tiny.text()
    for caption in scenes.all_captions()[::50]:
        assert loaded.encode(caption) == tiny.text().encode(caption)


def test_training_again_gives_the_same_model():
    assert TextTokenizer.train(scenes.all_captions()) == tiny.text()  # byte by byte


def test_the_shipped_model_is_the_one_that_training_makes():
    assert TextTokenizer.load(pretrained.SHIPPED / "shapes" / "text.model") == tiny.text()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.model"):
        TextTokenizer.load(tmp_path / "nowhere.model")


@pytest.mark.parametrize("content", [b"", b"no model at all", tiny.text().model[:100]])
def test_a_file_that_is_no_whole_model_is_named(tmp_path, content):
    path = tmp_path / "text.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.model: not a sentencepiece model"):
        TextTokenizer.load(path)
