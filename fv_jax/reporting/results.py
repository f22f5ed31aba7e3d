"""What a bench leaves behind: a table on the screen, JSON, and a section of the results page.

`experiments/README.md` holds one section per bench between two marker lines; recording replaces
what is between them, so that every number there comes from a command of this tree.
"""

import dataclasses
import json
import os
import shlex
from collections.abc import Iterator
from typing import Any

from fv_jax.files import write_text
from fv_jax.provenance import provenance


def record(name: str, settings: Any, values: dict[str, Any], table: str, variant: str = "") -> None:
    """Print a Markdown table; write NAME.json and the section of README.md in `folder`.

    Args:
        name: of the bench.
        settings: a dataclass; the command that repeats the bench is made of its fields, and its
            `out` is the folder: experiments/ to commit the result, or a scratch folder.
        values: raw numbers, as JSON values.
        table: Markdown.
        variant: "" or what is added to the name, for a bench with results side by side.
    """
    source, folder, command = provenance(), settings.out, _command(name, settings)
    print(table)
    name = f"{name}-{variant}" if variant else name
    write_text(
        folder / "results" / f"{name}.json",
        json.dumps({"command": command, "source": source, **values}, indent=1) + "\n",
    )
    stamp = f"`{command}` on {source['machine']}; jax {source['jax']}, {source['date']}, commit "
    section = f"{stamp}{source['commit'] or 'unknown'}.\n\n{table.strip()}\n"
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    write_text(page, replace_section(text, name, section))
    print(f"\nwritten to {page} and {folder / 'results' / f'{name}.json'}")


# Variables that change how fast JAX is: threads of its CPU client, compiler flags, device.
_ENVIRONMENT = ("NPROC", "XLA_FLAGS", "JAX_PLATFORMS")


def _command(name: str, settings: Any) -> str:
    """`fv bench NAME` with every setting that is not the default."""
    environment = [
        f"{name}={shlex.quote(os.environ[name])} " for name in _ENVIRONMENT if name in os.environ
    ]
    changed = " ".join(["", *changed_settings(settings, type(settings)())])
    return f"{''.join(environment)}fv bench {name}{changed}"


def changed_settings(settings: Any, default: Any, prefix: str = "") -> Iterator[str]:
    """Command-line arguments that make `settings` of `default`, both of the same dataclass."""
    for field in dataclasses.fields(settings):
        value, before = getattr(settings, field.name), getattr(default, field.name)
        option = field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            yield from changed_settings(value, before, f"{prefix}{option}.")
        elif value != before and isinstance(value, bool):
            yield f"--{prefix}{option if value else f'no-{option}'}"
        elif value != before and isinstance(value, tuple):
            yield " ".join([f"--{prefix}{option}", *(shlex.quote(str(item)) for item in value)])
        elif value != before:
            yield f"--{prefix}{option} {shlex.quote(str(value))}"


def replace_section(text: str, name: str, section: str) -> str:
    """`text` with the part between the bench's markers replaced, or added at the end."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    block = f"{begin}\n{section}{end}"
    if begin in text and end in text:
        before, rest = text.split(begin, 1)
        return before + block + rest.split(end, 1)[1]
    return f"{text.rstrip()}\n\n## {name}\n\n{block}\n".lstrip()


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; floats with four significant digits."""
    cells = [[f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
