from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games

N = 4
RNG = np.random.default_rng(7)
Q = RNG.dirichlet(np.ones(3), N) * 0.9
K = np.array([0.5, 1.0, 2.0, 3.0])
S = np.array([3.0, 1.0, 7.5, 1.25])
ORDER = np.array([2, 0, 3, 1])
SIZES = np.array([0.0, 5.0, 20.0])

PAYOFFS = {  # the family with its agents in the order `o`
    "power law": lambda o: games.PowerLaw(8.0, K[o], 0.5 + K[o] / 4, 2.0),
    "bound": lambda o: games.GeneralizationBound(2.0, K[o]),
    "measured": lambda o: games.MeasuredCurve(
        SIZES, np.array([0, 0.75, 1.6875])[None] * K[o, None], np.array([0.2, 0.1, 0.025])[None] * K[o, None]
    ),
    "any function of S": lambda o: games.TotalPayoff(jnp.log1p),
    "discovery": lambda o: games.RandomDiscovery(Q[o]),
    "coverage": lambda o: games.RandomCoverage(Q[o]),
    "linear": lambda o: games.LinearPayoff((Q @ Q.T + np.diag(K))[np.ix_(o, o)]),
}


class Look(NamedTuple):
    utilities: jax.Array  # [n]
    payoff_values: jax.Array  # [n]
    own_gradient: jax.Array  # [n]
    jacobian: jax.Array  # [n, n]


@jax.jit
def look(game, s):
    """Everything with one compilation."""
    return Look(
        games.utilities(game, s),
        games.payoff_values(game, s),
        games.own_gradient(game, s),
        games.jacobian(game, s),
    )


def make(name, order=tuple(range(N))):
    order = np.asarray(order)
    if name == "measured":  # shared sizes are not one per agent: repeat them
        curve = PAYOFFS[name](order)
        payoff = curve.replace(sizes=np.tile(SIZES, (N, 1)))
    else:
        payoff = PAYOFFS[name](order)
    cost = games.PowerCost(K[order] / 100, 2.0)
    return games.check(games.Game(payoff, cost, 100 + K[order], 1 + K[order], np.ones(N)))


@pytest.mark.parametrize("name", PAYOFFS)
def test_permuting_agents_permutes_the_answers(name):
    found = look(make(name, ORDER), S[ORDER])
    for field, expected in look(make(name), S)._asdict().items():
        expected = np.asarray(expected)[ORDER]
        expected = expected[:, ORDER] if expected.ndim == 2 else expected
        np.testing.assert_allclose(getattr(found, field), expected, rtol=1e-12, atol=1e-15, err_msg=field)


@pytest.mark.parametrize("name", PAYOFFS)
def test_vmap_over_a_batch_of_games_is_a_loop(name):
    batch = [make(name, order) for order in (np.arange(N), ORDER, ORDER[::-1])]
    profiles = RNG.uniform(0, 9, (3, N))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batch)
    together = jax.jit(jax.vmap(look))(stacked, profiles)
    alone = [look(game, s) for game, s in zip(batch, profiles, strict=True)]
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    chex.assert_trees_all_close(together, alone, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("shared", "repeated"),
    [
        (games.PowerLaw(8.0, 2.0, 0.5, 1.0), games.PowerLaw(*np.full((4, N), [[8.0], [2.0], [0.5], [1.0]]))),
        (games.GeneralizationBound(2.0, 2.0), games.GeneralizationBound([2.0] * N, [2.0] * N)),
        (
            games.MeasuredCurve(SIZES, [0, 0.75, 1.6875], [0.2, 0.1, 0.025]),
            games.MeasuredCurve([SIZES] * N, [[0, 0.75, 1.6875]] * N, [[0.2, 0.1, 0.025]] * N),
        ),
        (games.RandomDiscovery([0.1, 0.2, 0.3, 0.4]), games.RandomDiscovery([[0.1, 0.2, 0.3, 0.4]] * N)),
        (games.RandomCoverage([0.1, 0.2, 0.3]), games.RandomCoverage([[0.1, 0.2, 0.3]] * N)),
    ],
)
def test_a_shared_parameter_is_the_same_one_for_every_agent(shared, repeated):
    cost, two, one = games.LinearCost([0.1] * N), [2.0] * N, [1.0] * N
    for_all = games.check(games.Game(shared, games.LinearCost(0.1), [100.0] * N, value=2.0))
    for_each = games.check(games.Game(repeated, cost, [100.0] * N, value=two, quality=one))
    chex.assert_trees_all_close(look(for_all, S), look(for_each, S), rtol=1e-14)


