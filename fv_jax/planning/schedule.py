"""How long a kernel takes, read from what a TPU's compiler writes down while it compiles.

The program's text says of a kernel what it reads and writes, not its time. The compiler's dump has
its schedule: one line a bundle, which is what the chip issues in one cycle.

    0x1d LB: > { .. }     inside of the grid's loop as often as ">" says
    iteration_bounds: (1, 52)

What only some turns do (`pl.when`) is counted in all. Waiting is not counted: for the matrix units,
which take a row of a product a cycle while bundles hand them 16 rows faster than that (a plain
matmul would reach 118% of the peak), and for memory. So the time is that of the bundles, of the
rows or of the bytes, whichever is longest.
"""

import dataclasses
import math
import os
import re
from pathlib import Path

# One file for each operation, and only the last state of each.
_FLAGS = (
    "--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex=final"
)
_BUNDLE = re.compile(r"\s*0(?:x[0-9a-f]+)?\s[\w\s]*: ?(>)?")
_ROWS = {"bf16": 16, "f32": 8}  # of an instruction's registers, of 128 numbers each
_UNITS = 4  # of a v5e: 128 x 128 at 1.5 GHz each are its 197e12 FLOP/s
_UTILIZATION = "final_hlo-static-per-bundle-utilization"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel's schedule.

    Attributes:
        turn: bundles in a turn of its grid.
        outside: bundles before and after all turns.
        turns: of the grid.
        rows: that a turn gives to each matrix unit.
        busy: share of the bundles' room that each unit uses, "MXU", "VALU" and so on.
    """

    turn: int
    outside: int
    turns: int
    rows: float
    busy: dict[str, float]

    @property
    def cycles(self) -> int:
        """Of one call."""
        return round(max(self.turn, self.rows) * self.turns) + self.outside


def write_to(folder: Path) -> None:
    """Ask for the dump: before the compiler is loaded, which reads this once.

    Flags that the user has given stay, and come last.
    """
    given = os.environ.get("LIBTPU_INIT_ARGS", "")
    os.environ["LIBTPU_INIT_ARGS"] = f"{_FLAGS.format(folder=folder)} {given}".strip()


def read_kernel(folder: Path, name: str) -> Kernel:
    """The newest schedule of the instruction `name`.

    A kernel that is called several times is compiled once, under the name of one of the calls.

    Raises:
        ValueError: there is none, or it is not one loop.
    """
    if not list(folder.glob(f"*-{name}-*")):
        name = re.sub(r"\.\d+$", ".*", name)
    bundles = _newest(folder, name, "final_bundles").read_text(encoding="utf-8")
    inside = outside = 0
    for line in bundles.splitlines():
        if bundle := _BUNDLE.match(line):
            inside += bool(bundle[1])
            outside += not bundle[1]
    bounds = set(re.findall(r"^iteration_bounds: \(([\d, ]+)\)", bundles, re.MULTILINE))
    if len(bounds) != 1 or not inside:
        raise ValueError(f"the schedule of {name} is not one loop: bounds {sorted(bounds)}")
    turns = math.prod(int(n) for n in bounds.pop().split(",") if n.strip())
    rows = sum(_ROWS[kind] for kind in re.findall(r"vmatmul\.(?:msk\.)?(bf16|f32)", bundles))
    return Kernel(inside, outside, turns, rows / _UNITS, _busy(_newest(folder, name, _UTILIZATION)))


def _newest(folder: Path, name: str, kind: str) -> Path:
    found = sorted(
        path
        for path in folder.glob(f"*-{name}-*{kind}.txt")
        if "schedule-analysis" not in path.name
    )
    if not found:
        raise ValueError(
            f"no schedule of {name} in {folder}: the compiler was loaded before it was asked"
        )
    return found[-1]


def _busy(path: Path) -> dict[str, float]:
    """Shares of the units, from lines that count what each bundle uses."""
    head, _, counts = path.read_text(encoding="utf-8").partition("== UTILIZATION:")
    names, room = head.splitlines()[1:3]
    rows = [[int(n) for n in line.split()] for line in counts.split("\n") if line.strip()]
    return {
        name.strip(): sum(row[i] for row in rows) / (int(most) * len(rows))
        for i, (name, most) in enumerate(zip(names.split(","), room.split()))
    }
