"""What `fv convert-weights` does: a file of weights in, a smoke value, a summary."""

import sys
from typing import TYPE_CHECKING

from fv_jax.cli.paths import check_writable
from fv_jax.metrics import I3D
from fv_jax.metrics.weights.files import convert

if TYPE_CHECKING:
    from fv_jax.cli.commands import ConvertWeights


def convert_weights(command: "ConvertWeights") -> int:
    """Convert one file. Returns the exit code."""
    check_writable(command.out, inputs=[command.source], flag="OUT")
    made = convert(command.source, command.out)
    print(made.text)
    if command.smoke and made.network == "I3D" and made.verified:
        _, record = I3D.published(command.out)
        smoke = record["smoke"]
        print(
            f"ten black frames against ten white ones: FVD {smoke['value']:.2f} here, "
            f"{smoke['expected']:.2f} by the common tool"
        )
        for caution in record["cautions"]:
            print(f"fv: {caution}", file=sys.stderr)
    return 0
