"""Words of the command line into dataclasses: tyro, whose boxed errors become one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

_BOX = re.compile(r"[\u2500-\u257f]+|-{4,}")
# What is wrong with a value: without tyro's name of the field, and a flag's help text.
_VALUE = re.compile(
    r"^Error parsing (?:(-\S+: )|\S+: )(.*?)(?: Argument helptext: .*)?(?: For full helptext.*)?$"
)


def parse(kind: Any, args: Sequence[str], **more: Any) -> Any:
    """`tyro.cli`, for which what is wrong is a `ValueError` of one line.

    Args:
        kind: what to make; a mapping from subcommands to dataclasses makes one of these.
        args: the words.
        more: arguments of tyro's.

    Raises:
        ValueError: the words are not as `kind` wants them.
        SystemExit: they ask for help, which has been printed.
    """
    several = isinstance(kind, dict)
    run = tyro.extras.subcommand_cli_from_dict if several else tyro.cli
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return run(kind, args=args, config=(tyro.conf.AvoidSubcommands,), **more)
    except SystemExit as stop:
        if stop.code:
            _, *lines = captured.getvalue().splitlines()  # the first is the box's title
            words = " ".join(_BOX.sub(" ", " ".join(lines)).split())
            raise ValueError(_VALUE.sub(r"\1\2", words)) from stop
        raise
