"""A frame tokenizer by its name or its file, whichever kind it is."""

from pathlib import Path

import safetensors

from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.icetk.tokenizer import IceTokenizer
from fv_jax.weights.shipped import SHIPPED, shipped_models

_TORCH = (".pt", ".pth")


def load_tokenizer(name: str) -> FSQTokenizer | IceTokenizer:
    """Load a frame tokenizer.

    Args:
        name: one of
            a shipped model's name ("shapes"), for its tokenizer;
            a .safetensors file that a tokenizer was saved to, or the folder of a trained one;
            a .pt file with icetk's weights, or `icetk:PATH` for such a file of any name or the
            folder that holds ice_image.pt. An ice_text.model beside it is loaded, too.

    Raises:
        FileNotFoundError: no such file and no shipped model of that name.
        ValueError: a damaged file, or one that holds no tokenizer.
    """
    kind, _, rest = name.partition(":")
    if kind == "icetk":
        path = Path(rest).expanduser()  # behind the colon no shell does
        return _icetk(path / "ice_image.pt" if path.is_dir() else path)
    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.safetensors"
    if not path.is_file():
        shipped = SHIPPED / name / "tokenizer.safetensors"
        if path.suffix in _TORCH or not shipped.is_file():
            raise FileNotFoundError(
                f"no tokenizer {name!r}: it must be a shipped model ({', '.join(shipped_models())})"
                ", a .safetensors file that a tokenizer was saved to or its folder (train one with "
                "`fv train own_tokenizer`), icetk's ice_image.pt, or icetk:PATH"
            )
        return FSQTokenizer.load(shipped)
    if path.suffix in _TORCH:
        return _icetk(path)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"a tokenizer file must be .safetensors or .pt, got {name}; if it holds icetk's "
            f"weights, say icetk:{name}"
        )
    header = _header(path)
    if "icetk" in header:
        return _icetk(path)
    if "tokenizer" in header:
        return FSQTokenizer.load(path)
    raise ValueError(
        f"{path} is no tokenizer file: its header has neither a 'tokenizer' nor an 'icetk' entry; "
        f"if it holds icetk's weights, say icetk:{path}"
    )


def _icetk(path: Path) -> IceTokenizer:
    text = path.parent / "ice_text.model"
    return IceTokenizer.load(path, text_model=text if text.is_file() else None)


def _header(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error
