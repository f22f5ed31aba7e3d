"""What an evaluation leaves behind: a result, a picture, and clips to play.

OUT/results/evaluate-NAME.json    numbers, protocol, counts, hashes, weights, the command
OUT/results/evaluate-NAME.png     the first clips, ours above the real ones
CACHE/shown/NAME-HASH/            the same and some more, to play
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fv_jax.config.model import to_json
from fv_jax.evaluation.clip_sets import scored
from fv_jax.evaluation.evaluate import Comparison, progress
from fv_jax.evaluation.protocols import Protocol, preset_of
from fv_jax.files import write_text
from fv_jax.media.montage import Pair, figure, save_png
from fv_jax.media.writers import write_mp4
from fv_jax.metrics.interface import Metric, Missing
from fv_jax.provenance import provenance

FORMAT = "fv-jax evaluation 1"
_SHOWN, _IN_FIGURE = 8, 4  # clips


def result_path(out: Path, name: str) -> Path:
    """Where the result of this name lies."""
    return out / "results" / f"evaluate-{name}.json"


def name_of_clips(fake: Path) -> str:
    """What a result is called by default: as the folder or .npz of the fakes."""
    name = fake.resolve().stem if fake.suffix == ".npz" else fake.resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "clips"


def name_of_experiment(name: str, protocol: Protocol) -> str:
    """What an experiment's result is called: other protocols have results of their own."""
    parts = [name]
    if protocol.name != preset_of(name):
        parts.append(protocol.name)
    if protocol.profile != "repo":
        parts.append(protocol.profile)
    return "-".join(parts)


def write_result(
    path: Path, name: str, comparison: Comparison, metrics: Mapping[str, Metric | Missing],
    result: dict[str, Any], *, command: str, overrides: list[str], cache: Path,
) -> None:  # fmt: skip
    """Write a result, and where clips are paired, its picture and the clips to play.

    Args:
        path: from `result_path`.
        name: of the result.
        comparison: what was compared.
        metrics: what was computed.
        result: from `evaluate`.
        command: that makes it again.
        overrides: its flags that may make another result than the same command without any.
        cache: folder that holds the clips to play.
    """
    # Named by what was compared, so that clips stay with their numbers.
    digest = hashlib.sha256(json.dumps(result["hashes"]).encode()).hexdigest()[:8]
    folder, picture = cache / "shown" / f"{name}-{digest}", path.with_suffix(".png")
    records = {key: metric.record for key, metric in metrics.items() if isinstance(metric, Metric)}
    values = {
        "format": FORMAT, "command": command, "overrides": overrides, "source": provenance(),
        "name": name, **comparison.about, "protocol": to_json(comparison.protocol), **result,
        "weights": {key: record for key, record in records.items() if record},
        "shown": _show(comparison, picture, folder) if comparison.sets.paired else [],
    }  # fmt: skip
    write_text(path, json.dumps(values, indent=1) + "\n")


def _show(comparison: Comparison, picture: Path, folder: Path) -> list[dict[str, str]]:
    """The first clips for people: a picture, and files to play."""
    sets, protocol = comparison.sets, comparison.protocol
    pairs: list[Pair] = []
    shown: list[dict[str, str]] = []
    with progress("writing clips to play", min(_SHOWN, len(sets.real))) as bar:
        for text, clip, fakes in zip(comparison.texts[:_SHOWN], sets.real, sets.runs[0]):
            real, fake = scored(clip, protocol), scored(fakes[0], protocol).copy()
            if sets.generated:
                fake[: protocol.given_frames] = real[: protocol.given_frames]
            paths = {}
            for kind, frames in (("real", real), ("fake", fake)):
                paths[kind] = str(folder / f"{len(shown):02d}-{kind}.mp4")
                write_mp4(frames, comparison.fps, Path(paths[kind]))
            shown.append({"text": text, **paths})
            pairs += [(text, real, fake)] * (len(pairs) < _IN_FIGURE)
            bar.update()
    save_png(figure(pairs, protocol.given_frames), picture)
    return shown
