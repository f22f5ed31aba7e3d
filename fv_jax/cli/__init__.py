"""The command line `fv`."""

import time

STARTED = time.perf_counter()  # when the program began, as near as it can tell
