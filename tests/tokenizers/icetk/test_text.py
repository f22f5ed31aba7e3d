"""icetk's text ids, with a small model of the same kind."""

import io
import sys

import pytest
import sentencepiece as spm

from fv_jax.tokenizers.icetk.text import IMAGE_IDS, IceText

CORPUS = [
    "a small red circle moves left over stripes", "a large blue square moves up over gray",
    "hello world, i am here", "the quick brown fox jumps over the lazy dog", "\u4e2d\u6587 \u7ea2",
] * 20  # fmt: skip
SENTENCES = [
    "a small red circle",
    "Hello, world",
    "  two  spaces ",
    "\u4e2d\u6587",
    "",
    "a\nb",
    "q\u00e9!",
]


@pytest.fixture(scope="module")
def model() -> bytes:
    """A unigram model with a newline piece, like icetk's."""
    output = io.BytesIO()
    spm.SentencePieceTrainer.Train(
        sentence_iterator=iter(CORPUS), model_writer=output, model_type="unigram", vocab_size=60,
        hard_vocab_limit=False, bos_id=-1, eos_id=-1, pad_id=3, user_defined_symbols=["<n>"],
        minloglevel=2,
    )  # fmt: skip
    return output.getvalue()


@pytest.fixture
def text(model) -> IceText:
    return IceText(model)


@pytest.fixture
def pieces(model) -> spm.SentencePieceProcessor:
    return spm.SentencePieceProcessor(model_proto=model)


def test_text_ids_are_the_models_behind_20000_image_ids(text, pieces):
    assert IMAGE_IDS == 20_000
    assert text.size == IMAGE_IDS + pieces.GetPieceSize()
    for sentence in SENTENCES:
        ids = text.encode(sentence)
        assert ids == [IMAGE_IDS + i for i in pieces.EncodeAsIds(sentence)]
        assert text.decode(ids) == pieces.DecodeIds([i - IMAGE_IDS for i in ids])
    assert text.decode(text.encode("a small red circle")) == "a small red circle"


def test_newlines_are_spaces_or_pieces(text):
    assert text.encode("red\nblue") == text.encode("red blue")
    ids = text.encode("red\nblue", newlines=True)
    assert text.special("<n>") in ids
    assert text.decode(ids) == "red\nblue"


def test_special_tokens_follow_the_text_in_order_of_addition(text, pieces):
    first = IMAGE_IDS + pieces.GetPieceSize()
    assert text.add_specials(["<image>", "<video>"]) == [first, first + 1]
    assert text.add_specials(["<end>", "<image>"]) == [first + 2, first]  # known ones keep theirs
    assert text.specials == {"<image>": first, "<video>": first + 1, "<end>": first + 2}
    assert text.special("<video>") == first + 1
    assert text.size == first + 3


def test_special_tokens_are_found_in_text_only_where_asked(text):
    image, images = text.add_specials(["<image>", "<image>s"])
    plain = text.encode("a <image> red")
    assert image not in plain
    assert "<image>" in text.decode(plain) or "\u2047" in text.decode(plain)
    ids = text.encode("a <image> red", specials=True)
    assert ids == [*text.encode("a "), image, *text.encode(" red")]
    assert text.decode(ids) == "a<image> red"
    assert text.encode("<image>s<image>", specials=True) == [images, image]
    assert text.encode("red", specials=True) == text.encode("red")


def test_names_of_the_table_are_checked(text):
    with pytest.raises(ValueError, match=r"no special token and no piece '<imgae>'.*: none"):
        text.special("<imgae>")
    text.add_specials(["<image>"])
    with pytest.raises(ValueError, match="special tokens: <image>"):
        text.special("<imgae>")
    for bad in ("", "<n>", "<unk>"):
        with pytest.raises(ValueError, match=f"names that are no pieces, got {bad!r}"):
            text.add_specials(["<new>", bad])
    assert list(text.specials) == ["<image>"]
    assert text.special("<unk>") == IMAGE_IDS


def test_ids_of_no_text_are_refused(text):
    (special,) = text.add_specials(["<image>"])
    assert text.decode([special]) == "<image>"
    for bad in (0, IMAGE_IDS - 1, special + 1):
        with pytest.raises(ValueError, match=rf"20000\.\.{special}, got {bad}"):
            text.decode([IMAGE_IDS, bad])


def test_a_file_that_is_no_whole_model_is_named(model, tmp_path):
    path = tmp_path / "ice_text.model"
    with pytest.raises(FileNotFoundError, match=r"ice_text\.model"):
        IceText.load(path)
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", model[:-100]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"ice_text\.model: not a sentencepiece model"):
            IceText.load(path)
    path.write_bytes(model)
    assert IceText.load(path).encode("a red") == IceText(model).encode("a red")


def test_ids_and_texts_are_those_of_the_package_itself(model, text, tmp_path):
    """Where the extra icetk is installed."""
    from sentencepiece import sentencepiece_model_pb2

    sys.modules["icetk.sentencepiece_model_pb2"] = sentencepiece_model_pb2
    pytest.importorskip("torch", reason="the extra icetk is not installed")
    theirs = pytest.importorskip("icetk", reason="the extra icetk is not installed").icetk
    (tmp_path / "ice_text.model").write_bytes(model)
    theirs.configure(path=str(tmp_path), device="cpu", fp16=False)
    for newlines in (False, True):
        for sentence in SENTENCES:
            want = theirs.encode(text=sentence, ignore_linebreak=not newlines)
            assert text.encode(sentence, newlines=newlines) == want
            assert text.decode(want) == theirs.decode(text_ids=want)
    names = ["<start_of_image>", "<start_of_english>"]
    theirs.add_special_tokens(names)
    assert text.add_specials(names) == [theirs[name] for name in names]
    assert text.size == theirs.num_tokens
    ids = [*text.encode("red"), *text.specials.values(), *text.encode("blue dog")]
    assert text.decode(ids) == theirs.decode(text_ids=ids)
