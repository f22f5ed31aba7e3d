"""Text and frames to ids and back."""

from typing import TYPE_CHECKING

from fv_jax.lazy import lazy

if TYPE_CHECKING:
    from fv_jax.tokenizers.fsq import FSQTokenizer
    from fv_jax.tokenizers.icetk import IceTokenizer
    from fv_jax.tokenizers.load import load_tokenizer

__all__ = ["FSQTokenizer", "IceTokenizer", "load_tokenizer"]

__getattr__ = lazy(
    __name__, {"FSQTokenizer": "fsq", "IceTokenizer": "icetk", "load_tokenizer": "load"}
)
