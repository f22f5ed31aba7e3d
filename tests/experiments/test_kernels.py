"""The bench of kernels by the clock, as far as it goes without an accelerator."""

import json

from experiments.benches import kernels


def test_by_the_clock_every_form_of_this_machine_is_timed(tmp_path):
    kernels.run(kernels.Settings(tokens=8, rows=2, clock=True, repeats=1, out=tmp_path))
    values = json.loads((tmp_path / "results" / "kernels-clock.json").read_text())
    assert set(values["seconds"]) == {"plain, forwards", "plain, forwards and backwards"}
    assert len(values["decoding"]) == 3  # sizes, of the plain form alone
    times = [*values["seconds"].values(), *values["decoding"].values()]
    assert all(0 < seconds < 60 for seconds in times)