def test_the_jacobian_of_a_game_of_the_total_is_known():
    """a_i = 8 - k_i (2 + S)^-x_i has a_i'' = -k_i x_i (x_i + 1) (2 + S)^(-x_i - 2); costs are c_i s_i²."""
    x, data = 0.5 + K / 4, 2 + S.sum()
    second = -(1 + K) * K * x * (x + 1) * data ** (-x - 2)
    expected = np.tile(second[:, None], (1, N)) - np.diag(2 * K / 100)
    np.testing.assert_allclose(look(make("power law"), S).jacobian, expected, rtol=1e-12)


def test_check_makes_arrays_of_lists_and_keeps_what_is_not_a_number():
    payoff = games.PowerLaw([1, 2], 1, 0.5, clip=False)
    game = games.check(games.Game(payoff, games.LinearCost([1, 2]), [3, 4], value=[5, 6]))
    leaves = jax.tree.leaves(game)
    assert all(isinstance(x, jax.Array) and x.dtype == float for x in leaves)
    assert game.payoff.best.tolist() == [1, 2]
    assert game.payoff.scale.shape == game.cost.fixed.shape == ()
    assert (game.cost.rate.tolist(), game.capacity.tolist(), game.value.tolist()) == ([1, 2], [3, 4], [5, 6])
    assert game.payoff.clip is False
    assert game.n == 2
    again = games.check(game)
    chex.assert_trees_all_equal(game, again)
    assert games.check(game.replace(payoff=games.TotalPayoff(jnp.log1p))).payoff.fn is jnp.log1p


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": [[1.0, 2.0]]}, "`capacity` must be a vector"),
        ({"value": [1.0, 2.0, 3.0]}, r"`value` must be shared or .* 2 agents, got shape \(3,\)"),
        ({"value": -1.0}, "`value` must be a number, at least 0"),
        ({"cost": games.LinearCost(1.0, [0.0, -0.1])}, "`fixed` must be a number, at least 0"),
        ({"cost": games.LinearCost([[1.0, 2.0]])}, r"`rate` must be shared or .*, got shape \(1, 2\)"),
        ({"cost": games.PowerCost([1.0, np.nan], 2.0)}, "`rate` must be finite"),
        ({"cost": games.PowerCost(1.0, [2.0, 0.9])}, "`exponent` must be a number, at least 1, got"),
        (
            {"payoff": games.RandomCoverage([[0.2, 0.8], [0.0, 1.0]])},
            "`q` must be a number, at least 0 and less than 1, got",
        ),
        (
            {"payoff": games.RandomCoverage([[0.2, 0.8], [-0.1, 0.9]])},
            "`q` must be a number, at least 0 and less than 1",
        ),
        ({"payoff": games.MeasuredCurve([0, 1], [0, np.nan], [1, 0])}, "`accuracy` must be finite"),
        (
            {"payoff": games.GeneralizationBound(0.95, [1.0, -1.0])},
            "`difficulty` must be a number, greater than 0",
        ),
    ],
)
def test_check_names_what_is_out_of_range(changes, message):
    fields = {"payoff": games.PowerLaw(1.0, 1.0, 1.0), "cost": games.LinearCost(1.0), "capacity": [1.0, 2.0]}
    with pytest.raises(ValueError, match=message):
        games.check(games.Game(**fields | changes))


def test_whole_numbers_of_samples_have_the_same_gradients():
    game = make("power law")
    whole, real = look(game, np.array([3, 1, 7, 2])), look(game, np.array([3.0, 1, 7, 2]))
    np.testing.assert_array_equal(whole.own_gradient, real.own_gradient)
    np.testing.assert_array_equal(whole.jacobian, real.jacobian)


