"""Text and frames to ids and back."""

from etils import epy

with epy.lazy_api_imports(globals()):
    from fv_jax.tokenizers.fsq import FSQTokenizer
    from fv_jax.tokenizers.icetk.tokenizer import IceTokenizer
    from fv_jax.tokenizers.load import load_tokenizer

__all__ = ["FSQTokenizer", "IceTokenizer", "load_tokenizer"]
