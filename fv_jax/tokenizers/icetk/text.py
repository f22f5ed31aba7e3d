"""icetk's text ids: the pieces of ice_text.model behind the 20,000 image ids, then specials.

    [0, 20000)          image ids
    [20000, 20000 + n)  the n pieces of the model (130,000 in icetk's own; 20000 is `<unk>`)
    20000 + n, ...      special tokens in the order in which they were added

The model file is read by sentencepiece alone. icetk writes special tokens into the model, where
text that happens to spell one becomes it; here they are a table beside the model, and text is
searched for them only where asked. Newlines are icetk's: spaces, or `<n>` pieces if wanted.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece as spm

IMAGE_IDS = 20_000
_NEWLINE = "<n>"


class IceText:
    """Text to ids and back.

    Attributes:
        specials: special tokens' ids by name, in order of addition.
    """

    def __init__(self, model: bytes):
        """`model` is the content of a sentencepiece model file.

        Raises:
            ValueError: it is none, or a truncated one.
        """
        self._pieces = spm.SentencePieceProcessor()
        try:
            self._pieces.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise ValueError(f"not a sentencepiece model ({error})") from error
        self.specials: dict[str, int] = {}

    @classmethod
    def load(cls, path: str | os.PathLike) -> "IceText":
        """Read a model file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a sentencepiece model, or a truncated one.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no text model {path} (icetk's is called ice_text.model)")
        try:
            return cls(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}; get the file again") from error

    @property
    def size(self) -> int:
        """Number of ids in all: of images, text and specials."""
        return self._first_special + len(self.specials)

    def add_specials(self, names: Iterable[str]) -> list[int]:
        """Ids of special tokens, new ones where the table has none of a name yet.

        Raises:
            ValueError: a name that is empty or a piece of the model already; nothing is added.
        """
        names = list(dict.fromkeys(names))
        for name in names:
            if not name or self._piece_id(name) is not None:
                raise ValueError(f"special tokens need names that are no pieces, got {name!r}")
        for name in names:
            self.specials.setdefault(name, self.size)
        return [self.specials[name] for name in names]

    def special(self, name: str) -> int:
        """Id of a special token, or of a piece such as `<pad>`.

        Raises:
            ValueError: there is none of that name (icetk gives `<unk>`).
        """
        if name in self.specials:
            return self.specials[name]
        piece = self._piece_id(name)
        if piece is None:
            known = ", ".join(self.specials) or "none"
            raise ValueError(f"no special token and no piece {name!r}; special tokens: {known}")
        return IMAGE_IDS + piece

    def encode(self, text: str, *, specials: bool = False, newlines: bool = False) -> list[int]:
        """Ids of a text.

        Args:
            text: any text.
            specials: read names of special tokens in the text as these tokens (of several that
                match, the longest). Otherwise they are text like any other.
            newlines: keep them, as `<n>`; otherwise they are spaces.
        """
        if newlines:
            text = text.replace("\n", _NEWLINE)
        parts = [text]
        if specials and self.specials:
            names = sorted(self.specials, key=len, reverse=True)
            parts = re.split(f"({'|'.join(map(re.escape, names))})", text)
        ids = []
        for i, part in enumerate(parts):  # every second one is a special token
            if i % 2:
                ids.append(self.specials[part])
            else:
                ids += [IMAGE_IDS + piece for piece in self._pieces.EncodeAsIds(part)]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens by name.

        Raises:
            ValueError: image ids, or ids beyond the last.
        """
        names = {i: name for name, i in self.specials.items()}
        pieces = []
        for i in map(int, ids):
            if not IMAGE_IDS <= i < self.size:
                raise ValueError(f"text ids must be in {IMAGE_IDS}..{self.size - 1}, got {i}")
            pieces.append(names[i] if i in names else self._pieces.IdToPiece(i - IMAGE_IDS))
        return self._pieces.DecodePieces(pieces).replace(_NEWLINE, "\n")

    @property
    def _first_special(self) -> int:
        return IMAGE_IDS + self._pieces.GetPieceSize()

    def _piece_id(self, name: str) -> int | None:
        piece = self._pieces.PieceToId(name)
        # Every unknown name has the id of `<unk>`.
        return piece if self._pieces.IdToPiece(piece) == name else None
