"""icetk's text ids: the pieces of ice_text.model behind the 20,000 image ids.

[0, 20000)          image ids
[20000, 20000 + n)  the n pieces of the model (130,000 in icetk's own; 20000 is `<unk>`)
"""

from fv_jax.tokenizers.text import TextTokenizer

IMAGE_IDS = 20_000


class IceText(TextTokenizer):
    """icetk's sentencepiece model; line ends are spaces, which is icetk's default."""

    @property
    def size(self) -> int:
        """Number of ids in all, of images and text."""
        return IMAGE_IDS + super().size

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return [IMAGE_IDS + piece for piece in self._processor.EncodeAsIds(text)]
