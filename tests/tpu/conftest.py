"""What all tests that compile for a TPU share."""

import pytest

from fv_jax.planning.costs import written_schedules


@pytest.fixture(scope="session", autouse=True)
def schedules():
    """The compiler is asked for its schedules before any test loads it; later it does not hear."""
    return written_schedules()
