"""What results are called: no two evaluations that differ by default share a name."""

from pathlib import Path

import pytest

from fv_jax.evaluation.protocols import protocol
from fv_jax.evaluation.results import name_of_clips, name_of_experiment


@pytest.mark.parametrize(
    ("fake", "name"),
    [("out/samples", "samples"), ("out/my clips.v2", "my-clips.v2"), ("a/all.npz", "all")],
)
def test_two_folders_are_called_as_the_fakes(fake, name):
    assert name_of_clips(Path(fake)) == name


def test_an_experiment_measured_in_another_way_has_another_name():
    assert name_of_experiment("bair_tiny", protocol("bair")) == "bair_tiny"
    assert name_of_experiment("bair_tiny", protocol("bair_debiased")) == "bair_tiny-bair_debiased"
    assert name_of_experiment("shapes", protocol("plain", "magvit")) == "shapes-plain-magvit"
