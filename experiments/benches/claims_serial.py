"""Serial numbers and repeated text (paper section 3.2): what are they worth?

Four networks of one size and budget on the same clips, each with three seeds: text and serial
number before every frame (the paper's), no serial numbers (every frame has number 1), text before
the first frame only, and neither. The length of a block stays, so the cost does, too. All start
from the same image run of their seed, which favors the paper's: its later blocks look as those
of images do (text, serial number, frame), the others' do not. Judged by 128 videos each
(`claims/scores.py`): adherence, the order of the frames, shapes-FVD.

    fv bench claims-serial --only-train      # can be stopped and taken up
    fv bench claims-serial --only-score      # what is trained so far
    fv bench claims-serial --budget shipped  # the shipped model's network, on a GPU

    cost   100 minutes of a CPU core: 12 trainings of 7 to 9
"""

from experiments.claims.changes import neither, one_serial, text_once
from experiments.claims.compare import COLUMNS, compare, floor, generated
from experiments.claims.compare import Comparison as Settings
from experiments.claims.runs import BASELINE, Variant


def run(settings: Settings) -> None:
    """Train, score, record."""
    variants = [
        ("text and serial number before every frame", BASELINE),
        ("neither", Variant("neither", neither)),
        ("no serial numbers", Variant("one_serial", one_serial)),
        ("text once", Variant("text_once", text_once)),
    ]
    compare("serial", settings, variants, generated, COLUMNS, lambda: floor(settings))
