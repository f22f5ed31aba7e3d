"""Whether weights are those that everybody has, and what is kept of it beside every number.

    i3d, record = I3D.published("i3d.safetensors")
    lpips, record = LPIPS.published("alexnet.safetensors", "heads.safetensors")

`I3D.load` and `LPIPS.load` take any weights that fit. For numbers that others shall compare with
they must be the published ones, unless the caller allows others, and the record (plain JSON) says
which they were: path, size, hashes, `verified`, and a smoke value, one that a tool elsewhere has
computed with the same weights.
"""

from typing import Any


def unpublished(problem: str, allowed: bool) -> str:
    """The caution for a record, where unpublished weights are allowed.

    Raises:
        ValueError: they are not.
    """
    text = f"{problem}; numbers with it compare with nobody's"
    if not allowed:
        raise ValueError(f"{text} (--allow-unverified-weights takes it all the same)")
    return text


def add_smoke(
    record: dict[str, Any], label: str, value: float, expected: float | None, agrees: bool | None
) -> None:
    """Write a smoke value into a record, with a caution where it is not the expected one."""
    record["smoke"] = {"value": value, "expected": expected, "agrees": agrees}
    if agrees is False:
        record["cautions"].append(
            f"black against white has {label} {value:.5g} here and {expected:.5g} by the common "
            "tool, with the same weights: do not trust the numbers of this machine"
        )
