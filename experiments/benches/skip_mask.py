"""What can the skip mask save on real video? (paper section 3.3)

Each clip, at its own frame rate, is tokenized as `fv interpolate` would do it. Key frames are then
taken 4, 8, 15 and 30 frames apart, all such pairs, and their ids compared:

    Different, Unstable, Stable   shares of the ids, as in Fig. 4 (ring of one id)
    draft, key frame              share of B's ids that A has at the same place
    draft, nearer key frame       share of the ids between that the nearer of A and B has
    draft, frame beside           the same with the frame before it, B for the last one: what the
                                  sampler guesses when all frames of the gap are inserted

The drafts' shares are what a model that knew the true video would accept, so a bound for real ones.
The picture shows masks only, no pixels: the clips' rights are their owners'.

    cost   two minutes on two CPU cores (estimated), after half an hour of `fv train tokenizer_160`
"""

import dataclasses
import io
from pathlib import Path

import numpy as np

from fv_jax.data.sources.base import open_source
from fv_jax.files import replacing
from fv_jax.generation.skip_mask import regions
from fv_jax.media.frames import Window, read
from fv_jax.media.readers import ClipError, fps_of
from fv_jax.reporting.results import markdown, record
from fv_jax.tokenizers.load import load_tokenizer

_COLOURS = {"Different": "#c0392b", "Unstable": "#e6b422", "Stable": "#2e6f95"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write it."""

    tokenizer: tuple[str, ...] = ("out/tokenizer_160/model",)
    """Tokenizers: files, folders, names, or icetk:PATH with the user's own weights."""
    data: str = "clips"
    """A source of clips."""
    gaps: tuple[int, ...] = (4, 8, 15, 30)
    """Frames from one key frame to the next."""
    size: int = 160
    """Side of the square frames, px."""
    radius: int = 1
    """Width of the unstable ring, ids."""
    picture: Path = Path("out/bench/skip-mask.png")
    """Where to draw masks and shares of the first tokenizer."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure, draw and record."""
    clips = _clips(settings)
    rows, values, first = [], {}, {}
    for name in settings.tokenizer:
        tokenizer = load_tokenizer(name)
        ids = dict(zip(clips, tokenizer.encode_clips([frames for frames, _ in clips.values()])))
        first = first or ids
        for clip, grids in ids.items():
            for gap in settings.gaps:
                if gap < len(grids):
                    shares = _shares(grids, gap, settings.radius)
                    seconds = gap / clips[clip][1]
                    values[f"{name} | {clip} | {gap}"] = shares
                    percent = [f"{100 * share:.1f}%" for share in shares.values()]
                    rows.append([name, clip, gap, f"{seconds:.2f}", *percent])
    if not values:
        raise ValueError(f"no clip of {settings.data} has more than {min(settings.gaps)} frames")
    header = ["tokenizer", "clip", "frames apart", "seconds", *next(iter(values.values()))]
    _draw(first, settings)
    table = markdown(header, rows)
    if not any("icetk" in name for name in settings.tokenizer):
        table += (
            "\nicetk: not measured. It needs its published weights (`--tokenizer icetk:PATH`); "
            "with random weights the ids say nothing about video.\n"
        )
    record("skip-mask", settings, {"shares": values}, table)


def _clips(settings: Settings) -> dict[str, tuple[np.ndarray, float]]:
    """Frames and frame rate of every clip, by id."""
    source, clips = open_source(settings.data), {}
    for index in range(len(source)):
        entry = source[index]
        try:
            reader = entry.open()
            clips[entry.id] = read(reader, Window(0, settings.size)), fps_of(reader)
        except ClipError as error:
            print(f"left out {entry.id}: {error}")
    return clips


def _shares(ids: np.ndarray, gap: int, radius: int) -> dict[str, float]:
    starts = range(0, len(ids) - gap, max(1, gap // 2))
    masks = [regions(ids[s], ids[s + gap], radius) for s in starts]
    mean = lambda name: float(np.mean([getattr(mask, name) for mask in masks]))
    places = [(s, step) for s in starts for step in range(1, gap)]
    near = [(ids[s + i] == ids[s if 2 * i <= gap else s + gap]).mean() for s, i in places]
    beside = [(ids[s + i] == ids[s + (gap if i == gap - 1 else i - 1)]).mean() for s, i in places]
    return {
        "Different": mean("different"),
        "Unstable": mean("unstable"),
        "Stable": mean("stable"),
        "draft, key frame": 1 - mean("different"),
        "draft, nearer key frame": float(np.mean(near)),
        "draft, frame beside": float(np.mean(beside)),
    }


def _draw(ids: dict[str, np.ndarray], settings: Settings) -> None:
    """Masks of one pair for each clip and gap, and the shares over all pairs below them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    colors = ListedColormap(list(_COLOURS.values()))
    figure, axes = plt.subplots(
        len(settings.gaps) + 1, len(ids), squeeze=False, layout="constrained",
        figsize=(2.1 * len(ids), 2.1 * (len(settings.gaps) + 1.2)),
    )  # fmt: skip
    for column, (clip, grids) in enumerate(ids.items()):
        axes[0, column].set_title(Path(clip).stem[:24], fontsize=7)
        shares = {}
        for row, gap in enumerate(settings.gaps):
            axis = axes[row, column]
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(f"{gap} frames apart", fontsize=8)
            if gap >= len(grids):
                axis.set_frame_on(False)
                continue
            middle = (len(grids) - gap) // 2
            mask = regions(grids[middle], grids[middle + gap], settings.radius)
            axis.imshow(mask.unstable + 2 * mask.stable, cmap=colors, vmin=0, vmax=2)
            shares[gap] = _shares(grids, gap, settings.radius)
        axis, low = axes[-1, column], np.zeros(len(shares))
        for name, color in _COLOURS.items():
            part = np.asarray([share[name] for share in shares.values()])
            axis.bar([str(gap) for gap in shares], part, bottom=low, color=color, label=name)
            low += part
        held = [share["draft, frame beside"] for share in shares.values()]
        axis.plot([str(gap) for gap in shares], held, "k.--", label="drafts that hold (inserted)")
        axis.set_ylim(0, 1)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("frames apart", fontsize=7)
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    with replacing(settings.picture) as temporary:
        temporary.write_bytes(buffer.getvalue())
