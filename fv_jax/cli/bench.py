"""`fv bench`: measure something, print it, and write the results."""

from fv_jax.cli.commands import Bench
from fv_jax.cli.parsing import parse
from fv_jax.training import experiments


def bench(command: Bench) -> int:
    """Run one bench of experiments/. Returns the exit code.

    Raises:
        ValueError: a number below 0, which no bench counts to.
    """
    module = experiments.load(command.name, "benches")
    settings = parse(
        module.Settings, command.settings,
        prog=f"fv bench {command.name}", description=experiments.introduction(module),
    )  # fmt: skip
    for name, value in vars(settings).items():
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"--{name.replace('_', '-')} must be >= 0, got {value}")
    module.run(settings)
    return 0
