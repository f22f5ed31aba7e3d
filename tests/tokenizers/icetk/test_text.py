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
        assert text.encode(sentence) == [IMAGE_IDS + i for i in pieces.EncodeAsIds(sentence)]
    assert text.encode("red\nblue") == text.encode("red blue")


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
    for sentence in SENTENCES:
        assert text.encode(sentence) == theirs.encode(text=sentence)
    assert text.size == theirs.num_tokens
