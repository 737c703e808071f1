"""Gains of misreports against brute force over reports, with all utilities written out in numpy."""

import numpy as np
import pytest
import scipy.optimize

from fedgame import games, mechanisms, registry
from fedgame.mechanisms import misreports, rules

VALUE, QUALITY, CAPACITY = np.array([1.0, 2.0, 1.5]), np.array([1.0, 0.5, 2.0]), np.array([4.0, 3.0, 5.0])
RECORDS = np.array([[0.01, 0.02, 0.05, 0.07], [0.011, 0.03, 0.04, 0.08], [0.02, 0.025, 0.06, 0.09]])
LAW = games.PowerLaw(1.0, 1.0, 1.0, 2.0)
COSTS = {
    "power": games.PowerCost([0.01, 0.02, 0.03], [2.0, 1.5, 3.0], [0.1, 0.2, 0.0]),
    "records": games.OrderedCost(RECORDS),
    "linear": games.LinearCost([0.02, 0.03, 0.05], [0.0, 0.1, 0.0]),
}


def make(cost, capacity=CAPACITY):
    capacity = np.minimum(capacity, 4) if cost == "records" else capacity
    quality = np.ones(3) if cost == "linear" else QUALITY
    return games.check(games.Game(LAW, COSTS[cost], capacity, VALUE, quality, 0.5))


def utility(game, kind, rates, transfers, agent, factor):
    """Her utility, the sum of the others', and her contribution, if she reports f c_i."""
    cost, top = COSTS[kind], np.asarray(game.capacity)
    w, reported = np.asarray(game.quality), np.where(np.arange(3) == agent, factor, 1.0)
    bears = 1 - rates * reported  # of a unit of true cost

    def wanted(total):
        price = VALUE * w / (2 + total) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            if kind == "power":
                e = np.asarray(cost.exponent)
                s = (price / (bears * cost.rate * e)) ** (1 / (e - 1))
            elif kind == "linear":
                s = np.where(price >= bears * cost.rate, np.inf, 0.0)
            else:
                s = 1.0 * np.sum(bears[:, None] * RECORDS <= price[:, None], axis=1)
        return np.minimum(np.where(bears <= 0, top, s), top)

    low, high = 0.5, 0.5 + w @ top
    for _ in range(55):
        total = (low + high) / 2
        low, high = (total, high) if 0.5 + w @ wanted(total) > total else (low, total)
    less, more = wanted(high * (1 + 1e-11)), wanted(low * (1 - 1e-11))
    room = w @ (more - less)  # of one agent who is indifferent
    s = less + (more - less) * (np.clip((low - 0.5 - w @ less) / room, 0, 1) if room > 1e-7 else 0.0)
    spent = (
        np.sum(RECORDS * np.clip(s[:, None] - np.arange(4), 0, 1), axis=1)
        if kind == "records"
        else np.asarray(cost.rate) * s ** (np.asarray(cost.exponent) if kind == "power" else 1.0) + cost.fixed
    )
    refund = rates * reported * spent
    paid = refund - (refund.sum() - refund) / 2 + transfers
    u = VALUE * (1 - 1 / (2.5 + w @ s)) - spent + paid
    return u[agent], u.sum() - u[agent], s[agent]


def per_agent(rule):
    """The rule with a rate and a transfer for everybody, also if they are the same: one program for all."""
    return lambda game: registry.per_agent(rule(game), game.n)


PARTS = lambda game: mechanisms.Refunds(np.array([0.5, 0.3, 0.6]), np.array([0.1, -0.2, 0.1]))  # noqa: E731
HALF = per_agent(lambda game: mechanisms.Refunds(0.5))


@pytest.mark.parametrize("agent", [0, 1, 2])
@pytest.mark.parametrize("kind", COSTS)
def test_fixed_rates_against_brute_force_over_reports(kind, agent):
    game, rates, transfers = make(kind), np.array([0.5, 0.3, 0.6]), np.array([0.1, -0.2, 0.1])
    found = misreports.manipulation(game, PARTS, agent, 0.2, 5.0, fixed=True, points=33)
    direct = np.array([utility(game, kind, rates, transfers, agent, f) for f in found.factors])
    honest = utility(game, kind, rates, transfers, agent, 1.0)
    assert found.honest == pytest.approx(honest[0], abs=1e-8)
    np.testing.assert_allclose(found.gains, direct[:, 0] - honest[0], atol=1e-8)
    np.testing.assert_allclose(found.contributions, direct[:, 2], atol=1e-6)
    tried = np.geomspace(0.2, 5.0, 301)
    gains = np.array([utility(game, kind, rates, transfers, agent, f)[0] for f in tried]) - honest[0]
    assert found.gain >= gains.max() - 1e-4
    at = utility(game, kind, rates, transfers, agent, found.best)
    assert found.gain == pytest.approx(max(at[0] - honest[0], 0), abs=1e-8)
    assert found.others == pytest.approx(at[1] - honest[1], abs=1e-7)
    assert found.nash_gap <= 1e-12
    assert found.factors[0] == 0.2
    assert found.factors[-1] == 5.0
    assert 1.0 in found.factors
    assert np.all(np.diff(found.factors) > 0)


