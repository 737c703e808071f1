"""All that is registered keeps its contract, and whatever breaks one is reported."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import equilibria, games, mechanisms, registry, testing
from fedgame.equilibria import solvers
from fedgame.games import costs, curves, payoffs
from fedgame.mechanisms import base, outcomes, rules
from fedgame.protocols import base as protocols
from fedgame.protocols import fedbr, literal
from fedgame.registry import option

Q = np.random.default_rng(0).dirichlet(np.ones(3), 3) * 0.9
CAPACITY = [20.0, 50.0, 10.0]
CURVE = games.PowerLaw(1.0, 1.0, 0.5, 1.0, clip=False)
PAYOFFS = [  # without those in `SPECS`
    curves.fit("concave", [0, 10, 30, 100], [0.1, 0.4, 0.65, 0.85]).payoff,
    games.RandomDiscovery(Q[:, :2]),
    games.RandomCoverage(Q),
    games.TotalPayoff(jnp.log1p),
    games.Separable(lambda i, own: jnp.log1p(own) * (1 + i), lambda s: 0.1 * (jnp.sum(s) - s)),
    games.CustomPayoff(lambda s: jnp.log1p(jnp.sum(s) + s)),
]
GAME = games.Game(CURVE, games.PowerCost(0.01, [1.0, 1.5, 3.0]), CAPACITY, [1.0, 0.5, 2.0])


@pytest.mark.parametrize("payoff", PAYOFFS, ids=lambda x: type(x).__name__)
def test_payoffs_keep_their_contract(payoff):
    testing.check_payoff(payoff, CAPACITY)


@pytest.mark.parametrize("rule", [rules.none, rules.falkinger, rules.personal], ids=lambda x: x.name)
def test_refunds_of_costs_that_are_not_linear_keep_their_contract(rule):
    testing.check_mechanism(rule, GAME)


@registry.family
class Saturating(payoffs.OfTotal):
    """1 - e^(-S/scale), which also defines the optional `bend`: a bound on |a''|, which falls with S."""

    scale: float = option("samples", above=0)

    def curve(self, total):
        return 1 - jnp.exp(-total / self.scale)

    def bend(self, low, high):
        scale = np.asarray(self.scale)
        return np.exp(-high / scale) / scale**2, np.exp(-low / scale) / scale**2


@registry.family
class Rising(costs.Cost):
    """rate (e^s - 1), which defines only `value`."""

    convex = True

    rate: float = option("of the first sample", low=0)

    def value(self, own):
        return self.rate * jnp.expm1(own)


def test_a_strangers_payoff_gets_what_its_promises_are_worth():
    """The only equilibrium, the first best, and λ and L that hold."""
    testing.check_payoff(Saturating([5.0, 8.0, 6.0]), CAPACITY)
    game = games.check(games.Game(Saturating([5.0, 8.0, 6.0]), games.PowerCost(0.01, 2.0), CAPACITY))
    assert int(equilibria.solve(game).status) == solvers.UNIQUE
    assert mechanisms.first_best(game).proved
    report = equilibria.check_conditions(game)
    matrix = np.asarray(jax.jit(games.jacobian)(game, equilibria.solve(game).profile))
    least, _ = report.strong_concavity
    assert 0 < least <= -np.linalg.eigvalsh((matrix + matrix.T) / 2).max() + 1e-12
    with pytest.raises(ValueError, match="`scale` must be a number, greater than 0, got 0"):
        games.check(game.replace(payoff=Saturating(0.0)))


def test_a_strangers_cost_needs_only_its_value():
    testing.check_cost(Rising([0.1, 0.2, 0.3]), [3.0, 4.0, 5.0])
    game = games.check(games.Game(CURVE, Rising([0.1, 0.2, 0.3]), [3.0, 4.0, 5.0]))
    found = equilibria.solve(game)
    assert found.converged
    s = np.asarray(found.profile)
    total = s.sum()
    # 1 - (1 + S)^-½ against rate (e^s - 1): where somebody contributes, slopes are equal.
    slope = 0.5 * (1 + total) ** -1.5 - np.array([0.1, 0.2, 0.3]) * np.exp(s)
    np.testing.assert_allclose(slope[s > 0], 0, atol=1e-9)
    assert np.all(slope[s == 0] <= 1e-9)
    halved = mechanisms.under_mechanism(game, 0.5).cost
    assert float(halved.value(np.ones(3))[0]) == pytest.approx(0.05 * np.expm1(1))


@registry.family
class Forgetful(payoffs.Payoff):
    """Depends on the mean of contributions, and does not define `moved`."""

    def statistic(self, s):
        return jnp.mean(s) * jnp.ones(1)

    def value(self, own, rest):
        return jnp.log1p(rest[1][0] + own)


@registry.family
class Boastful(payoffs.OfTotal):
    """Is not concave, but promises to be."""

    def curve(self, total):
        return total**2 / 1e4


@registry.family
class Leaky(base.Mechanism):
    """Pays more than it collects."""

    def payments(self, reported, s):
        return 0.01 * s


def test_a_strangers_fit_recovers_itself(saturation):
    testing.check_payoff(saturation([0.1, 0.2, 0.0], 0.9, [5.0, 8.0, 6.0]), CAPACITY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda x: x.replace(half=1.0),
            "does not recover the payoff of agent 0, it is off by",
        ),  # ignores data
        (lambda x: x.replace(best=0.97 * x.best), "does not recover what it found for agent 0"),  # is too low
        (lambda x: CURVE, "gives a PowerLaw"),
    ],
)
def test_a_fit_that_does_not_recover_its_family_is_told(saturation, wrong, message):
    right = saturation.fit
    saturation.fit = classmethod(lambda cls, *args: wrong(right(*args)))
    with pytest.raises(AssertionError, match=message):
        testing.check_payoff(saturation([0.1, 0.2, 0.0], 0.9, [20.0, 8.0, 6.0]), CAPACITY)


def test_what_breaks_its_contract_is_told():
    with pytest.raises(AssertionError, match="`moved` is not the `statistic`"):
        testing.check_payoff(Forgetful(), CAPACITY)
    with pytest.raises(AssertionError, match="payoff of agent 0 is not concave"):
        testing.check_payoff(Boastful(), CAPACITY)
    with pytest.raises(AssertionError, match="do not sum to 0"):
        testing.check_mechanism(lambda game: Leaky(), GAME)
    falkinger = dataclasses.replace(registry.read("rule", "falkinger"), knows=())
    with pytest.raises(AssertionError, match="payments depend on costs, which `knows` does not say"):
        testing.check_mechanism(falkinger, GAME)


@registry.family
class Listed(costs.Cost):
    """The sum of a shared list times rate and samples."""

    convex = True

    prices: object = option("shared by all, whatever its shape", rank=None)
    rate: object = option("of an agent", 1.0, low=0)

    def value(self, own):
        return self.rate * jnp.sum(jnp.asarray(self.prices)) * own

    def line(self):
        return np.asarray(self.rate) * np.sum(self.prices), 0.0


def test_what_is_shared_stays_shared_when_costs_are_scaled():
    cost = Listed(jnp.array([0.01, 0.02, 0.03]), [1.0, 2.0, 3.0])
    testing.check_cost(cost, CAPACITY)
    game = games.check(games.Game(CURVE, cost, CAPACITY))
    other = games.check(game.replace(cost=games.LinearCost([0.06, 0.12, 0.18])))
    announced = [rules.personal(x) for x in (game, other)]
    found, expected = (outcomes.outcome(x, y) for x, y in zip((game, other), announced, strict=True))
    np.testing.assert_allclose(found.utilities, expected.utilities, rtol=1e-9)
    factor = np.array([1.5, 1.0, 0.5])
    found, expected = (  # if agents report other costs
        np.stack([s, y.utilities(x, s, games.scale_costs(x, factor))])
        for x, y in zip((game, other), announced, strict=True)
        for s in [equilibria.solve(y.under_scaled(x, factor)).profile]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    found, expected = (  # if all get back the same share
        games.incurred_costs(mechanisms.under_mechanism(x, rules.beta_star(x).rates), np.full(3, 5.0))
        for x in (game, other)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


LINEAR = games.check(games.Game(CURVE, games.LinearCost([0.01, 0.02, 0.03]), [20, 50, 10]))
PROTOCOLS = [  # without those in `SPECS`
    fedbr.FedBR(rules.shapley, steps=5),
    literal.Literal(np.array([0, 40, 80]), np.array([0.1, 0.7, 0.8]), 10, steps=5),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda x: f"{type(x).__name__}, {x.title}")
def test_protocols_keep_their_contract(protocol):
    testing.check_protocol(protocol, LINEAR)


# By kind, specs of three agents in which every name occurs.
SPECS = {
    "payoff": [
        "bound(1.0, [0.1, 0.2, 0.3])",
        "linear([[1.0, 0.2, 0.0], [0.3, 1.0, 0.1], [0.0, 0.4, 1.0]])",
        "concave(sizes=[0, 50, 70, 100], accuracy=[0.1, 0.6, 0.7, 0.82], slope=[0.015, 0.005, 0.005, 0.003])",
        "effective(power(1, 1, 0.5, 1, False), [[1, 0.5, 0], [0.2, 1, 0.1], [0, 1.5, 1]])",
        "effective(bound(1.0, [0.1, 0.2, 0.3]), [[1, 0.5, 0], [0.2, 1, 0.1], [0, 1.5, 1]])",
        "effective(power(1, 1, 0.5, 1), [[1, 0.5, 0], [0.2, 1, 0], [0, 1, 1]], [9, 8, 7], own='always')",
        "power([1.0, 0.9, 0.8], 1.0, 0.5, shift=[0, 1, 2])",
        "power(best=1, scale=1, exponent=0.5, shift=1, clip=False)",
        "random_coverage([0.1, 0.3, 0.5])",
        "random_discovery([[0.1, 0.2], [0.3, 0.3], [0.5, 0.1]])",
    ],
    "cost": [
        "linear([0.01, 0.02, 0.03], fixed=0.5)",
        "power(0.01, [1, 1.5, 3])",
        f"ordered({np.sort(np.random.default_rng(0).uniform(0.1, 1, (3, 60))).tolist()})",
    ],
    "rule": [
        "none",
        "beta_star",
        "falkinger",
        "beta(0.3)",
        "personal",
        "personal(transfers='equal')",
        "designed(p=0)",
        "price",
        "price(price=0.004)",
        "prices",
        "shapley(seed=1)",
        "data_maximizing(epsilon=0.001)",
    ],
    "protocol": [
        "fedavg",
        "mwfed(target=0.95, factor=2)",
        "fedbr(price(price=0.004), steps=5)",
        "fedbr(step_size=100)",
        "fedbr_bg(steps=5)",
        "fedbr_data_maximizing",
        "first_best",
        "afl(rate=1)",
        "qffl(0.5)",
    ],
}


@pytest.mark.parametrize(
    ("kind", "text"),
    [pytest.param(kind, text, id=f"{kind} {text:.40}") for kind, texts in SPECS.items() for text in texts],
)
def test_what_has_a_name_keeps_its_contract(kind, text):
    testing.check(kind, text)


def test_nothing_that_has_a_name_is_left_out():
    for kind, texts in SPECS.items():
        found = registry.KINDS[kind]
        words = {name for text in texts for name in re.findall(r"\w+", text)}
        of_aliases = {re.match(r"\w+", found.aliases[name])[0] for name in words & {*found.aliases}}
        assert found.entries.keys() <= words | of_aliases, kind
    assert {x.word for x in registry.KINDS.values()} - {*SPECS} <= {"study"}


@dataclasses.dataclass(frozen=True, eq=False)
class Half(protocols.Protocol):
    """Everybody gives half of her data: an author's own protocol, which declares nothing."""

    label = "Half"

    share: float = option("of her data", 0.5, low=0, high=1)

    def start(self, game, announced, key):
        return protocols.always(self.share * game.capacity)


