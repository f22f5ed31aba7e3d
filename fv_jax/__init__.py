"""FlashVideo in JAX: text to video by a RetNet over image tokens (arXiv:2401.00869).

    text ----> text ids --.
    frames --> frame ids --+-> packed sequence ---> RetNet ---> next-token logits over frame codes
                              [text | SN_k | frame k] ...   parallel / chunkwise (training),
                                                            recurrent (sampling)

    sample:  text (+ first frames) -> key frames -> recursive interpolation -> ids -> pixels
                                                    (skip mask: inherit what does not change)

Where to read:  sequence        the packed sequence, its serial numbers and its id space
                tokenizers      text and frames to ids and back
                ops, models     retention in three forms, the network around it
                generation      a checked plan, key frames, skip mask, interpolation, window
                                decoding, streams; `generator.py` has all of it on one page
                data, training  how a network comes about
                array_types     what the letters in shapes mean

The floors and the walk of a prompt through them: docs/architecture.md.
"""

from etils import epy

from fv_jax.config.model import Options

with epy.lazy_api_imports(globals()):
    from fv_jax.generation.generator import Generator
    from fv_jax.media.clip import Clip

__version__ = "0.1.0"

__all__ = ["Clip", "Generator", "Options", "__version__"]
