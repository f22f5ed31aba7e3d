"""FlashVideo in JAX: text to video by a RetNet over image tokens (arXiv:2401.00869).

    text ----> text ids --.
    frames --> frame ids --+-> packed sequence ---> RetNet ---> next-token logits over frame codes
                              [text | SN_k | frame k] ...   parallel / chunkwise (training),
                                                            recurrent (sampling)

    sample:  text (+ first frames) -> key frames -> recursive interpolation -> ids -> pixels
                                                    (skip mask: inherit what does not change)

Where to read:  vocab, sequence      the packed sequence and its serial numbers
                tokenizers           text and frames to ids and back
                ops, models          retention in three forms, the network around it
                sampling             window decoding, guesses, policies
                interpolation        skip mask, recursive filling
                generate, stream     all of the above in one page; without end
                data, training       how a network comes about

Dimension key:  B rows, T tokens, D width, H heads, K / E key / value channels of a head,
                N layers, V vocabulary, M frames, P ids of a frame, h w id grid, Y X pixels
"""

from etils import epy

from fv_jax.config.model import Options

with epy.lazy_api_imports(globals()):
    from fv_jax.generation.generator import Generator
    from fv_jax.media.clip import Clip

__version__ = "0.1.0"

__all__ = ["Clip", "Generator", "Options", "__version__"]
