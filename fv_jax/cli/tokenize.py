"""What `fv tokenize` does around `data/tokenize.py`: opening, and a summary."""

from pathlib import Path
from typing import TYPE_CHECKING

from fv_jax.cli.paths import check_apart, place_of
from fv_jax.data.sources.base import open_source
from fv_jax.data.tokenize import tokenize as tokenize_into
from fv_jax.files import buckets
from fv_jax.tokenizers.load import load_tokenizer

if TYPE_CHECKING:
    from fv_jax.cli.commands import Tokenize


def tokenize(command: "Tokenize") -> int:
    """Make or finish a folder of tokens. Returns the exit code."""
    if not buckets.is_bucket(command.out):
        check_apart(Path(command.out), place_of(command.source), flag="--out")
    source = open_source(command.source)
    tokenizer = load_tokenizer(command.tokenizer)
    with buckets.carried(command.out) as work:
        made = tokenize_into(source, tokenizer, work.folder, command.settings).manifest
    h, w = made.grid
    left_out = f"; {len(made.left_out)} clips left out (manifest.json)" if made.left_out else ""
    print(
        f"{made.clips} clips, {made.frames} frames of {h}x{w} ids at {made.fps:g} fps in "
        f"{command.out}{left_out}"
    )
    print(f"train on them: fv train own_videos --data {command.out}")
    return 0
