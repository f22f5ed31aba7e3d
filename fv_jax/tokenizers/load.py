"""A frame tokenizer by its name or its file, whichever kind it is.

A kind is a class in `TOKENIZERS` that says which files are its own (`interface.FrameTokenizer`):
by an entry in the header of a .safetensors file, or by another suffix.
"""

from pathlib import Path

import safetensors

from fv_jax.config.registry import Registry, choices
from fv_jax.files.buckets import local
from fv_jax.tokenizers.interface import FrameTokenizer
from fv_jax.weights.shipped import SHIPPED, shipped_models

TOKENIZERS = Registry(
    "kind of tokenizer",
    {
        "fsq": "fv_jax.tokenizers.fsq:FSQTokenizer",
        "codebook": "fv_jax.tokenizers.codebook:CodebookTokenizer",
        "icetk": "fv_jax.tokenizers.icetk.tokenizer:IceTokenizer",
    },
)


def load_tokenizer(name: str) -> FrameTokenizer:
    """Load a frame tokenizer.

    Args:
        name: one of
            a shipped model's name ("shapes"), for its tokenizer;
            a .safetensors file that a tokenizer was saved to, or the folder of a trained one;
            a file of a kind that has a suffix of its own, such as icetk's ice_image.pt;
            `KIND:PATH` for a file of any name, or a folder that holds the kind's usual one.
            A path may be one in an object store, gs:// or s3://.

    Raises:
        FileNotFoundError: no such file and no shipped model of that name.
        ValueError: a damaged file, or one that holds no tokenizer.
    """
    kind, _, rest = name.partition(":")
    if kind in TOKENIZERS:
        tokenizer, path = TOKENIZERS[kind], Path(local(rest)).expanduser()  # here no shell does
        return tokenizer.from_file(path / tokenizer.file_name if path.is_dir() else path)
    path = Path(local(name))
    if path.is_dir():
        path = path / "tokenizer.safetensors"
    if not path.is_file():
        path = SHIPPED / name / "tokenizer.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no tokenizer {name!r}: it must be a shipped model ({choices(name, shipped_models())})"
            ", a .safetensors file that a tokenizer was saved to or its folder (train one with "
            f"`fv train own_tokenizer`), icetk's ice_image.pt, or {_explicit()}"
        )
    return _kind_of(path).from_file(path)


def _explicit() -> str:
    return " or ".join(f"{kind}:PATH" for kind in TOKENIZERS)


def _kind_of(path: Path) -> type[FrameTokenizer]:
    """The kind whose file this is."""
    kinds: dict[str, type[FrameTokenizer]] = dict(TOKENIZERS)
    if path.suffix == ".safetensors":
        header = _header(path)
        own = [kind for kind in kinds.values() if kind.header_key in header]
        wanted = " or ".join(repr(kind.header_key) for kind in kinds.values() if kind.header_key)
        problem = f"{path} is no tokenizer file: its header has no entry {wanted}"
    else:
        own = [kind for kind in kinds.values() if path.suffix in kind.suffixes]
        suffixes = [".safetensors", *(s for kind in kinds.values() for s in kind.suffixes)]
        problem = f"a tokenizer file must be {' or '.join(suffixes)}, got {path}"
    if not own:
        raise ValueError(f"{problem}; if it is of a kind, say which: {_explicit()}")
    return own[0]


def _header(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error
