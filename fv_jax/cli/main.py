"""`fv`: generate, interpolate, data, tokenize, train, evaluate, report, bench, convert-weights.

Exit codes: 0 done, 1 an internal fault (with traceback), 2 bad input or usage (one line),
130 stopped by Ctrl-C.
"""

import contextlib
import io
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from fv_jax.cli.commands import (
    Bench,
    ConvertWeights,
    Data,
    Evaluate,
    Generate,
    Inspect,
    Interpolate,
    Report,
    Tokenize,
    Train,
)

_STARTED = time.perf_counter()


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = sys.argv[1:] if args is None else args
    try:
        return _dispatch(args)
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        message = str(stop) or "stopped by Ctrl-C; no half-written file was left"
        return _fail(message, getattr(stop, "exit_code", 130))  # 0 of SIGTERM in a training
    except (ValueError, OSError) as error:
        if os.environ.get("FV_TRACEBACK"):
            raise
        return _fail(_one_line(error), 2)


def _dispatch(args: list[str]) -> int:
    if args[:1] in (["train"], ["bench"]) and len(args) > 1 and not args[1].startswith("-"):
        use_compilation_cache()
        from fv_jax.training import experiments

        run = experiments.train if args[0] == "train" else experiments.bench
        return run(args[1], args[2:], _parse)
    if args[:1] == ["data"]:
        command = _parse({"inspect": Inspect}, args[1:], prog="fv data", description=Data.__doc__)
        from fv_jax.cli.data import inspect

        return inspect(command)
    commands = {
        "generate": Generate,
        "interpolate": Interpolate,
        "data": Data,
        "tokenize": Tokenize,
        "train": Train,
        "evaluate": Evaluate,
        "report": Report,
        "bench": Bench,
        "convert-weights": ConvertWeights,
    }
    command = _parse(commands, args)
    use_compilation_cache()
    if isinstance(command, ConvertWeights):
        from fv_jax.cli.convert_weights import convert_weights

        return convert_weights(command)
    if isinstance(command, Tokenize):
        from fv_jax.cli import tokenize

        return tokenize.tokenize(command)
    if isinstance(command, Evaluate):
        from fv_jax.cli import evaluate

        return evaluate.run(command)
    if isinstance(command, Report):
        from fv_jax.cli import report

        return report.run(command)
    if isinstance(command, Generate):
        from fv_jax.cli import generate

        return generate.generate(command, started=_STARTED)
    from fv_jax.cli import interpolate

    return interpolate.interpolate(command)


def _parse(kind: Any, args: Sequence[str], **more: Any) -> Any:
    """tyro, with its boxed error messages turned into one line."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            if isinstance(kind, dict):
                more.setdefault("prog", "fv")
                more.setdefault("description", f"{__doc__}\nfv COMMAND --help says more.")
                return tyro.extras.subcommand_cli_from_dict(kind, args=args, **more)
            return tyro.cli(kind, args=args, **more)
    except SystemExit as stop:
        if stop.code:
            words = re.sub(r"[\u2500-\u257f]+", " ", captured.getvalue())
            raise ValueError(" ".join(words.split())) from stop
        raise


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, unless the user has chosen a place for them."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "fv_jax" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a read-only home: slower starts, nothing else
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _fail(message: str, code: int) -> int:
    print(f"fv: {message}", file=sys.stderr)
    return code
