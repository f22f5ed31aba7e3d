"""What a decoding step costs by its width: when does a window pay?

A run over known tokens keeps all W tokens of every step, so its time over its steps is what a step
costs. With it stands the speed-up over W = 1 that follows if the network guesses as well as the
shipped model does (ids per step of `fv bench window`, inserted frames, one row): the cost of a
step at W = 1, over that at W, times the tokens kept.

    shapes    the shipped model's sizes: its weights fit into a core's cache, and already two rows
              keep the arithmetic units busy
    middle    6 M parameters: at W = 1 the weights come from memory, and more tokens cost little

    cost   104 s of CPU time
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.baselines import ways
from experiments.timing import in_turns
from fv_jax.config.model import PRESETS, RetNetConfig, SequenceConfig
from fv_jax.reporting.results import markdown, record

WINDOWS = (1, 4, 8, 16)
# Where `fv bench window --out experiments` has put the shipped model's ids per step.
_MEASURED = Path(__file__).parents[1] / "results" / "window.json"
NETWORKS = {
    "shapes": PRESETS["shapes"],
    "middle": RetNetConfig(width=256, layers=8, heads=8, value_width=512, hidden=341),
}
_BLOCKS = 5


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    repeats: int = 7
    """Timed calls of each; the median counts."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    kept = tokens_kept()
    layout = SequenceConfig(12, (8, 8), 100, 400, serial_numbers=16)
    rows = []
    for name, config in tqdm(NETWORKS.items(), unit="network"):
        ours = ways.RetNets(config, layout)
        for batch in (1, 4):
            known = np.ones((batch, _BLOCKS * layout.stride), np.int32)
            seconds = in_turns({w: ours.run(known, w) for w in WINDOWS}, settings.repeats)
            cost = {w: seconds[w] / -(-known.shape[1] // w) for w in WINDOWS}
            rows.append({"network": name, "parameters": ours.size, "rows": batch,
                         "milliseconds": {w: 1e3 * c for w, c in cost.items()},
                         "faster": {w: cost[1] / cost[w] * kept[w] for w in WINDOWS}})  # fmt: skip
    header = ["network", "parameters", "rows", *(f"W = {w}, ms a step" for w in WINDOWS),
              *(f"W = {w}, times faster" for w in WINDOWS[1:])]  # fmt: skip
    cells = [
        [r["network"], f"{r['parameters']:,}", r["rows"],
         *(f"{r['milliseconds'][w]:.3f}" for w in WINDOWS),
         *(f"{r['faster'][w]:.2f}" for w in WINDOWS[1:])] for r in rows
    ]  # fmt: skip
    record("step-cost", settings, {"steps": rows, "kept": kept}, markdown(header, cells))


def tokens_kept() -> dict[int, float]:
    """Tokens that the shipped model keeps per step of inserted frames, by W."""
    rows = json.loads(_MEASURED.read_text(encoding="utf-8"))["times"]["one row at a time"]
    ids = {row["way"]: row["ids a step and row, inserted"] for row in rows}
    return {w: ids[f"W = {w}"] / ids["W = 1"] for w in WINDOWS}
