"""Window decoding: one result for every window, guess and batch; exact probabilities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import SequenceConfig
from fv_jax.generation import drafts
from fv_jax.generation.engine import feed
from fv_jax.generation.policies import Sampling, position_noise
from fv_jax.generation.sampler import DecodeState, Sampler, decode, start
from fv_jax.sequence.nearby import codes_nearby, neighbors
from fv_jax.sequence.skipping import compact
from fv_jax.sequence.vocab import FREE, PAD, Vocab

SEQUENCE = SequenceConfig(
    text_tokens=3, frame_grid=(1, 5), text_vocabulary=20, frame_codes=12, serial_numbers=7
)
STRIDE, HEADER, START = SEQUENCE.stride, 4, Vocab(SEQUENCE).frame_start
M, B = 4, 2  # blocks, rows
GREEDY, SAMPLED = Sampling(temperature=0.0), Sampling(temperature=1.0, top_k=8, top_p=0.95)
SEEDS = [(11, 0), (12, 0)]


def make(equal_logits=False, nearby=0):
    """A network of the test's own float type."""
    config = dataclasses.replace(tiny.NETWORK, nearby=nearby)
    network = tiny.retnet(config, Vocab(SEQUENCE).size, SEQUENCE.frame_codes)
    if equal_logits:
        for head in (network.head, network.level_head):
            head[...] = jnp.zeros_like(head[...])
    return network


