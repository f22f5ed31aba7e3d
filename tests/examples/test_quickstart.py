"""Examples that a person begins with: the notebook runs to its end, the app makes mp4s."""

import importlib.util
import json
import time

from places import ROOT

from fv_jax.media.opening import open_clip

NOTEBOOK = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))


def test_the_notebook_runs_from_top_to_bottom_in_two_minutes():
    namespace, begin = {"__name__": "quickstart"}, time.monotonic()
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    for number, cell in enumerate(cells):
        assert not cell["outputs"]  # what it shows is made anew
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
    assert time.monotonic() - begin < 120
    assert namespace["clip"].frames.shape == (17, 64, 64, 3)


def test_the_app_makes_a_video_of_a_sentence():
    spec = importlib.util.spec_from_file_location("app", ROOT / "examples" / "app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    assert len(open_clip(app.video(app.EXAMPLE, 0.0, 1.5)).times) == 17
