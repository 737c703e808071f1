import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from fedgame import equilibria, games, registry
from fedgame.equilibria import solvers

solve, utilities = jax.jit(equilibria.solve), jax.jit(games.utilities)
look = jax.jit(lambda game, s: (games.utilities(game, s), equilibria.nash_gap(game, s)))
N = 4
solve_by = {
    method: jax.jit(lambda game, method=method: equilibria.solve(game, method=method))
    for method in ("Gauss-Seidel", "dynamics")
}


def law_and_rates(law, rate, capacity, fixed=0.0):
    """Power laws and linear costs with numbers of every agent's own: `solve` has one program for each n."""
    return own_numbers(
        games.Game(law, games.LinearCost(np.asarray(rate), np.asarray(fixed)), np.asarray(capacity))
    )


def own_numbers(game):
    payoff, cost = (registry.per_agent(x, game.n) for x in (game.payoff, game.cost))
    value, quality = (np.broadcast_to(x, game.n) for x in (game.value, game.quality))
    return games.check(games.Game(payoff, cost, game.capacity, value, quality, game.held))


def test_example_1_and_heterogeneous_linear_costs_leave_the_cheapest_to_contribute():
    game = law_and_rates(games.PowerLaw(8.0, 1.0, 1.0), [5.0, 4.0], [5.0, 5.0])
    found = solve(game)
    np.testing.assert_allclose(found.profile, [0.0, 0.5], atol=1e-12)
    assert found.converged
    assert found.unique
    held = solve(game.replace(capacity=jnp.array([5.0, 0.1])))  # the cheap agent at her capacity
    np.testing.assert_allclose(held.profile, [1 / np.sqrt(5) - 0.1, 0.1], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_equal_costs_determine_only_the_total(n):
    capacity = np.arange(1.0, n + 1)
    found = solve(law_and_rates(games.PowerLaw(8.0, 1.0, 1.0), np.full(n, 4.0), capacity))
    assert float(np.sum(found.profile)) == pytest.approx(0.5, rel=1e-12)
    np.testing.assert_allclose(found.profile / capacity, 0.5 / capacity.sum(), rtol=1e-9)
    assert found.unique == (n == 1)
    assert found.converged


@pytest.mark.parametrize(
    ("rate", "capacity", "expected"),
    [
        (0.0, [3.0, 4.0], [3.0, 4.0]),  # free: everything
        (1e9, [3.0, 4.0], [0.0, 0.0]),  # nobody shares
        (0.1, [0.0, 0.0], [0.0, 0.0]),
        (0.01, [3.0, 4.0], [3.0, 4.0]),  # capacity binds: 1/(1+7) > 0.01
        (1e-300, [3.0, 0.0], [3.0, 0.0]),
    ],
)
def test_odd_costs_and_capacities(rate, capacity, expected):
    found = solve(games.check(games.Game(games.TotalPayoff(jnp.log1p), games.LinearCost(rate), capacity)))
    np.testing.assert_allclose(found.profile, expected, atol=1e-12)
    assert found.converged
    assert jnp.all(found.nash_gap <= 1e-12)


def test_vmap_over_costs_is_a_loop_and_permutations_permute():
    rates = np.random.default_rng(0).uniform(0.05, 0.3, (4, N))
    game = own_numbers(
        games.Game(games.TotalPayoff(jnp.log1p), games.PowerCost(rates[0], 2.0), np.full(N, 2.0))
    )

    def at(rate):
        return game.replace(cost=game.cost.replace(rate=rate))

    batch = np.asarray(jax.jit(jax.vmap(lambda rate: equilibria.solve(at(rate)).profile))(rates))
    for k in range(4):
        np.testing.assert_allclose(batch[k], solve(at(rates[k])).profile, rtol=1e-12)
    order = np.array([3, 1, 0, 2])
    np.testing.assert_allclose(solve(at(rates[0][order])).profile, batch[0][order], rtol=1e-10)


def test_with_identical_payoffs_a_hundred_thousand_agents_are_one_root():
    rate = np.random.default_rng(1).uniform(0.5, 2, 100_000)
    capacity = np.full(len(rate), 1e9)
    game = games.check(games.Game(games.PowerLaw(1.0, 1.0, 0.5, 1.0), games.PowerCost(rate, 2.0), capacity))
    found = solve(game)
    price = 0.5 * (1.0 + float(np.sum(found.profile))) ** -1.5  # a'(S) = c_i'(s_i) = 2 rate_i s_i
    np.testing.assert_allclose(2 * rate * found.profile, price, rtol=1e-9)
    assert found.converged


@pytest.mark.parametrize("rate", [0.004, 0.005, 0.0123, 0.03, 1 / 3])
def test_one_operation_at_a_time_rounds_differently_and_finds_the_same(rate):
    game = law_and_rates(games.PowerLaw(0.97, 6.0, 0.8, 12.0), [rate, 1.0], [1e3] * 2)
    found = equilibria.solve(game)
    assert found.converged
    np.testing.assert_allclose(found.profile, solve(game).profile, rtol=1e-12)


def test_everything_a_solver_says_is_the_same_in_a_batch():
    game = law_and_rates(games.PowerLaw(8.0, 1.0, 1.0), [5.0, 4.0, 4.5, 9.0], [0.2, 3.0, 3.0, 3.0])

    def at(rate):
        return game.replace(cost=game.cost.replace(rate=rate))

    rates = np.array([[5.0, 4.0, 4.5, 9.0], [4.0, 4.0, 4.0, 9.0], [3.0, 5.0, 9.0, 9.0]])
    batch = jax.jit(jax.vmap(lambda rate: equilibria.solve(at(rate))))(rates)
    for k, rate in enumerate(rates):
        one = jax.tree.map(lambda x, k=k: np.asarray(x)[k], batch)
        chex.assert_trees_all_close(one, solve(at(rate)), rtol=1e-12, atol=1e-13)
    assert batch.unique.tolist() == [True, False, True]
    assert batch.converged.tolist() == [True, True, True]


# Independent references: every payoff and cost once more, in plain numpy, and scipy's bounded search.


def of_total(curve):
    """The payoff of agent i who contributes x while the profile is s, from curve(i, S)."""
    return lambda i, x, s, held: curve(i, x + s.sum() - s[i] + held)


def quadratic_pieces(sizes, accuracy, slope):
    """ã(S) by integrating the piecewise linear slope numerically exactly: a trapezium between sizes."""

    def curve(S):
        S = np.asarray(S, float)
        inside = np.minimum(S, sizes[-1])
        k = np.clip(np.searchsorted(sizes, inside, side="right") - 1, 0, len(sizes) - 2)
        here = np.interp(inside, sizes, slope)
        value = accuracy[k] + (slope[k] + here) / 2 * (inside - sizes[k])
        return value + slope[-1] * sizes[-1] * (1 - sizes[-1] / np.maximum(S, sizes[-1]))

    return curve


def measured(rng, shape):
    sizes = np.array([0.0, 2.0, 5.0, 20.0])
    slope = np.sort(rng.uniform(0, 0.2, (*shape, 4)), axis=-1)[..., ::-1]
    rise = np.diff(sizes) * (slope[..., 1:] + slope[..., :-1]) / 2
    first = np.full((*shape, 1), 0.1)
    return sizes, np.concatenate([first, first + np.cumsum(rise, axis=-1)], axis=-1), slope


def one_power_law(rng, shape, shift, clip=True):
    power = rng.uniform(0.3, 1, shape)
    best, scale = 0.95, rng.uniform(0.3, 0.9 if shift else 3, shape)  # concave from 0 on if shift ≥ 1

    def curve(i, S):
        k, x = np.broadcast_to(scale, N)[i], np.broadcast_to(power, N)[i]
        with np.errstate(divide="ignore"):
            raw = best - k * (S + shift) ** -x
        return np.maximum(raw, 0) if clip else raw

    return games.PowerLaw(best, scale, power, shift, clip=clip), of_total(curve)


def the_bound(rng):
    k = rng.uniform(0.5, 3, N)

    def curve(i, S):
        safe = np.maximum(S, k[i])
        raw = 0.95 - (4 + np.sqrt(2 * k[i] * (2 + np.log(safe / k[i])))) / np.sqrt(safe)
        return np.where(k[i] < S, np.maximum(raw, 0), 0)

    return games.GeneralizationBound(0.95, k), of_total(curve)


def one_measured(rng, shape):
    sizes, accuracy, slope = measured(rng, shape)
    pieces = [
        quadratic_pieces(sizes, *(np.broadcast_to(y, (N, 4))[i] for y in (accuracy, slope))) for i in range(N)
    ]
    return games.MeasuredCurve(sizes, accuracy, slope), of_total(lambda i, S: pieces[i](S))


def sampled_points(rng, kind):
    q = rng.dirichlet(np.ones(3), N) * 0.9
    if kind == "discovery":
        return games.RandomDiscovery(q), lambda i, x, s, _: q[i] @ q.T @ s + (x - s[i]) * (q[i] @ q[i])

    def coverage(i, x, s, _):
        others = np.prod((1 - np.delete(q, i, 0)) ** np.delete(s, i)[:, None], axis=0)
        return 1 - 0.5 * ((1 - q[i]) ** np.asarray(x)[..., None]) @ (q[i] * others)

    return games.RandomCoverage(q), coverage


def one_linear(rng):
    w = rng.uniform(-0.1, 0.2, (N, N))
    return games.LinearPayoff(w), lambda i, x, s, _: w[i] @ s + w[i, i] * (x - s[i])


K, M = np.array([0.6, 1.9, 1.0, 1.4]), np.random.default_rng(0).uniform(0, 0.4, (N, N)) + np.eye(N)
# Functions are compiled anew when they are others: values and qualities are drawn instead.
SEPARABLE = games.Separable(
    lambda i, x: jnp.asarray(K)[i] * jnp.sqrt(0.1 + x) + 0.05 * jnp.sin(5 * x),
    lambda s: 0.1 * (jnp.sum(s**2) - s**2),
)
CUSTOM = games.CustomPayoff(lambda s: jnp.log1p(jnp.asarray(M) @ s))


def separable(rng):
    def direct(i, x, s, _):
        return K[i] * np.sqrt(0.1 + x) + 0.05 * np.sin(5 * x) + 0.1 * ((s**2).sum() - s[i] ** 2)

    return SEPARABLE, direct


def custom(rng):
    return CUSTOM, lambda i, x, s, _: np.log1p(M[i] @ s + M[i, i] * (x - s[i]))


def logarithm(rng):
    return games.TotalPayoff(jnp.log1p), of_total(lambda i, S: np.log1p(S))


MADE = {  # family and direct formula; the capacities; the prices of a last sample, in powers of ten
    "power law": (lambda rng: one_power_law(rng, (), 1.0), 5, (-2, 0)),
    "power laws": (lambda rng: one_power_law(rng, N, 2.0), 5, (-2, 0)),
    "(3) clipped": (lambda rng: one_power_law(rng, N, 0.0), 20, (-4, -1)),
    "(3) raw": (lambda rng: one_power_law(rng, N, 0.0, clip=False), 20, (-3, 0)),
    "(2)": (the_bound, 2000, (-6, -3)),
    "measured": (lambda rng: one_measured(rng, ()), 10, (-2, -0.5)),
    "measured per agent": (lambda rng: one_measured(rng, (N,)), 10, (-2, -0.5)),
    "any function of S": (logarithm, 5, (-2, 0)),
    "discovery": (lambda rng: sampled_points(rng, "discovery"), 5, (-1, 0)),
    "coverage": (lambda rng: sampled_points(rng, "coverage"), 5, (-3, -1)),
    "linear": (one_linear, 5, (-1, 0)),
    "separable": (separable, 5, (-1, 0)),
    "any function": (custom, 5, (-1, 0)),
}
OF_TOTAL = [*MADE][:8]
CONCAVE = [name for name in MADE if name not in ("(3) clipped", "(2)", "separable")]


def made_cost(kind, rng, capacity, prices):
    """Marginal costs 10^U(prices) of the last sample, distinct for every agent."""
    price = 10 ** rng.uniform(*prices, N)
    if kind == "linear":
        return games.LinearCost(price, 0.01), lambda i, x: price[i] * x + 0.01
    if kind == "ordered":
        costs = np.sort(10 ** rng.uniform(*prices, (N, int(capacity.max()) + 1)), axis=1)
        sums = np.concatenate([np.zeros((N, 1)), np.cumsum(costs, axis=1)], axis=1)
        return games.OrderedCost(costs), lambda i, x: np.interp(x, np.arange(sums.shape[1]), sums[i])
    power = rng.permutation([1.0, 1.3, 2.0, rng.uniform(1.5, 4)])
    rate = price * capacity ** (1 - power) / power
    return games.PowerCost(rate, power), lambda i, x: rate[i] * x ** power[i]


class Direct:
    """The game in numpy, and everybody's global best response by a grid and scipy."""

    def __init__(self, name, kind, seed):
        rng = np.random.default_rng(seed)
        make, most, prices = MADE[name]
        payoff, self.payoff = make(rng)
        self.capacity = rng.uniform(0.2, 1, N) * most
        cost, self.cost = made_cost(kind, rng, self.capacity, prices)
        self.value, self.quality = rng.uniform(0.5, 2, N), rng.uniform(0.5, 2, N)
        self.held = float(rng.choice([0.0, 0.3 * most])) if name in OF_TOTAL else 0.0
        game = games.Game(payoff, cost, self.capacity, self.value, self.quality, self.held)
        self.game = games.check(game) if name == "measured" else own_numbers(game)  # that curve is shared

    def utility(self, i, x, s):
        w = self.quality
        return self.value[i] * self.payoff(i, w[i] * x, w * s, self.held) - self.cost(i, x)

    def best(self, i, s):
        top = self.capacity[i]
        grid = np.unique(np.r_[np.linspace(0, top, 2001), np.geomspace(1e-9 * top, top, 400), s[i]])
        u = self.utility(i, grid, s)
        k = int(np.argmax(u))
        near = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
        found = scipy.optimize.minimize_scalar(
            lambda x: -self.utility(i, x, s), bounds=near, method="bounded", options={"xatol": 1e-12 * top}
        )
        return max((float(u[k]), float(grid[k])), (-float(found.fun), float(found.x)))

    def gap(self, s):
        """Relative to max(1, |u|)."""
        now = np.array([self.utility(i, s[i], s) for i in range(N)])
        return max((self.best(i, s)[0] - now[i]) / max(1, abs(now[i])) for i in range(N))

    def gauss_seidel(self, sweeps=400):
        s = self.capacity / 2
        for _ in range(sweeps):
            before = s.copy()
            for i in range(N):
                s[i] = self.best(i, s)[1]
            # SciPy finds the top of a flat curve to 1e-8 or so, and may go back and forth between two points.
            if np.max(np.abs(s - before) / self.capacity) < 1e-7:
                return s
        return None


PAIRS = [(name, "power") for name in MADE] + [
    (name, kind) for name in ("power laws", "coverage") for kind in ("linear", "ordered")
]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@hypothesis.settings(max_examples=4)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_every_family_against_numpy_and_scipy(name, kind, seed):
    direct = Direct(name, kind, seed)
    s = np.random.default_rng(seed).uniform(0, direct.capacity)
    u, gap = look(direct.game, s)
    np.testing.assert_allclose(u, [direct.utility(i, s[i], s) for i in range(N)], rtol=1e-11)
    found = solve(direct.game)
    profile = np.asarray(found.profile)
    assert np.all((profile >= 0) & (profile <= direct.capacity))
    if name in CONCAVE or found.converged:
        assert found.converged
        assert direct.gap(profile) <= 1e-9
    # The certificate against the reference, at a profile that is none.
    expected = [direct.best(i, s)[0] - direct.utility(i, s[i], s) for i in range(N)]
    np.testing.assert_allclose(gap, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [*OF_TOTAL, "separable", "coverage"])
@hypothesis.settings(max_examples=4)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_the_profile_is_where_scipy_ends(name, seed):
    direct = Direct(name, "power", seed)
    expected = direct.gauss_seidel()
    if expected is None or direct.gap(expected) > 1e-9:
        assert name not in CONCAVE  # only there best responses in turn may fail to settle
        return
    found = solve(direct.game)
    assert found.converged
    profile = np.asarray(found.profile)
    total = direct.quality @ profile
    if name in ("(3) clipped", "(2)"):  # several equilibria: it has the largest total, and lists the others
        assert total >= direct.quality @ expected * (1 - 1e-6) - 1e-9
        totals = [direct.quality @ np.asarray(e.profile) for e in equilibria.solve_all(direct.game)]
        assert np.min(np.abs(np.asarray(totals) - direct.quality @ expected)) <= 1e-5 * total + 1e-9
    else:
        assert total == pytest.approx(direct.quality @ expected, rel=1e-5)
        np.testing.assert_allclose(profile / direct.capacity, expected / direct.capacity, atol=2e-4)


ANY_METHOD = ["power law", "coverage"]


@pytest.mark.parametrize("name", ANY_METHOD)
@hypothesis.settings(max_examples=3)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_every_method_that_applies_ends_in_an_equilibrium(name, seed):
    direct = Direct(name, "linear" if name == "coverage" else "power", seed)
    for method in ("Gauss-Seidel", "dynamics"):
        other = solve_by[method](direct.game)
        assert other.method == method
        assert other.converged
        profile = np.asarray(other.profile)
        assert np.all((profile >= 0) & (profile <= direct.capacity))
        assert direct.gap(profile) <= (1e-9 if method == "Gauss-Seidel" else 1e-6)
        if name == "power law" and method == "Gauss-Seidel":
            np.testing.assert_allclose(profile, solve(direct.game).profile, rtol=1e-7, atol=1e-9)


def test_methods_agree():
    cost = games.PowerCost(np.array([2e-3, 1e-3, 5e-3, 3e-3]), 2.0)
    game = own_numbers(games.Game(games.PowerLaw(0.97, 6.0, 0.8, 12.0), cost, np.full(N, 50.0)))
    for by in solve_by.values():
        np.testing.assert_allclose(by(game).profile, solve(game).profile, rtol=1e-8)


SCALES = st.floats(-6, 9).map(lambda x: 10.0**x)
RATES = st.floats(-12, 6).map(lambda x: 10.0**x) | st.just(0.0)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("curved", [False, True])
@hypothesis.settings(max_examples=30)
@hypothesis.given(data=st.data())
def test_odd_numbers_always_have_a_finite_certified_answer(n, curved, data):
    """Capacities 1e-6..1e9 and 0, rates 1e-12..1e6 and 0, data that matter from 1e-6 to 1e9 samples on."""
    capacity = np.array(data.draw(st.lists(SCALES | st.just(0.0), min_size=n, max_size=n)))
    rate = np.array(data.draw(st.lists(RATES, min_size=n, max_size=n)))
    rate = np.full(n, rate[0]) if data.draw(st.booleans()) else rate  # equal costs
    shift, scale = data.draw(SCALES), data.draw(st.floats(0, 1))
    power = data.draw(st.sampled_from([0.3, 0.5, 1.0]))
    held = data.draw(st.just(0.0) | SCALES)
    exponent = np.where(np.arange(n) == 0, 1.0, 2.0) if curved else np.ones(n)
    payoff = games.PowerLaw(1.0, scale * shift**power, power, shift)
    game = games.check(games.Game(payoff, games.PowerCost(rate, exponent), capacity, held=held))
    found = solve(game)
    profile = np.asarray(found.profile)
    assert np.all((profile >= 0) & (profile <= capacity))
    if not found.converged:  # payoffs and costs of about 1 hide what moves 10⁻¹² of it
        assert int(found.status) == solvers.NOT_TOLD
        law = lambda S: 1 - scale * (1 + S / shift) ** -power  # noqa: E731
        moves = np.maximum(rate * capacity**exponent, law(held + capacity.sum()) - law(held))
        assert np.any((moves > 0) & (moves < 1e-11))
        return
    u = np.asarray(utilities(game, profile))
    assert np.all(np.isfinite(u))
    assert np.all(np.asarray(found.nash_gap) <= 1e-9 * np.maximum(1, np.abs(u)))
    # Nobody gains on a grid of her own, in numpy.
    S = held + profile.sum()
    for i in range(n):
        x = np.r_[0, np.geomspace(1e-15, 1, 2000)] * capacity[i]
        other = 1 - scale * (1 + (x + S - profile[i]) / shift) ** -power - rate[i] * x ** exponent[i]
        assert np.max(other) <= u[i] + 1e-9 * max(1, abs(u[i]))


@pytest.mark.parametrize("name", ["(3) clipped", "measured per agent", "coverage"])
def test_permuting_the_agents_permutes_what_is_found(name):
    direct = Direct(name, "power", 5)
    order = np.array([2, 0, 3, 1])

    game = direct.game
    other = game.replace(
        payoff=registry.of_agents(game.payoff, order), cost=registry.of_agents(game.cost, order),
        capacity=game.capacity[order],
        value=game.value[order], quality=game.quality[order],
    )  # fmt: skip
    one, two = solve(game), solve(other)
    assert np.max(one.profile) > 0
    np.testing.assert_allclose(two.profile, np.asarray(one.profile)[order], rtol=1e-8, atol=1e-10)
    assert int(one.status) == int(two.status)


NAN = float("nan")


@pytest.mark.parametrize(
    "where", ["value", "capacity", "quality", "held", "rate", "fixed", "scale", "exponent"]
)
def test_a_number_that_became_nan_after_the_check_is_reported(where):
    game = law_and_rates(
        games.PowerLaw(1.0, np.array([1.0, 2.0]), 0.5, 4.0), [0.01, 0.02], [9.0] * 2, [0.0, 0.1]
    )
    if where in ("rate", "fixed"):
        broken = game.replace(cost=game.cost.replace(**{where: np.array([0.01, NAN])}))
    elif where in ("scale", "exponent"):
        broken = game.replace(payoff=game.payoff.replace(**{where: np.full(2, NAN)}))
    else:
        broken = game.replace(**{where: np.full_like(getattr(game, where), NAN)})
    found = solve(broken)
    assert not found.converged
    assert not found.unique
    assert int(found.status) == solvers.NOT_FINITE
    assert "not a finite number" in equilibria.describe(found)


def test_separable_games_are_solved_whatever_the_others_do():
    """Theorem A.1, with an own part that falls, has two peaks, and is best at a bound."""
    own = lambda i, x: jnp.stack([jnp.exp(-x), jnp.sin(3 * x) + 0.3 * x, x])[i]  # noqa: E731
    payoff = games.Separable(own, lambda s: jnp.sum(s) - s + 7 * jnp.prod(1 + s) / (1 + s))
    game = games.check(games.Game(payoff, games.LinearCost([0.1, 0.2, 0.5]), [4.0, 4.0, 2.0]))
    found = solve(game)
    respond = jax.jit(equilibria.best_response)
    x = np.linspace(0, 4, 4_000_001)
    second = x[np.argmax(np.sin(3 * x) + 0.1 * x)]
    np.testing.assert_allclose(found.profile, [0, second, 2], atol=2e-6)
    assert found.method == "separable"
    assert found.converged
    for others in ([0.0, 0.0, 0.0], [4.0, 4.0, 2.0], [1.0, 3.0, 0.1]):
        np.testing.assert_allclose(respond(game, jnp.array(others)), found.profile, atol=1e-6)


@pytest.mark.parametrize("method", ["Gauss-Seidel", "dynamics"])
def test_theorem_a2_defeats_every_method_from_every_start(method):
    def payoff(s):
        e = jnp.clip(0.5 + (s - 0.5) * 16, 0.0, 1.0)  # Eq. (8) with ε = 1/32
        before = jnp.roll(e, 1)
        return e + before - e * before

    game = games.check(games.Game(games.CustomPayoff(payoff), games.LinearCost(0.25), [1.0] * 3))
    run = jax.jit(lambda start: equilibria.solve(game, start, steps=300, method=method))
    for start in (np.full(3, 0.5), *np.random.default_rng(0).uniform(0, 1, (5, 3))):
        found = run(start)
        assert int(found.status) == solvers.NOT_FOUND
        assert not found.converged
        assert np.max(found.nash_gap) > 0.05
        assert "somebody gains" in equilibria.describe(found)


@pytest.mark.parametrize("seed", [11, 24, 44])
def test_everybody_at_capacity_is_found_however_the_total_rounds(seed):
    """Weighted capacities whose sum is another float in another compiled expression."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    capacity, quality = jnp.asarray(rng.uniform(1, 9, n)), jnp.asarray(rng.uniform(0.3, 3, n))
    cheap = games.LinearCost(jnp.full(n, 1e-9))
    game = games.Game(games.PowerLaw(0.95, 2.0, 0.5, 3.0), cheap, capacity, 1.0, quality)
    (found,) = equilibria.solve_all(game)
    np.testing.assert_array_equal(found.profile, capacity)


def test_a_game_of_other_numbers_compiles_nothing():
    """Not even a rate of 0, or agents in another order: what differs is numbers, not the program."""
    chex.clear_trace_counter()
    once = jax.jit(chex.assert_max_traces(lambda game: equilibria.solve(game).profile, n=1))
    for rates in ([0.01, 0.02, 0.03], [0.03, 0.02, 0.01], [0.0, 0.5, 2.0]):
        payoff = games.PowerLaw(0.9, 1.0, 0.5, 1.0)
        found = once(games.check(games.Game(payoff, games.LinearCost(rates), [10.0, 20.0, 30.0])))
        chex.assert_shape(found, (3,))
        chex.assert_tree_all_finite(found)
