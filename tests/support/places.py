"""Where things lie that tests need."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the project
FIXTURES = ROOT / "tests" / "fixtures"
SUPPORT = ROOT / "tests" / "support"
SHARED = Path(os.environ.get("FV_SHARED") or ROOT.parent / "shared")  # vectors and clips, or none