def test_quality_and_held_samples_against_the_direct_formula():
    """u_i = v_i (8 - k_i (2 + S₀ + Σ w_j s_j)^-x_i) - rate_i s_i²: the weights are in payoffs only."""
    x, w, v, held = 0.5 + K / 4, np.array([0.5, 1.0, 2.0, 3.0]), 1 + K, 7.0
    found = look(make("power law").replace(quality=w, held=np.asarray(held)), S)
    data = 2 + held + w @ S
    np.testing.assert_allclose(found.utilities, v * (8 - K * data**-x) - K / 100 * S**2, rtol=1e-13)
    first = v * w * K * x * data ** (-x - 1)
    np.testing.assert_allclose(found.own_gradient, first - 2 * K / 100 * S, rtol=1e-12)
    second = -(v * w * K * x * (x + 1) * data ** (-x - 2))[:, None] * w
    np.testing.assert_allclose(found.jacobian, second - np.diag(2 * K / 100), rtol=1e-12)
    for name in ("discovery", "coverage", "linear"):
        weighted, plain = look(make(name).replace(quality=w), S), look(make(name), w * S)
        np.testing.assert_allclose(weighted.payoff_values, plain.payoff_values, rtol=1e-13)
        costs = [jax.jit(games.incurred_costs)(x, S) for x in (make(name).replace(quality=w), make(name))]
        np.testing.assert_array_equal(*costs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quality": [1.0, 0.0]}, "`quality` must be a number, greater than 0"),
        ({"quality": [1.0] * 3}, "`quality` must be shared or"),
        ({"held": -1.0}, "`held` must be a number, at least 0"),
        ({"held": [1.0, 2.0]}, "`held` must be one number"),
        ({"held": np.inf}, "`held` must be finite"),
        ({"capacity": [1e308, 1e308]}, "`capacity` must be a number below 1e100"),
        ({"held": 1.0, "payoff": games.RandomCoverage([0.1, 0.2])}, "`held` .* needs a payoff of the total"),
        ({"payoff": games.LinearPayoff([[1.0, 2.0, 3.0]] * 2)}, "`w` must be a square matrix"),
        ({"payoff": games.GeneralizationBound(2.5, 1.0)}, "`best` must be at most 2"),
        ({"payoff": games.MeasuredCurve([0, 1, 2], [0, 1, 3], [1, 0.5, 0.1])}, "`accuracy` must rise"),
        (
            {"payoff": games.MeasuredCurve([0, 2, 1], [0, 1, 1], [1, 0, 0])},
            "`sizes` must be .*increase from 0",
        ),
        ({"payoff": games.MeasuredCurve([0, 1], [0, 1.5], [1, 2])}, "`slope` must not increase"),
    ],
)
def test_check_of_weights_held_samples_and_families(changes, message):
    fields = {"payoff": games.PowerLaw(1.0, 1.0, 1.0), "cost": games.LinearCost(1.0), "capacity": [1.0, 2.0]}
    with pytest.raises(ValueError, match=message):
        games.check(games.Game(**fields | changes))


@pytest.mark.parametrize(
    "payoff", [games.PowerLaw(1.0, 1.0, 0.5, 4.0), games.GeneralizationBound(0.95, 1.0)], ids=["(3)", "(2)"]
)
def test_a_total_that_is_not_a_number_has_no_payoff(payoff):
    """0 would hide it: clipped payoffs are 0 where there are too few samples, not where there is a NaN."""
    assert np.isnan(jax.jit(type(payoff).curve)(payoff, np.nan))


# Those who are left when others have gone

LEFT = np.array([0, 2, 3])
FUNCTIONS = {
    "any function": games.CustomPayoff(lambda s: jnp.log1p(s @ jnp.asarray(Q @ Q.T) + s.sum()) * K),
    "separable": games.Separable(lambda i, x: jnp.asarray(K)[i] * jnp.log1p(x), lambda s: (s.sum() - s) * K),
}


@jax.jit
def sight(game, s):
    return games.utilities(game, s), games.own_gradient(game, s)


