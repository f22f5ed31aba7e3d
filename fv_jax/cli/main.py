"""`fv`: words of the command line to the function of a command, errors to exit codes."""

import importlib
import inspect
import os
import sys
import textwrap
import warnings
from typing import NoReturn

from fv_jax.cli import commands
from fv_jax.cli.parsing import parse
from fv_jax.config.registry import choices
from fv_jax.files import user_cache

# What each command's flags are, and the function that is called with them, returning the exit code.
COMMANDS: dict[str, tuple[type, str]] = {
    "generate": (commands.Generate, "fv_jax.cli.generate:generate"),
    "interpolate": (commands.Interpolate, "fv_jax.cli.interpolate:interpolate"),
    "studio": (commands.Studio, "fv_jax.cli.studio:studio"),
    "data inspect": (commands.Inspect, "fv_jax.cli.data:inspect"),
    "tokenize": (commands.Tokenize, "fv_jax.cli.tokenize:tokenize"),
    "train": (commands.Train, "fv_jax.cli.train:train"),
    "evaluate": (commands.Evaluate, "fv_jax.cli.evaluate:run"),
    "report": (commands.Report, "fv_jax.cli.report:run"),
    "bench": (commands.Bench, "fv_jax.cli.bench:bench"),
    "export": (commands.Export, "fv_jax.cli.export:export"),
    "push": (commands.Push, "fv_jax.cli.export:push"),
    "list": (commands.List, "fv_jax.cli.list:list_things"),
    "convert-weights": (commands.ConvertWeights, "fv_jax.cli.convert_weights:convert_weights"),
}
_ABOUT = """FlashVideo: text to video by a RetNet over image tokens.
fv COMMAND --help says more, fv list what there is; fv --version.

Exit codes: 0 done, 1 an internal fault (with traceback), 2 bad input or usage (one line),
130 stopped by Ctrl-C."""


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    warnings.filterwarnings("ignore", module="PIL")  # of damage, which is told in a line
    try:
        return _dispatch(sys.argv[1:] if args is None else args)
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt as stop:
        message = str(stop) or "stopped by Ctrl-C; no half-written file was left"
        return _fail(message, getattr(stop, "exit_code", 130))  # 0 of SIGTERM in a training
    except BrokenPipeError:  # of a reader that has seen enough, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else exit would flush
        return 141  # as shells say of SIGPIPE
    except (ValueError, OSError) as error:
        if os.environ.get("FV_TRACEBACK"):
            raise
        return _fail(_one_line(error), 2)


def _dispatch(args: list[str]) -> int:
    if args == ["--version"]:
        from fv_jax.provenance import version  # brings jax

        print(f"fv {version()}")
        return 0
    name = next((n for n in COMMANDS if args[: len(n.split())] == n.split()), None)
    if name is None:
        _choose(args)
    (kind, target), args = COMMANDS[name], args[len(name.split()) :]
    if kind in (commands.Train, commands.Bench) and args and not args[0].startswith("-"):
        command = kind(args[0], tuple(args[1:]))  # the experiment says which settings there are
    else:
        command = parse(kind, args, prog=f"fv {name}", description=_about(kind))
    use_compilation_cache()
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)(command)


def _about(kind: type) -> str:
    """What a command is; those of experiments name them."""
    text = inspect.getdoc(kind) or ""
    if kind not in (commands.Train, commands.Bench):
        return text
    from fv_jax.training import experiments

    there = ", ".join(experiments.names("benches" if kind is commands.Bench else ""))
    there = f"There are: {there}. `fv list` says what each is, and its cost."
    return f"{text}\n\n{textwrap.fill(there, 100, break_on_hyphens=False)}"


def _choose(args: list[str]) -> NoReturn:
    """What to say where no command is named: help, or which there are."""
    if args[:1] == ["data"]:
        args, prog, about = args[1:], "fv data", commands.Data.__doc__
        kinds = {"inspect": commands.Inspect}
    else:
        prog, about = "fv", _ABOUT
        kinds = {name: kind for name, (kind, _) in COMMANDS.items() if " " not in name}
        kinds["data"] = commands.Data
    if args and not args[0].startswith("-"):
        raise ValueError(f"no command {f'{prog} {args[0]}'!r}; {choices(args[0], kinds)}")
    parse(kinds, args, prog=prog, description=about)
    raise ValueError(f"no command in {' '.join(args)!r}; {prog} --help lists them")


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, unless the user has chosen a place for them."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = user_cache() / "xla"
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
