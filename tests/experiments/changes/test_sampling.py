"""Step by step as all at once; a seed's video is its own."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from experiments.changes.network import WAYS, KeyFrameNetwork, nats
from experiments.changes.rows import coded
from experiments.changes.sampling import sample
from fv_jax.config.model import RetNetConfig, SequenceConfig
from fv_jax.generation.policies import Sampling
from fv_jax.generation.sampler import Sampler

SEQUENCE = SequenceConfig(text_tokens=3, frame_grid=(3, 4), text_vocabulary=5, frame_codes=6)
CONFIG = RetNetConfig(
    width=24, layers=2, heads=2, value_width=48, hidden=32, angles="even", slots=SEQUENCE.stride,
    code_levels=(2, 3),
)  # fmt: skip
TEXT = np.asarray([[2, 2, 2], [2, 3, 0], [4, 0, 0]], np.int32)
GIVEN = (np.arange(36).reshape(3, 12) % 6).astype(np.int32)


def made(way, rows=slice(None), given=None, window=1):
    model = tiny.randomised(lambda: KeyFrameNetwork(CONFIG, SEQUENCE, way, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(model)
    sampler = Sampler(SEQUENCE, Sampling(1.0), window)
    given = None if given is None else given[rows]
    params = nnx.to_pure_dict(state)
    return model, sample(
        params, graph, sampler, TEXT[rows], [5, 6, 7][rows], key_frames=3, given=given
    )


@pytest.mark.parametrize("given", [None, GIVEN], ids=["", "first given"])
def test_samples_cost_alike_step_by_step_and_at_once(dtype, given):
    model, videos = made("changes", given=given)
    row = coded(TEXT, videos.frames, SEQUENCE)
    ids, places = nats(model, {"text": TEXT, "frames": videos.frames, **vars(row)})
    first = 0 if given is None else 1
    at_once = (ids + places)[:, first:].sum(1)
    np.testing.assert_allclose(
        videos.nats, at_once, rtol=0, atol=1e-9 if dtype == "float64" else 1e-4
    )
    np.testing.assert_array_equal(videos.fed, row.length - 1)
    if given is not None:
        np.testing.assert_array_equal(videos.frames[:, 0], given)


@pytest.mark.parametrize("way", WAYS)
def test_a_seed_has_its_video_in_any_batch_and_window(way):
    together, alone = made(way)[1], made(way, slice(1, 2))[1]
    np.testing.assert_array_equal(together.frames[1:2], alone.frames)
    assert (together.frames[0] != together.frames[1]).any()
    if way != "changes":
        wide = made(way, window=5)[1]
        np.testing.assert_array_equal(wide.frames, together.frames)
        assert wide.steps < together.steps


def test_steps_are_changes_of_the_row_with_the_most():
    _, videos = made("changes")
    changes = (videos.frames[:, 1:] != videos.frames[:, :-1]).sum((1, 2))
    assert changes.any()
    assert videos.steps >= 1 + SEQUENCE.frame_tokens + 2 + changes.max()
    assert jnp.all(videos.fed == 3 * SEQUENCE.header + SEQUENCE.frame_tokens + changes - 1)
