"""A page that makes videos from sentences, for a Space or at home: pip install gradio, then run it.

FV_MODEL names the model: a shipped one, a folder, or hf:OWNER/NAME.
"""

import os
import tempfile
from pathlib import Path

from fv_jax import Generator, Options
from fv_jax.media.writers import save_clip

GENERATOR = Generator.load(os.environ.get("FV_MODEL", "shapes"))
EXAMPLE = "a small red circle moves left over stripes"


def video(prompt: str, seed: float, guidance: float) -> str:
    """The path of an mp4 of a sentence."""
    options = Options(guidance=guidance)
    (clip,) = GENERATOR.generate([prompt], seed=int(seed), options=options)
    path = Path(tempfile.mkdtemp()) / "video.mp4"
    save_clip(clip, path, scale=4)
    return str(path)


if __name__ == "__main__":
    import gradio

    words = " ".join(GENERATOR.model.text.words[:60])
    inputs = [gradio.Textbox(EXAMPLE, label="Sentence"), gradio.Number(0, label="Seed"),
              gradio.Slider(1, 4, 1.5, label="Guidance")]  # fmt: skip
    gradio.Interface(video, inputs, "video", title="Text to video", description=words).launch()