def inputs(known=1, blocks=M, rows=B, seed=0):
    """Tokens [rows, L] whose frames are FREE after the first `known` ones."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, START, size=(B, M, STRIDE))
    tokens[:, :known, HEADER:] = rng.integers(START, START + 12, size=(B, known, 5))
    tokens[:, known:, HEADER:] = FREE
    return tokens[:rows, :blocks].reshape(rows, -1).astype(np.int32)


def around(tokens):
    """The places that each place knows, as if all blocks were key frames."""
    return jnp.asarray(neighbors(range(tokens.shape[1] // STRIDE), SEQUENCE))


def run(
    tokens, policy=SAMPLED, *, network=None, window=1, guesses=None, seeds=SEEDS, guidance=1.0,
    buffer=0, **more,
):  # fmt: skip
    """Tokens, the state after, counts."""
    network = make() if network is None else network
    graph, params = nnx.split(network)
    sampler = Sampler(SEQUENCE, policy, window, guidance, buffer)
    state = more.pop("state", None) or start(network, sampler, seeds[: len(tokens)])
    if guesses is None:
        guesses = drafts.previous_frame(tokens.shape[1] // STRIDE, SEQUENCE)
    tokens, state, counts = decode(
        params, state, jnp.asarray(tokens), jnp.asarray(guesses), more.pop("feed", None),
        around(tokens) if network.config.nearby else None,
        graph=graph, sampler=sampler, **more,
    )  # fmt: skip
    return np.asarray(tokens), state, counts


def as_trained(tokens, following=None):
    """The codes nearby what follows each token, of whole rows or of what is left of them."""
    places = np.pad(around(tokens), ((0, 1), (0, 0)), constant_values=-1)
    if following is None:
        following = np.broadcast_to(np.arange(1, tokens.shape[1] + 1), tokens.shape)
    rows = zip(tokens, np.minimum(following, tokens.shape[1]))
    return jnp.asarray([codes_nearby(row, places[at], START) for row, at in rows])


def free(tokens):
    return np.asarray(tokens) == FREE


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("nearby", [0, 3])
@pytest.mark.parametrize(("known", "prefix", "window"), [(1, STRIDE, 1), (1, STRIDE, 4), (0, 0, 3)])
def test_greedy_decoding_takes_the_parallel_forms_likeliest_codes(known, prefix, window, nearby):
    given, network = inputs(known), make(nearby=nearby)
    tokens, state, _ = run(given, GREEDY, network=network, window=window, prefix=prefix)
    assert len(np.unique(tokens[free(given)])) > 2
    seen = as_trained(tokens) if nearby else None
    hidden = network.parallel(jnp.asarray(tokens), nearby=seen)
    likeliest = network.logits(hidden, seen).argmax(-1) + START
    np.testing.assert_array_equal(tokens[:, 1:][free(given)[:, 1:]],
                                  likeliest[:, :-1][free(given)[:, 1:]])  # fmt: skip
    assert (state.net.position == tokens.shape[1]).all()
    _, want = network.chunkwise(jnp.asarray(tokens), network.init_state(B), nearby=seen)
    tiny.assert_close(state.net.retention, want.retention, "float64")


@pytest.mark.parametrize("nearby", [0, 3])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_window_guesses_and_batch_change_nothing(guidance, nearby):
    given, network = inputs(), make(nearby=nearby)
    given[0, STRIDE * 2 + 6] = START + 3  # rows differ in what is forced
    plain = run(given, network=network, guidance=guidance)[0]
    rng = np.random.default_rng(3)
    places = np.arange(given.shape[1])
    anything = np.where(places > 0, rng.integers(0, np.maximum(places, 1)), -1).astype(np.int32)
    for window, rows, buffer in ((2, B, 0), (4, 1, 10), (STRIDE, B, STRIDE)):
        for guesses in (None, anything, np.full_like(anything, -1)):
            tokens, state, _ = run(
                given[:rows], network=network, window=window, guesses=guesses, guidance=guidance,
                buffer=buffer,
            )  # fmt: skip
            np.testing.assert_array_equal(tokens, plain[:rows])
            assert (state.net.position == given.shape[1]).all()


@pytest.mark.parametrize("grid", [(5, 1), (2, 3)])
def test_guesses_in_the_first_frame_change_nothing(grid):
    layout = dataclasses.replace(SEQUENCE, frame_grid=grid)
    given = np.ones((B, layout.stride), np.int32)
    given[:, HEADER:] = FREE
    guesses = drafts.previous_frame(1, layout)
    network = tiny.retnet(vocabulary=Vocab(layout).size, codes=layout.frame_codes)
    graph, params = nnx.split(network)
    made = []
    for window in (1, 3, layout.stride):
        sampler = Sampler(layout, SAMPLED, window)
        state = start(network, sampler, SEEDS)
        tokens, _, counts = decode(
            params, state, jnp.asarray(given), jnp.asarray(guesses), graph=graph, sampler=sampler
        )
        made.append(np.asarray(tokens))
        assert (window > 1) == bool(counts.drafted.any())
    np.testing.assert_array_equal(made[1], made[0])
    np.testing.assert_array_equal(made[2], made[0])


def test_given_tokens_stay_and_the_others_follow_them():
    plain = run(inputs())[0]
    given = inputs()
    fix = free(given) & (np.random.default_rng(1).uniform(size=given.shape) < 0.5)
    given[fix] = np.random.default_rng(2).integers(START, START + 12, size=fix.sum())
    tokens = run(given, window=3)[0]
    np.testing.assert_array_equal(tokens[~free(given)], given[~free(given)])
    codes = tokens[free(given)] - START
    assert ((codes >= 0) & (codes < SEQUENCE.frame_codes)).all()
    assert (tokens != plain)[free(given)].any()


def test_forcing_what_would_have_been_chosen_changes_nothing():
    given = inputs()
    plain = run(given)[0]
    half = np.where(np.arange(given.shape[1]) % 2 == 0, plain, given)
    np.testing.assert_array_equal(run(half, window=3)[0], plain)


@pytest.mark.parametrize("window", [1, 4, STRIDE])
def test_known_tokens_are_read_a_window_at_a_time(window):
    given = run(inputs())[0]
    tokens, state, counts = run(given, window=window)
    np.testing.assert_array_equal(tokens, given)
    assert counts.steps == -(-given.shape[1] // window)
    assert not counts.drafted.any()
    network = make()
    _, want = network.chunkwise(jnp.asarray(given), network.init_state(B))
    tiny.assert_close(state.net.retention, want.retention, "float32")


def test_right_guesses_are_accepted_and_counted():
    network = make(equal_logits=True)  # greedy then always takes code 0
    given = inputs()
    given[:, HEADER:STRIDE] = START
    _, _, counts = run(given, GREEDY, network=network, window=STRIDE)
    assert counts.steps == M
    nothing = drafts.nothing(M, SEQUENCE)
    _, _, without = run(given, GREEDY, network=network, window=STRIDE, guesses=nothing)
    assert without.steps == 1 + (M - 1) * 5 + 1  # the known block, each id, the last one's turn
    assert not without.drafted.any()
    np.testing.assert_array_equal(counts.drafted, [(M - 1) * 5] * B)
    np.testing.assert_array_equal(counts.accepted, counts.drafted)
    given[:, HEADER:STRIDE] = START + 1  # every guess for the second block is wrong
    _, _, counts = run(given, GREEDY, network=network, window=STRIDE)
    # Beyond the first wrong one, what the same window sampled is the guess, and right.
    np.testing.assert_array_equal(counts.drafted - counts.accepted, [1] * B)


def test_a_seed_gives_the_same_tokens_whatever_batch_it_shares():
    given = inputs()
    both = run(given)[0]
    swapped = run(given[::-1], seeds=SEEDS[::-1], window=3)[0]
    np.testing.assert_array_equal(swapped[::-1], both)
    other = run(given, seeds=[(13, 0), SEEDS[1]])[0]
    np.testing.assert_array_equal(other[1], both[1])
    assert (other[0] != both[0]).any()


@pytest.mark.parametrize("seed", [(11, 1), (11,), (11, 0, 0)])
def test_every_number_of_a_seed_counts(seed):
    first = run(inputs())[0]
    other = run(inputs(), seeds=[seed, SEEDS[1]])[0]
    assert (other[0] != first[0]).any()


@pytest.mark.parametrize("window", [1, 4])
def test_the_draw_at_a_position_uses_the_seeds_noise_for_that_position(window):
    # With all logits equal, the largest noise wins.
    given = inputs()
    tokens = run(given, Sampling(), network=make(equal_logits=True), window=window)[0]
    positions = np.flatnonzero(free(given)[0])
    for row, (seed, stage) in enumerate(SEEDS):
        key = jax.random.fold_in(jax.random.key(seed), stage)
        noise = position_noise(jnp.stack([key] * len(positions)), jnp.asarray(positions), 12)
        np.testing.assert_array_equal(tokens[row, positions] - START, noise.argmax(-1))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_two_calls_that_carry_the_state_equal_one(guidance):
    given = inputs()
    whole, end, _ = run(given, window=3, guidance=guidance)
    first, state, _ = run(given[:, : 2 * STRIDE], window=3, guidance=guidance)
    rest = np.concatenate([first[:, STRIDE:], given[:, 2 * STRIDE :]], axis=1)
    rest, state, _ = run(rest, window=4, state=state, read=STRIDE, guidance=guidance)
    np.testing.assert_array_equal(np.concatenate([first, rest[:, STRIDE:]], axis=1), whole)
    np.testing.assert_array_equal(state.net.position, end.net.position)
    tiny.assert_close(state.net.retention, end.net.retention, "float32")


@pytest.mark.usefixtures("x64")
def test_guidance_moves_away_from_what_is_likely_without_the_text():
    given = inputs()
    tokens = run(given, GREEDY, window=4, guidance=3.0)[0]
    text = np.arange(given.shape[1]) % STRIDE < SEQUENCE.text_tokens
    network = make()
    read = lambda x: np.asarray(network.logits(network.parallel(jnp.asarray(x))))
    with_text, without = read(tokens), read(np.where(text, PAD, tokens))
    likeliest = (without + 3.0 * (with_text - without)).argmax(-1) + START
    open_ = free(given)[:, 1:]
    np.testing.assert_array_equal(tokens[:, 1:][open_], likeliest[:, :-1][open_])
    assert (tokens != run(given, GREEDY)[0]).any()


def chi_square_limit(freedom: int) -> float:
    """The 0.999 quantile, by Wilson and Hilferty."""
    return freedom * (1 - 2 / (9 * freedom) + 3.0902 * (2 / (9 * freedom)) ** 0.5) ** 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy", [Sampling(temperature=1.3), Sampling(top_k=5), Sampling(top_p=0.8)]
)
@pytest.mark.parametrize("window", [1, 4])
def test_samples_have_the_models_probabilities(policy, window):
    rows = 50_000
    first, second = two_ids(rows, policy, window, make())
    expected = np.zeros((12, 12))
    both = np.repeat(two_open(1), 12, axis=0)
    both[:, STRIDE + HEADER] = START + np.arange(12)
    network = make()
    logits = network.logits(network.parallel(jnp.asarray(both)))
    chances = lambda x: np.asarray(jax.nn.softmax(policy.filter(x / policy.temperature)))
    place = STRIDE + HEADER
    expected = chances(logits[:1, place - 1]).T * chances(logits[:, place])
    seen = np.zeros((12, 12))
    np.add.at(seen, (first, second), 1)
    assert not seen[expected == 0].any()
    # Pearson's statistic; cells that expect fewer than 5 are taken together.
    large = expected * rows >= 5
    e = np.append(expected[large], max(expected[~large].sum(), 1e-12)) * rows
    o = np.append(seen[large], seen[~large].sum())
    used = e >= 5
    statistic, freedom = ((o - e)[used] ** 2 / e[used]).sum(), used.sum() - 1
    assert statistic < chi_square_limit(freedom)


def test_in_bfloat16_windows_and_batches_have_one_distribution():
    """Ids may change with the window and the batch there; what they are drawn from may not."""
    config = dataclasses.replace(tiny.NETWORK, matmul_dtype="bfloat16")
    network = tiny.retnet(config, vocabulary=Vocab(SEQUENCE).size, codes=SEQUENCE.frame_codes)
    rows = 4_000
    ways = [(1, rows), (4, rows), (4, rows // 4)]  # window, rows of a batch
    counts = np.zeros((len(ways), 12, 12))
    for way, (window, batch) in enumerate(ways):
        for first in range(0, rows, batch):
            chosen = two_ids(batch, Sampling(), window, network, seed=rows * way + first)
            np.add.at(counts[way], chosen, 1)
    # Homogeneity of several samples: what each cell should hold follows from all of them.
    together = counts.reshape(len(ways), -1)
    large = together.sum(0) >= 15
    cells = np.concatenate([together[:, large], together[:, ~large].sum(1, keepdims=True)], axis=1)
    cells = cells[:, cells.sum(0) > 0]
    expected = cells.sum(0) * rows / cells.sum()
    statistic = ((cells - expected) ** 2 / expected).sum()
    assert cells.shape[1] > 10
    assert statistic < chi_square_limit((len(ways) - 1) * (cells.shape[1] - 1))


def two_open(rows):
    """Rows of two frames in whose second one two ids are open."""
    given = np.repeat(inputs()[:1, : 2 * STRIDE], rows, axis=0)
    given[:, STRIDE + HEADER + 2 :] = START
    return given


def two_ids(rows, policy, window, network, seed=5):
    """What is sampled for the two ids of `two_open`, each row with a key of its own."""
    state = DecodeState(network.init_state(rows), jax.random.split(jax.random.key(seed), rows))
    tokens = run(two_open(rows), policy, window=window, state=state, network=network)[0]
    return tuple(tokens[:, STRIDE + HEADER + i] - START for i in range(2))


@dataclasses.dataclass(frozen=True)
class Counting(Sampling):
    """Greedy, and counts how often it is traced."""

    traces = []  # noqa: RUF012 - shared by all on purpose

    def __call__(self, logits, noise):
        self.traces.append(logits.shape)
        return super().__call__(logits, noise)


def test_one_trace_serves_every_call_of_a_shape():
    policy = Counting(temperature=0.0)
    first = run(inputs(), policy, window=3)[0]
    traces = len(policy.traces)
    assert traces > 0
    second = run(inputs(known=2, seed=5), policy, window=3, seeds=[(1, 2), (3, 4)])[0]
    assert (first != second).any()
    run(inputs(), policy, window=3, guesses=drafts.nothing(M, SEQUENCE))
    assert len(policy.traces) == traces
    run(inputs(blocks=2), policy, window=3)  # another shape
    assert len(policy.traces) > traces


def test_the_state_is_donated():
    before = start(make(), Sampler(SEQUENCE), SEEDS)
    _, after, _ = run(inputs(), state=before)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


@pytest.mark.parametrize("window", [1, 3])
def test_a_step_does_not_copy_the_state(window):
    network = make()
    graph, params = nnx.split(network)
    sampler = Sampler(SEQUENCE, SAMPLED, window)
    state = start(network, sampler, SEEDS)
    guesses = drafts.previous_frame(M, SEQUENCE)
    compiled = decode.lower(
        params, state, inputs(), guesses, graph=graph, sampler=sampler
    ).compile()  # fmt: skip
    assert tiny.copies_in_loops(compiled.as_text(), state.net.retention.shape[1:]) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 0}, "window must be in 1..9, got 0"),
        ({"window": 10}, "window must be in 1..9, got 10"),
        ({"guidance": -1.0}, "guidance must be >= 0"),
        ({"window": 4, "buffer": 3}, "buffer must be 0 or >= window=4, got 3"),
    ],
)
def test_samplers_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sampler(SEQUENCE, **wrong)


def lacking(shares=(0.0, 0.3, 0.7, 1.0), whole=2, seed=0):
    """Tokens after two known frames, and which of them are left out: a share a row."""
    rng = np.random.default_rng(seed)
    rows = len(shares)
    tokens = rng.integers(1, START, size=(rows, M, STRIDE))
    tokens[:, :2, HEADER:] = rng.integers(START, START + 12, size=(rows, 2, 5))
    left_out = np.zeros((rows, M, STRIDE), bool)
    left_out[:, whole:, HEADER:] = (
        rng.uniform(size=(rows, M - whole, 5)) < np.asarray(shares)[:, None, None]
    )
    ids = np.where(left_out[:, 2:, HEADER:], tokens[:, :1, HEADER:], FREE)
    tokens[:, 2:, HEADER:] = ids
    return tokens.reshape(rows, -1).astype(np.int32), left_out.reshape(rows, -1)


FOUR = [(11, 0), (12, 0), (13, 0), (14, 0)]


def run_without(tokens, left_out, policy=SAMPLED, rows=slice(None), **more):
    places, fed, prefix = feed(tokens[rows], left_out[rows], STRIDE)
    places = jax.tree.map(jnp.asarray, places)
    made, _, counts = run(
        tokens[rows], policy, seeds=FOUR[rows], feed=places, prefix=prefix, **more
    )
    return made, counts, fed


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("whole", [1, 2])
@pytest.mark.parametrize("nearby", [0, 3])
def test_ids_that_are_fed_are_what_the_network_predicts_without_the_others(whole, window, nearby):
    (given, left_out), network = lacking(whole=whole), make(nearby=nearby)
    made, _, _ = run_without(given, left_out, GREEDY, window=window, network=network)
    np.testing.assert_array_equal(made[~free(given)], given[~free(given)])
    assert len(np.unique(made[free(given)])) > 2
    few = compact(made, left_out, made.shape[1])
    seen = as_trained(made, few.positions[:, 1:]) if nearby else None
    hidden, _ = network.chunkwise(
        jnp.asarray(few.tokens), network.init_state(4), jnp.asarray(few.length),
        jnp.asarray(few.positions), seen,
    )  # fmt: skip
    likeliest = np.asarray(network.logits(hidden, seen).argmax(-1)) + START
    for row in range(4):
        for i in range(few.length[row] - 1):
            place = few.positions[row, i + 1]
            if given[row, place] == FREE:
                assert made[row, place] == likeliest[row, i]


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize(("whole", "nearby"), [(1, 0), (2, 0), (1, 3)])
def test_windows_guesses_and_batch_change_nothing_where_ids_are_left_out(whole, nearby, guidance):
    (given, left_out), network = lacking(whole=whole), make(nearby=nearby)
    plain, counts, _ = run_without(given, left_out, guidance=guidance, network=network)
    assert not (plain == FREE).any()
    guesses = drafts.neighboring_frame(2, SEQUENCE)
    for window, rows, buffer in (
        (3, slice(None), 0), (STRIDE, slice(None), STRIDE), (4, slice(1, 2), 10), (1, slice(3), 0),
    ):  # fmt: skip
        for some in (guesses, np.full_like(guesses, -1)):
            made, fewer, _ = run_without(
                given, left_out, rows=rows, window=window, guesses=some, guidance=guidance,
                buffer=buffer, network=network,
            )  # fmt: skip
            np.testing.assert_array_equal(made, plain[rows])
            assert int(fewer.steps) <= int(counts.steps)


def test_a_place_draws_the_same_noise_whatever_is_left_out_before_it():
    """A network without preferences chooses by the noise alone."""
    given, left_out = lacking()
    network = make(equal_logits=True)
    fed = run(given, Sampling(), network=network, seeds=FOUR)[0]
    skipped, _, _ = run_without(given, left_out, Sampling(), network=network)
    np.testing.assert_array_equal(skipped, fed)


def test_steps_and_fed_tokens_are_those_of_what_is_left():
    given, left_out = lacking()
    _, counts, fed = run_without(given, left_out)
    kept = lambda row, end: int((~left_out[row, :end]).sum())
    ids = [np.flatnonzero(row) for row in free(given)]
    assert fed == sum(kept(row, at[-1]) for row, at in enumerate(ids) if at.size)
    # What stands before the first id to be sampled is read at once, but for the token beside it.
    steps = [kept(row, at[-1]) - kept(row, at[0]) + 1 for row, at in enumerate(ids) if at.size]
    assert int(counts.steps) == max(steps)
    # Where nothing is left to be sampled nothing is read.
    _, counts, fed = run_without(given, left_out, rows=slice(3, 4))
    assert (int(counts.steps), fed) == (0, 0)


def test_rows_of_any_lengths_are_one_program():
    compiled = set()
    for seed in range(3):
        given, left_out = lacking(seed=seed)
        run_without(given, left_out, window=3)
        compiled.add(decode._cache_size())
    assert len(compiled) == 1
