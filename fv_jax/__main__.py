"""`python -m fv_jax` is `fv`."""

import sys

from fv_jax.cli.main import main

sys.exit(main())