@dataclasses.dataclass(frozen=True, eq=False)
class HalfWay(Half):
    label = "Half way"

    def train(self, trainer, params, plan, number):
        new = trainer.average(params, protocols.draw(plan.profile), number)
        return jax.tree.map(lambda old, new: (old + new) / 2, params, new)


def test_a_strangers_protocol_keeps_its_contract_and_is_told_from_federated_averaging():
    for protocol in (Half(), HalfWay()):
        testing.check_protocol(protocol, LINEAR)
    assert protocols.identity(Half()) == {}
    own, other = (protocols.identity(HalfWay(share)) for share in (0.5, 0.4))
    assert own["rule"].endswith("HalfWay")
    assert own != other
    with pytest.raises(ValueError, match="`share` must be a number, at least 0 and at most 1"):
        Half(2.0)


def test_what_cannot_be_told_apart_is_never_shared():
    """A class that is in no file, as in a notebook, and a field that is a function."""

    class Own(HalfWay):
        __module__ = "a_notebook"

    assert protocols.identity(Own()) is None
    for field in (lambda: 0.5, jax.random.key(0), b"bytes"):
        assert protocols.identity(HalfWay(field)) is None


@dataclasses.dataclass(frozen=True, eq=False)
class Greedy(Half):
    def start(self, game, announced, key):
        return protocols.always(2.0 * game.capacity)


@dataclasses.dataclass(frozen=True, eq=False)
class Moody(Half):
    moods: list | None = option("what it carries outside its plan", None)

    def train(self, trainer, params, plan, number):
        self.moods.append(number)
        new = trainer.average(params, protocols.draw(plan.profile), number)
        return jax.tree.map(lambda old, new: old + (new - old) / len(self.moods), params, new)


def test_protocols_that_break_their_contract_are_told():
    with pytest.raises(AssertionError, match="between 0 and capacities"):
        testing.check_protocol(Greedy(), LINEAR)
    with pytest.raises(AssertionError, match="a run that is interrupted ends elsewhere"):
        testing.check_protocol(Moody(0.5, []), LINEAR)
