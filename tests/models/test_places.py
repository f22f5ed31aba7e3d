"""The head that says where a frame changes next."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.models.nearby import NEVER
from fv_jax.models.places import PlaceHead, change_logits

CONFIG = dataclasses.replace(tiny.NETWORK, nearby=3, places=5)


def head(make=tiny.randomised):
    return make(lambda: PlaceHead(CONFIG, rngs=nnx.Rngs(0)))


def test_odds_of_a_place_are_its_own_against_all_beyond():
    scores = np.random.default_rng(0).normal(size=(3, 6))
    odds = np.asarray(change_logits(jnp.asarray(scores, jnp.float32)))
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    for place in range(5):
        beyond = p[:, place + 1 :].sum(-1)
        np.testing.assert_allclose(odds[:, place], np.log(p[:, place] / beyond), rtol=1e-4)
    # The first place that says yes is drawn from softmax(scores).
    yes = 1 / (1 + np.exp(-odds))
    first = yes * np.cumprod(np.pad(1 - yes, ((0, 0), (1, 0)), constant_values=1), axis=1)[:, :-1]
    np.testing.assert_allclose(first, p[:, :5], rtol=1e-4)


def test_odds_of_many_places_keep_their_precision_however_far_scores_lie_apart():
    scores = np.random.default_rng(0).normal(scale=60, size=(2, 401))
    odds = np.asarray(change_logits(jnp.asarray(scores, jnp.float32)))
    for place in range(400):
        beyond = np.logaddexp.reduce(scores[:, place + 1 :], axis=1)
        np.testing.assert_allclose(odds[:, place], scores[:, place] - beyond, atol=1e-3)


def test_only_places_beyond_the_last_one_and_the_end_can_follow():
    scores = head().beyond(jnp.zeros((3, 6)), jnp.zeros((3, 5)), jnp.asarray([-1, 2, 4]))
    assert ((scores > NEVER).sum(axis=1) == jnp.asarray([6, 3, 1])).all()
    assert (scores[:, -1] > NEVER).all()


def test_at_first_all_places_are_alike():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    fresh = head(lambda make: make())
    scores, query = fresh.after(draw(2, 16), draw(2, 16))
    assert not scores.any()
    assert not query.any()
    some = head().after(draw(2, 16), draw(2, 16))
    assert all(part.any() for part in some)


def test_places_are_found_by_what_stands_around_them():
    model = tiny.retnet(CONFIG)
    nearby, places = model.tables().nearby, head()
    around = jnp.asarray(np.random.default_rng(1).integers(12, size=(5, 18)), jnp.int32)
    keys = places.keys(nearby, around)
    swapped = places.keys(nearby, around[::-1])
    np.testing.assert_allclose(keys, swapped[::-1], rtol=1e-5)
    assert len(np.unique(np.asarray(keys), axis=0)) == 5


def test_places_need_the_ids_nearby():
    with pytest.raises(ValueError, match=r"RetNetConfig.places needs nearby above 0"):
        dataclasses.replace(CONFIG, nearby=0)


def test_the_bases_id_is_never_the_one_that_changes():
    model = tiny.retnet(CONFIG)
    hidden = jnp.ones((1, 16))
    nearby = jnp.full((1, 18), -1).at[0, 4].set(7)
    logits = model.logits(hidden, nearby)
    assert logits[0, 7] == NEVER
    assert (jnp.delete(logits[0], 7) > NEVER).all()
    assert jnp.isfinite(jax.grad(lambda x: model.logits(x, nearby)[0, 1])(hidden)).all()
