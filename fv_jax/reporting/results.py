"""What a bench leaves behind: a table on the screen, and its numbers as JSON beside a page.

Both begin with the command that repeats them, so that every number comes from this tree.
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
    """Print a Markdown table; write results/NAME.json and the page results/NAME.md.

    Args:
        name: of the bench.
        settings: a dataclass; the command that repeats the bench is made of its fields, and
            results/ lies in its `out`: experiments/ to commit the result, or a scratch folder.
        values: raw numbers, as JSON values.
        table: Markdown; pictures lie beside the page.
        variant: "" or what is added to the name, for a bench with results side by side.
    """
    source, command = provenance(), _command(name, settings)
    print(table)
    page = settings.out / "results" / (f"{name}-{variant}.md" if variant else f"{name}.md")
    stamp = f"`{command}` on {source['machine']}; jax {source['jax']}, {source['date']}, commit "
    write_text(
        page.with_suffix(".json"),
        json.dumps({"command": command, "source": source, **values}, indent=1) + "\n",
    )
    write_text(page, f"# {page.stem}\n\n{stamp}{source['commit']}.\n\n{table.strip()}\n")
    print(f"\nwritten to {page} and {page.with_suffix('.json')}")


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


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; floats with four significant digits."""
    cells = [[f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
