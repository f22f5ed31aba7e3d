"""Two folders of clips (or .npz) as the sets of an evaluation."""

from pathlib import Path

from fv_jax.evaluation.clip_sets import check_times, open_set, paired
from fv_jax.evaluation.evaluate import Comparison, Sets, progress
from fv_jax.evaluation.metrics import of_pairs
from fv_jax.evaluation.protocols import Protocol

_FPS = 8.0  # at which clips play that say nothing of their speed


def compare_folders(real: Path, fake: Path, protocol: Protocol) -> Comparison:
    """Clips of two places, in pairs where a metric compares pairs.

    Args:
        real: a folder of clips, or an .npz.
        fake: likewise; several fakes of each real clip lie one after the other.
        protocol: says how many clips count, and by what.

    Raises:
        FileNotFoundError: no such place.
        ValueError: a place without clips, clips that do not pair or play at other rates, or too
            few to take the best of.
    """
    reals, fakes = open_set(real), open_set(fake)
    if protocol.real_count:
        each = max(1, len(fakes) // len(reals))
        reals, fakes = reals[: protocol.real_count], fakes[: protocol.real_count * each]
    pairs = any(map(of_pairs, protocol.metrics))
    groups, by = paired(reals, fakes) if pairs else ([fakes], None)
    if pairs and len(groups[0]) < protocol.best_of:
        raise ValueError(
            f"best_of={protocol.best_of} needs as many fakes of each clip, got {len(groups[0])}; "
            "--best-of 1 compares with the first"
        )
    runs = zip(reals, groups) if pairs else [(reals[0], fakes[:1])]
    with progress("times", len(reals)) as bar:
        for one, others in runs:
            for other in others:
                check_times(one, other, protocol.frames)
            bar.update()
    about = {"real": str(real), "fake": str(fake), "paired_by": by}
    texts = [Path(clip.name).stem for clip in reals]
    times = reals[0].times()
    fps = _FPS if times is None or len(times) < 2 else (len(times) - 1) / float(times[-1])
    return Comparison(Sets(reals, [groups], paired=pairs), protocol, texts, fps, about)
