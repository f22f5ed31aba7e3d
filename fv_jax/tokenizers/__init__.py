"""Text and frames to ids and back."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fv_jax.tokenizers.fsq import FSQTokenizer
    from fv_jax.tokenizers.icetk import IceTokenizer
    from fv_jax.tokenizers.load import load_tokenizer

__all__ = ["FSQTokenizer", "IceTokenizer", "load_tokenizer"]

_HOMES = {"FSQTokenizer": "fsq", "IceTokenizer": "icetk", "load_tokenizer": "load"}


def __getattr__(name: str):
    # Lazily, so that importing one of the modules here does not wait for jax.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
