"""Text to ids: a sentencepiece model, ours (24 words, shipped) or one that the user gives."""

import dataclasses
import io
import os
import string
import tempfile
from collections.abc import Iterable
from pathlib import Path

import sentencepiece as spm

_MOST_WORDS = 4096


@dataclasses.dataclass(frozen=True)
class TextTokenizer:
    """A sentencepiece model. `model` is the file's bytes, so it can be saved again unchanged."""

    model: bytes
    _processor: spm.SentencePieceProcessor = dataclasses.field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        processor = spm.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(self.model)
        except RuntimeError as error:
            raise ValueError(f"not a sentencepiece model ({error})") from error
        object.__setattr__(self, "_processor", processor)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "TextTokenizer":
        """Read a sentencepiece model file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a sentencepiece model, or a truncated one.
        """
        try:
            return cls(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def train(cls, captions: Iterable[str]) -> "TextTokenizer":
        """A model of the captions' words, or of pieces of words where they have very many.

        Letters are lower-cased and punctuation is read as a space by the model itself, so
        "A small RED circle, moving." needs no other code wherever the file is used.

        Raises:
            ValueError: no caption has a word.
        """
        from sentencepiece import sentencepiece_model_pb2  # not needed to generate

        captions = [_plain(caption) for caption in captions]
        words = {word for caption in captions for word in caption.split()}
        if not words:
            raise ValueError("no caption has a word in it; give captions, or classes by folder")
        kind = {"model_type": "word", "vocab_size": len(words) + 1, "use_all_vocab": True}
        if len(words) >= _MOST_WORDS:
            kind = {"model_type": "unigram", "vocab_size": _MOST_WORDS, "hard_vocab_limit": False}
        output = io.BytesIO()
        with tempfile.TemporaryDirectory() as folder:
            rules = Path(folder) / "normalization.tsv"
            rules.write_text(_normalization_rules(), encoding="ascii")
            spm.SentencePieceTrainer.Train(
                sentence_iterator=iter(captions),
                model_writer=output,
                **kind,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                normalization_rule_tsv=str(rules),
                minloglevel=2,
            )
        # Its classes are made at import, where no type checker sees them.
        proto = getattr(sentencepiece_model_pb2, "ModelProto")  # noqa: B009
        model = proto.FromString(output.getvalue())
        model.normalizer_spec.normalization_rule_tsv = ""  # a temporary path: not the same twice
        return cls(model.SerializeToString())

    @property
    def size(self) -> int:
        """Number of text ids."""
        return self._processor.GetPieceSize()

    @property
    def words(self) -> list[str]:
        """Every whole word that the model knows, sorted."""
        pieces = (self._processor.IdToPiece(i) for i in range(self.size))
        return sorted(piece[1:] for piece in pieces if piece.startswith("\u2581") and piece[1:])

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Unknown words become the model's one `<unk>` id (a run of them, one)."""
        return self._processor.EncodeAsIds(" ".join(text.split()))  # tabs, line ends: a space

    def unknown(self, text: str) -> list[str]:
        """Words of a text that the model has no piece for, in order, each once."""
        words = dict.fromkeys(text.split())
        unk = self._processor.unk_id()
        return [word for word in words if unk in self._processor.EncodeAsIds(word)]


def _plain(text: str) -> str:
    """The text as the rules below make it, to count its words as the model will."""
    return text.translate(str.maketrans(string.punctuation, " " * len(string.punctuation))).lower()


def _normalization_rules() -> str:
    """sentencepiece's character map: one `from<TAB>to` line of hexadecimal code points each."""
    lower = [f"{ord(c):X}\t{ord(c.lower()):X}" for c in string.ascii_uppercase]
    space = [f"{ord(c):X}\t20" for c in string.punctuation]
    return "\n".join(lower + space) + "\n"