@pytest.mark.parametrize("agent", [0, 2])
@pytest.mark.parametrize("rule", ["beta_star", "falkinger", "personal"])
def test_rates_of_reported_costs_against_brute_force_over_reports(rule, agent):
    """β*, Falkinger's, which knows no costs, and personal rates with their transfers."""
    kind = "linear" if rule == "beta_star" else "power"
    game, announce = make(kind), per_agent(getattr(rules, rule))
    found = misreports.manipulation(game, announce, agent, 0.2, 5.0, points=17)

    def direct(factor):
        scale = np.where(np.arange(3) == agent, factor, 1.0)
        mechanism = announce(game.replace(cost=game.cost.scaled(scale)))
        return utility(
            game, kind, np.asarray(mechanism.rates), np.asarray(mechanism.transfers), agent, factor
        )

    honest = direct(1.0)
    expected = np.array([direct(f) for f in found.factors])
    np.testing.assert_allclose(found.gains, expected[:, 0] - honest[0], atol=1e-7)
    assert found.gain >= max((expected[:, 0] - honest[0]).max(), 0) - 1e-7
    k = int(np.flatnonzero(found.factors == found.best)[0])
    assert found.others == pytest.approx(expected[k, 1] - honest[1], abs=1e-6)
    tried = np.geomspace(0.2, 5.0, 31)
    assert found.gain >= max(direct(f)[0] for f in tried) - honest[0] - 1e-3
    assert found.gain > 1e-3  # what the assumption of public costs carries


def test_without_payments_nobody_gains():
    for kind in COSTS:
        found = misreports.manipulation(make(kind), per_agent(rules.none), 1, points=9)
        assert (found.gain, found.best, found.others) == (0.0, 1.0, 0.0)
        assert not np.any(found.gains)


def test_who_gets_back_more_than_a_sample_costs_her_contributes_everything():
    """f > 1/β: at her capacity she is paid (β f - 1) c_i for every sample, whatever the others do."""
    game = make("power")
    found = misreports.manipulation(game, HALF, 0, 0.5, 8.0, True, points=33)
    over = found.factors > 2.0
    assert np.all(found.contributions[over] == CAPACITY[0])
    assert np.all(found.contributions[found.factors < 1.5] < CAPACITY[0])
    assert found.best == 8.0
    # Her capacity and the others do not change any more, so the gain rises with the reported cost.
    slope = np.diff(found.gains[over]) / np.diff(found.factors[over])
    np.testing.assert_allclose(slope, 0.5 * (0.01 * CAPACITY[0] ** 2 + 0.1), rtol=1e-6)


def test_an_interval_without_the_truth():
    """Only reports inside the range count; outside of it, only the honest one is tried."""
    game = make("power")
    found = misreports.manipulation(game, HALF, 0, 0.1, 0.5, True, points=9)
    assert found.factors[-1] == 1.0
    assert np.all(found.factors[:-1] <= 0.5)
    everything = misreports.manipulation(game, HALF, 0, 0.1, 10.0, True, points=9)
    assert everything.gain > found.gain == 0.0
    assert found.best == 1.0
    above = misreports.manipulation(game, HALF, 0, 3.0, 4.0, True, points=9)
    assert np.all(above.factors[1:] >= 3.0)
    assert above.best == 4.0


def test_a_peak_inside_an_interval_without_the_truth_is_zoomed_in_on():
    """Both ends are worse than honesty: a made-up rule pays ½ - 2|f - 2| for reports above 1.5."""

    def rule(game):
        factor = float(game.cost.rate[0]) / 0.01
        paid = 0.5 - 2 * abs(factor - 2.0) if factor > 1.5 else 0.0
        return mechanisms.Refunds(np.zeros(3), np.array([paid, -paid, 0.0]))

    found = misreports.manipulation(make("power"), rule, 0, 1.6, 2.6, points=2)
    assert found.best == pytest.approx(2.0, abs=1e-3)
    assert found.gain == pytest.approx(0.5, abs=2e-3)
    assert found.others == pytest.approx(-found.gain, rel=1e-9)


def test_alone_there_is_nobody_to_pay():
    game = games.check(games.Game(LAW, games.LinearCost(0.05, 0.1), [3.0]))
    for rule in (rules.none, rules.beta_star, rules.falkinger, rules.personal):
        assert misreports.manipulation(game, rule, 0, points=5).gain == 0


def test_payoffs_that_are_not_of_the_total():
    """The equilibria that are compared are certified for these payoffs too."""
    q = np.array([[0.2, 0.1], [0.1, 0.3]])
    game = games.check(games.Game(games.RandomCoverage(q), games.PowerCost(0.02, 2.0), [4.0, 4.0]))
    found = misreports.manipulation(game, lambda g: mechanisms.Refunds(0.5), 0, 0.5, 4.0, True, points=9)
    assert found.nash_gap <= 1e-12
    assert found.contributions[-1] == 4.0  # 4 > 1 / β
    # She gets β f c(4) = 0.64 and pays β c(s_2), where agent 2 answers to 4 samples of hers.
    s = np.array([4.0, scipy.optimize.minimize_scalar(
        lambda x: 0.01 * x**2 - 1 + 0.5 * q[1] @ np.prod((1 - q) ** np.array([[4.0], [x]]), axis=0),
        bounds=(0, 4), method="bounded", options={"xatol": 1e-12},
    ).x])  # fmt: skip
    payoff = 1 - 0.5 * q[0] @ np.prod((1 - q) ** s[:, None], axis=0)
    utility = payoff - 0.02 * 16 + 0.64 - 0.5 * 0.02 * s[1] ** 2
    assert found.honest + found.gains[-1] == pytest.approx(utility, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent": 3}, "`agent` must be one of 0 to 2, got 3"),
        ({"agent": -1}, "`agent` must be one of 0 to 2, got -1"),
        ({"low": 0.0}, "the interval must be 0 < low < high"),
        ({"low": 2.0, "high": 2.0}, "the interval must be"),
        ({"low": 3.0, "high": 2.0}, "the interval must be"),
        ({"high": np.inf}, "the interval must be"),
        ({"low": np.nan}, "the interval must be"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        misreports.manipulation(make("power"), rules.none, **{"agent": 0} | change)
