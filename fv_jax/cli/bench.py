"""`fv bench`: measure something, print it, and write the results."""

from fv_jax.cli.commands import Bench
from fv_jax.cli.parsing import parse
from fv_jax.training import experiments


def bench(command: Bench) -> int:
    """Run one bench of experiments/. Returns the exit code."""
    module = experiments.load(command.name, "benches")
    settings = parse(
        module.Settings, command.settings,
        prog=f"fv bench {command.name}", description=experiments.introduction(module),
    )  # fmt: skip
    module.run(settings)
    return 0
