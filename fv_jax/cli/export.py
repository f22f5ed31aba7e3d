"""`fv export` and `fv push`: a model as a folder for a hub, and that folder onto one."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fv_jax.cli.parsing import is_folder
from fv_jax.cli.paths import check_writable
from fv_jax.files import read_text, write_text
from fv_jax.generation import hub
from fv_jax.generation.generator import Generator
from fv_jax.generation.pretrained import FILES, locate
from fv_jax.media.clip import Clip
from fv_jax.media.montage import montage, save_png
from fv_jax.provenance import version
from fv_jax.weights.shipped import SHIPPED

if TYPE_CHECKING:
    from fv_jax.cli.commands import Export, Push

_EXAMPLE = "a small red circle moves left over stripes"

_NAMELESS = "hf:OWNER/NAME"  # in a card, until it is known


def export(command: "Export") -> int:
    """Write the folder, whole or not at all. Returns the exit code.

    Raises:
        ValueError, OSError: no such model, or a folder that cannot be made.
    """
    out = Path(command.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"--out {str(out)!r} is there already; choose another folder")
    check_writable(out if not is_folder(out) else out / "config.json")
    folder = locate(command.model)
    generator = Generator.load(str(folder))
    prompt = command.prompt or _prompt(generator)
    (clip,) = generator.generate([prompt])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        for name in FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, made / name)
        save_png(montage([clip]), made / "preview.png")
        write_text(made / "README.md", _card(generator, folder, clip, command))
        if command.stablehlo:
            from fv_jax.generation.exported import export_sampler

            export_sampler(generator.model, made)
        if out.exists():
            out.rmdir()  # it is empty
        os.replace(made, out)
    print(f"{generator.model.name} in {out}: read its README.md, which is the model's card")
    print(f"share it: fv push {out} {_NAMELESS}")
    return 0


def push(command: "Push") -> int:
    """Put an exported folder onto a hub. Returns the exit code.

    Raises:
        ValueError, OSError: no exported folder, or the hub refuses.
    """
    for name in (*FILES[:-1], "README.md"):
        if not (command.folder / name).is_file():
            raise FileNotFoundError(
                f"{str(command.folder)!r} has no {name}; make it with fv export MODEL --out DIR"
            )
    Generator.load(str(command.folder))  # whole, by its checksums
    card = command.folder / "README.md"
    write_text(card, read_text(card).replace(_NAMELESS, command.name))
    print(hub.push(command.folder, command.name, private=command.private))
    print(f'use it: fv generate "{_EXAMPLE}" --model {command.name}')
    return 0


def _prompt(generator: Generator) -> str:
    text = generator.model.text
    return _EXAMPLE if not text.unknown(_EXAMPLE) else (text.words or ["video"])[0]


def _card(generator: Generator, folder: Path, clip: Clip, command: "Export") -> str:
    """The model's card: Markdown, with the header that hubs read."""
    model, config = generator.model, generator.model.config
    record = _record(folder)
    license = command.license or ("apache-2.0" if folder.parent == SHIPPED else "unknown")
    height, width = model.frame_size
    words = model.text.words
    few = ", ".join(words[:40]) + (", .." if len(words) > 40 else "")
    between = max((count for _, count in config.insertions), default=0)
    return f"""---
license: {license}
library_name: fv-jax
pipeline_tag: text-to-video
tags: [text-to-video, retnet, jax]
---

# {model.name}

Text to video by a RetNet over image tokens, after
[FlashVideo](https://arxiv.org/abs/2401.00869): {config.key_frames} key frames of
{width}x{height} px at {config.key_frame_fps:g} a second, {between} frames put between any two.

![{clip.prompt}](preview.png)

*"{clip.prompt}", seed {clip.seed}. White borders are key frames; below
each frame green ids were copied from the key frames, orange ones sampled.*

## How to use it

    pip install "fv-jax[hub]"
    fv generate "{clip.prompt}" --model {_NAMELESS} --out video.mp4

```python
from fv_jax import Generator

clips = Generator.load("{_NAMELESS}").generate(
    ["{clip.prompt}"], seed=0
)
```

{_without_the_package(command)}## What it was trained on

{_trained(record)}

## Numbers of its record

{_numbers(record)}

`training.json` has the settings, and the versions and the machine that made it.

## Limits

It makes {width}x{height} px and nothing else, and what it shows is no better than what it was
trained on. It knows {len(words)} words and guesses at all others: {few}.

## License

{license}. Written by fv-jax {version()}.
"""


def _without_the_package(command: "Export") -> str:
    if not command.stablehlo:
        return ""
    return (
        "The files `.stablehlo` are the same sampler for CPU, CUDA and TPU without that package:\n"
        "`jax.export.deserialize`, and `stablehlo.json` says what goes in and comes out.\n\n"
    )


def _record(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _trained(record: dict[str, Any]) -> str:
    config = record.get("config", {})
    data = config.get("data") or "clips that training.json tells of"
    said = [f"The experiment `{config['name']}`" if "name" in config else "A training"]
    if "steps" in record:
        said.append(f"{record['steps']:,} steps")
    if "hours" in record:
        said.append(f"{record['hours']:g} hours")
    return f"{', '.join(said)}, on: {data}."


def _numbers(record: dict[str, Any]) -> str:
    known = {"parameters": record["parameters"]} if "parameters" in record else {}
    known |= record.get("final", {})
    if not known:
        return "There is no record."
    rows = [f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in known.items()]
    return "\n".join(["| what | value |", "| --- | --- |", *rows])


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