@pytest.mark.parametrize("keep", [LEFT, [3, 1]], ids=str)
@pytest.mark.parametrize("name", [*PAYOFFS, *FUNCTIONS])
def test_a_subset_is_the_game_in_which_the_others_contribute_nothing(name, keep):
    game = make(name) if name in PAYOFFS else make("linear").replace(payoff=FUNCTIONS[name])
    held = np.asarray(2.5 if game.payoff.of_total else 0.0)
    game, keep = game.replace(quality=np.array([0.5, 1.0, 2.0, 3.0]), held=held), np.asarray(keep)
    rest, s = games.subset(game, keep), np.where(np.isin(np.arange(N), keep), S, 0.0)
    assert rest.n == len(keep)
    ours, whole = sight(rest, S[keep]), look(game, s)
    for one, of_all in zip(ours, (whole.utilities, whole.own_gradient), strict=True):
        np.testing.assert_allclose(one, np.asarray(of_all)[keep], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(rest.capacity, np.asarray(game.capacity)[keep])
    twice = games.subset(games.subset(game, [3, 2, 1]), [2, 0])  # agents 1 and 3
    direct = games.subset(game, [1, 3])
    np.testing.assert_allclose(sight(twice, S[:2])[0], sight(direct, S[:2])[0], rtol=1e-13)


@pytest.mark.parametrize("name", [name for name in PAYOFFS if name not in ("linear", "measured")])
def test_a_subset_is_the_game_built_by_hand(name):
    by_hand = games.Game(
        PAYOFFS[name](LEFT), games.PowerCost(K[LEFT] / 100, 2.0), 100 + K[LEFT], 1 + K[LEFT], np.ones(3)
    )
    ours, direct = games.subset(make(name), LEFT), games.check(by_hand)
    assert jax.tree.structure(ours) == jax.tree.structure(direct)
    chex.assert_trees_all_equal(ours, direct)
    chex.assert_trees_all_equal(jax.jit(games.subset)(make(name), LEFT), direct)


def test_numbers_for_all_stay_for_all_and_records_are_an_agents_own():
    shared = games.Game(
        games.PowerLaw(1.0, 1.0, 1.0), games.OrderedCost([1.0, 2.0]), [1.0, 2.0, 2.0], 3.0, 2.0, 1.0
    )
    rest = games.subset(shared, [2, 1])
    assert (rest.cost.record_costs, rest.value, rest.quality, rest.held) == ([1.0, 2.0], 3.0, 2.0, 1.0)
    assert rest.capacity.tolist() == [2, 2]
    own = shared.replace(cost=games.OrderedCost(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])))
    assert games.subset(own, [2, 1]).cost.record_costs.tolist() == [[5, 6], [3, 4]]


@pytest.mark.parametrize("keep", [[4], [-1], [0.5], [True, False, True, True], [[0, 1]], []])
def test_nobody_else_can_be_kept(keep):
    with pytest.raises(ValueError, match="`keep` must be numbers of agents from 0 to 3"):
        games.subset(make("power law"), keep)


def test_families_with_as_many_numbers_are_not_taken_for_each_other():
    """Else jit may run the program of one on the numbers of another, when hashes happen to agree."""
    structures = [jax.tree.structure(x) for x in (
        games.RandomDiscovery(Q), games.RandomCoverage(Q), games.LinearPayoff(Q),
        games.LinearCost(1.0), games.PowerCost(1.0, 1.0), games.OrderedCost(Q),
    )]  # fmt: skip
    for i, one in enumerate(structures):
        assert [one == other for other in structures] == [i == j for j in range(len(structures))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"value": 1e-300},
            "^`value` must be 0 or at least 1e-100, got 1e-300: use a smaller unit of money$",
        ),
        ({"value": 1e100}, r"^`value` must be a number below 1e100, got 1e\+100"),
        ({"capacity": [1e100, 1.0]}, "^`capacity` must be a number below 1e100"),
        ({"value": 0.0, "cost": games.LinearCost([0.0, 1e-300])}, None),
    ],
)
def test_numbers_too_large_or_too_small_to_compute_with_are_refused(changes, message):
    game = games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.LinearCost(0.01), [1.0, 2.0])
    if message is None:
        games.check(game.replace(**changes))
        return
    with pytest.raises(ValueError, match=message):
        games.check(game.replace(**changes))
