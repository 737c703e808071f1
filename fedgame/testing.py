"""Checks of contracts: whether a payoff, cost, mechanism or protocol does what its base class promises.

Each function raises an `AssertionError` that says what does not hold. It evaluates at most a few hundred
random profiles of one game: what it refuses is wrong, what it passes is not proved right. Not for use inside
jit.
"""

import json
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, registry
from fedgame.equilibria import certificates
from fedgame.games import costs, curves, payoffs, scenarios
from fedgame.games import game as games
from fedgame.learning import federated, local, models
from fedgame.learning import trainer as trainers
from fedgame.mechanisms import base, outcomes, rules
from fedgame.protocols import base as protocols

_PROFILES = 64  # number of random profiles
_ROWS = 128  # profiles that are looked at together
_ROUNDS = 3  # of federated training, with a linear network


def check(kind: str, text: str) -> None:
    """Checks the contract of what a text names, for three agents with 30, 45 and 60 samples.

    Args:
      kind: "payoff", "cost", "rule" or "protocol".
      text: as `registry.read` reads it; parameters per agent are those of three agents.

    Raises:
      AssertionError: something does not hold; the message says what.
    """
    named, capacity = registry.read(kind, text), np.asarray([30, 45, 60])
    assert registry.text_of(registry.read(kind, registry.text_of(named))) == registry.text_of(named), (
        f"{text} is read as something that is written otherwise"
    )
    game = games.Game(payoffs.PowerLaw(0.9, 2.0, 0.7, 8.0), costs.LinearCost([0.01, 0.02, 0.03]), capacity)
    if kind == "payoff":
        check_payoff(named, capacity)
    elif kind == "cost":
        check_cost(named, capacity)
    elif kind == "rule":
        check_mechanism(named, game)
    elif kind == "protocol":
        check_protocol(named, game)
    else:
        raise ValueError(f"`kind` must be payoff, cost, rule or protocol, got {kind!r}")


def check_payoff(payoff: payoffs.Payoff, capacity: Any, seed: int = 0) -> None:
    """Checks the contract of `payoffs.base.Payoff`, for agents with these capacities, [n] samples."""
    game = games.check(games.Game(payoff, costs.LinearCost(0.0), capacity))
    rng = np.random.default_rng(seed)
    profiles = rng.uniform(0, 1, (_PROFILES, game.n)) * np.asarray(game.capacity)
    _check_statistic(game, profiles, rng)
    _check_subset(game, profiles)
    _check_concave(game, "payoff", lambda s: _of_profiles(_payoffs, game, s))
    if payoff.of_total:
        _check_of_total(game, profiles)
    if type(payoff) in curves.fits().values():
        _check_fit(game)
    _check_certificate(game.replace(cost=costs.LinearCost(_price(game, profiles))))
    _check_json(game)


def check_cost(cost: costs.Cost, capacity: Any, seed: int = 0) -> None:
    """Checks the contract of `costs.Cost`, for agents with these capacities, [n] samples."""
    game = games.check(games.Game(payoffs.PowerLaw(1.0, 0.0, 1.0, 1.0), cost, capacity))
    rng = np.random.default_rng(seed)
    profiles = rng.uniform(0, 1, (_PROFILES, game.n)) * np.asarray(game.capacity)
    spent = _of_profiles(_costs, game, profiles)
    if game.cost.convex:
        _check_concave(game, "cost", lambda s: -_of_profiles(_costs, game, s), "convex")
        more = _of_profiles(_costs, game, np.minimum(profiles * 1.1, game.capacity))
        assert np.all(more >= spent * (1 - 1e-12)), "the cost falls with more samples"
    for factor in (2.0, np.full(game.n, 2.0)):
        twice = _of_profiles(_costs, games.scale_costs(game, factor), profiles)
        _close(twice, 2.0 * spent, "`scaled(2)` is not twice the cost")
    again, supplied = _there_and_back(game, profiles)
    _close(again, spent, "`inverse` does not give the contribution of a cost", 1e-6)
    enough = np.asarray(supplied) >= profiles * (1 - 1e-6)
    assert np.all(enough), "`supply` is less than a contribution at its own price"
    _check_json(game)


def check_mechanism(rule: rules.Rule, game: games.Game, seed: int = 0) -> None:
    """Checks the contract of `mechanisms.base.Mechanism` for what `rule` announces in a game, n ≥ 2."""
    game, rng = games.check(game), np.random.default_rng(seed)
    mechanism = rule(game)
    general, played = base.Mechanism.under(mechanism, game), mechanism.under(game)
    for share in rng.uniform(0, 1, (4, game.n)):
        s = share * np.asarray(game.capacity)
        paid = np.asarray(_payments(mechanism, game, s))
        assert paid.shape == (game.n,), f"`payments` must be [{game.n}], got {paid.shape}"
        assert np.all(np.isfinite(paid)), f"`payments` must be finite, got {paid}"
        size = float(np.max(np.abs(paid)))
        if mechanism.balanced:
            assert abs(np.sum(paid)) <= 1e-12 * game.n * size, (
                "payments do not sum to 0: set `balanced = False` if that is meant"
            )
        _close(_single_payments(mechanism, game, s), paid, "`payment` is not that of `payments`", size=size)
        slopes, gaps = _slopes_and_gaps(general, s)
        slopes_played, gaps_played = _slopes_and_gaps(played, s)
        _close(slopes_played, slopes, "own gradients under the mechanism are not those of its payments", 1e-9)
        _close(gaps_played, gaps, "Nash gaps under the mechanism are not those of its payments", 1e-6)
    if isinstance(rule, base.Rule) and "costs" not in rule.knows:
        reported = games.scale_costs(game, rng.uniform(0.5, 2.0, game.n))
        same = _payments(rule(reported), reported, s)
        _close(same, paid, "payments depend on costs, which `knows` does not say", size=size)
    if mechanism.concave_in(game) and game.concave:
        _check_concave(game, "utility under the mechanism", lambda s: _of_profiles(_utilities, general, s))
    found = outcomes.outcome(game, mechanism)
    gap, known = float(np.max(found.equilibrium.nash_gap)), mechanism.profile(game) is not None
    assert found.equilibrium.converged or not known, f"`profile` is no equilibrium, its Nash gap is {gap:.1e}"


def check_protocol(protocol: protocols.Protocol, game: games.Game, seed: int = 0) -> None:
    """Checks the contract of `protocols.base.Protocol` in a game whose capacities are whole numbers."""
    game, key = games.check(game), jax.random.key(seed)
    capacity, announced = np.asarray(game.capacity, int), rules.announced(protocol.rule, game)
    plan = protocol.start(game, announced, key)
    _same_bytes(protocol.start(game, announced, key), plan, "`start` makes two plans of one key")
    _check_plan(plan, capacity)
    trainer, params = _federation(capacity, seed)
    whole = protocols.run(protocol, plan, trainer, params, _ROUNDS)
    assert np.all((whole.drawn >= 0) & (whole.drawn <= capacity)), "agents train on more than they hold"
    _check_plan(whole.plan, capacity)
    _same_bytes(
        _interrupted(protocol, plan, trainer, params), whole, "a run that is interrupted ends elsewhere"
    )
    identity = protocols.identity(protocol)
    in_json = identity is None or json.loads(json.dumps(identity)) == identity
    assert in_json, "`identity` is not made of JSON values"
    if identity == {}:  # it claims to train as federated averaging does
        for number, samples in enumerate(whole.drawn, 1):
            params = trainer.average(params, samples, number)
        words = "it trains in a way of its own, and its `identity` is that of federated averaging"
        _same_bytes(whole.params, federated.local_copy(params), words)


def _check_plan(plan: protocols.Plan, capacity: np.ndarray) -> None:
    """Shapes and ranges of a plan; capacities are [n]."""
    n = len(capacity)
    assert np.shape(plan.profile) == (n,), f"`profile` must be [{n}], got {np.shape(plan.profile)}"
    assert np.shape(plan.path)[1:] == (n,), f"`path` must be [t, {n}], got {np.shape(plan.path)}"
    for s in (plan.profile, plan.path):
        assert np.all((s >= 0) & (s <= capacity)), "contributions must lie between 0 and capacities"


def _federation(capacity: np.ndarray, seed: int) -> tuple[trainers.Trainer, Any]:
    """A trainer of a linear network on random images in three classes, and initial parameters."""
    rng = np.random.default_rng(seed)

    def images(number: int) -> federated.Images:
        labels = rng.integers(0, 3, (len(capacity), number))
        pixels = rng.random((*labels.shape, 2, 2, 1)) + labels[..., None, None, None]
        return federated.Images(jnp.asarray(pixels, jnp.float32), jnp.asarray(labels, jnp.int32))

    network = _Linear()
    params = jax.device_get(models.initial_parameters(network, jax.random.key(seed), (2, 2, 1)))
    options, train = local.LocalTraining(epochs=1), images(int(np.max(capacity)))
    return trainers.Trainer(network, options, train, jax.random.key(seed), test=images(10)), params


class _Linear(nn.Module):
    """Logits that are linear in the pixels."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return nn.Dense(3)(images.reshape(len(images), -1))


class _Stopped(Exception):
    """Raised to interrupt a run."""


class _StopAfterEveryRound:
    """Snapshots in memory of a run that is interrupted whenever one has been kept."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, Any]] = []  # number of the round, state

    def restore(self, start: Any) -> tuple[int, Any]:
        return self.kept[-1] if self.kept else (0, start)

    def offer(self, number: int, state: Any) -> None:
        self.kept.append((number, jax.tree.map(np.asarray, federated.local_copy(state))))
        raise _Stopped


def _interrupted(
    protocol: protocols.Protocol, plan: protocols.Plan, trainer: trainers.Trainer, params: Any
) -> protocols.Outcome:
    """The outcome of a run that is stopped after every round and resumed from its snapshot."""
    snapshots = _StopAfterEveryRound()
    while not snapshots.kept or snapshots.kept[-1][0] < _ROUNDS:
        try:
            protocols.run(protocol, plan, trainer, params, _ROUNDS, snapshots)
        except _Stopped:
            continue
    return protocols.run(protocol, plan, trainer, params, _ROUNDS, snapshots)


def _same_bytes(found: Any, expected: Any, words: str) -> None:
    """Asserts that two pytrees have the same structure and bits; `words` say what is wrong if not."""
    assert jax.tree.structure(found) == jax.tree.structure(expected), f"{words}: other arrays"
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), words


@jax.jit
def _slopes_and_gaps(game: games.Game, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    return games.own_gradient(game, s), equilibria.nash_gap(game, s)


def _close(found: Any, expected: Any, words: str, rtol: float = 1e-10, size: float = 0.0) -> None:
    """Asserts that two arrays differ by at most `rtol` of the largest expected number, or of `size`."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    size = max(size, float(np.max(np.abs(expected), initial=0.0)))
    worst = float(np.max(np.abs(found - expected), initial=0.0))
    assert worst <= rtol * size + 1e-300, f"{words}: they differ by {worst:.1e} of {size:.1e}"


# Compiled once for all games of a kind, whatever their numbers.
_slopes, _certify = jax.jit(games.own_gradient), jax.jit(certificates.certify)


@jax.jit
def _payoffs(game: games.Game, profiles: jax.Array) -> jax.Array:
    return jax.vmap(games.payoff_values, (None, 0))(game, profiles)


@jax.jit
def _costs(game: games.Game, profiles: jax.Array) -> jax.Array:
    return jax.vmap(games.incurred_costs, (None, 0))(game, profiles)


@jax.jit
def _utilities(game: games.Game, profiles: jax.Array) -> jax.Array:
    return jax.vmap(games.utilities, (None, 0))(game, profiles)


def _of_profiles(values: Callable, game: games.Game, profiles: Any) -> np.ndarray:
    """What `values` of a game are at profiles [k, n], 128 at a time: one program, whatever k."""
    profiles = np.asarray(profiles)
    blocks = -(-len(profiles) // _ROWS)
    padded = np.resize(profiles, (blocks, _ROWS, game.n))  # repeats the first ones at the end
    return np.concatenate([np.asarray(values(game, block)) for block in padded])[: len(profiles)]


@jax.jit
def _there_and_back(game: games.Game, profiles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`inverse` of the costs, and `supply` at the marginal costs, of profiles [k, n]."""

    def one(cost: costs.Cost, own: jax.Array) -> tuple[jax.Array, jax.Array]:
        amount, price = cost.value(own), jax.grad(cost.value)(own)
        return cost.value(cost.inverse(amount)), cost.supply(price)

    of_agents = jax.vmap(one, (registry.axes(game.cost), 0))
    return jax.vmap(of_agents, (None, 0))(game.cost, profiles)


@jax.jit
def _payments(mechanism: base.Mechanism, game: games.Game, s: jax.Array) -> jax.Array:
    return mechanism.payments(game, s)


@jax.jit
def _single_payments(mechanism: base.Mechanism, game: games.Game, s: jax.Array) -> jax.Array:
    """[n] `payment` of each agent."""
    return jax.lax.map(lambda i: mechanism.payment(game, s, i), jnp.arange(game.n))


@jax.jit
def _moved(game: games.Game, s: jax.Array, change: jax.Array, i: jax.Array) -> tuple[Any, Any]:
    """The statistic after agent i changes her contribution, by `moved` and as it is."""
    after = games.agent_of(game, i).payoff.moved(game.payoff.statistic(s), change, i)
    return after, game.payoff.statistic(s.at[i].add(change))


@jax.jit
def _kinks(game: games.Game, s: jax.Array) -> tuple[jax.Array, ...]:
    """Of the payoffs, [n] each."""
    return games.over_agents(lambda agent, own, rest: agent.payoff.kinks(rest))(game, s)


def _price(game: games.Game, profiles: np.ndarray) -> np.ndarray:
    """Costs per sample at which some of the agents contribute, [n]: half of what a sample brings them."""
    worth = np.asarray(_slopes(game, np.mean(profiles, axis=0)))
    return np.where(np.isfinite(worth), np.maximum(worth, 0.0), 0.0) / 2


def _check_statistic(game: games.Game, profiles: np.ndarray, rng: np.random.Generator) -> None:
    """`moved` agrees with `statistic`, and payoffs are numbers."""
    for s in profiles[:8]:
        i = int(rng.integers(game.n))
        moved, expected = _moved(game, s, 0.3 * float(game.capacity[i]), i)
        for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True):
            _close(a, b, "`moved` is not the `statistic` after a change")
    for s, values in zip(profiles[:8], _of_profiles(_payoffs, game, profiles[:8]), strict=True):
        assert values.shape == (game.n,), f"`value` must be a scalar, all together are {values.shape}"
        assert not np.any(np.isnan(values)), f"`value` is NaN at {s}"


def _check_subset(game: games.Game, profiles: np.ndarray) -> None:
    """`kept` gives the payoffs of the game in which the last agent contributes 0."""
    if game.n < 2:
        return
    some = profiles[:8] * (np.arange(game.n) < game.n - 1)
    whole = _of_profiles(_payoffs, game, some)[:, :-1]
    rest = _of_profiles(_payoffs, games.subset(game, np.arange(game.n - 1)), some[:, :-1])
    for a, b in zip(rest, whole, strict=True):
        _close(a, b, "`kept` is not the game in which the others give 0")


def _check_concave(game: games.Game, what: str, values: Callable, word: str = "concave") -> None:
    """If the game is concave: second differences in own contributions after the last kink; no jump there.

    The others contribute up to their capacities, then less and less, and at last nothing: a curve may bend
    the wrong way only where there are few samples.

    Args:
      game: n agents.
      what: what is checked, for messages.
      values: [k, n] of profiles [k, n], to be concave in own contributions.
      word: "concave", or "convex" if `values` are minus what is meant, for messages.
    """
    if not game.concave:
        return
    rng = np.random.default_rng(0)
    for share in (1.0, 0.5, 0.1, 0.01, 1e-3, 0.0):
        s = share * rng.uniform(0.5, 1, game.n) * np.asarray(game.capacity)
        kinks = (np.asarray(x) / np.asarray(game.quality) for x in _kinks(game, s))
        last = np.max([np.zeros(game.n), *kinks], axis=0)
        for i in np.flatnonzero(last < np.asarray(game.capacity)):
            span = float(game.capacity[i]) - last[i]
            # Random contributions beyond the last kink, itself, and one next to it, where a jump shows.
            ends = last[i] + span * np.sort(np.append(10.0 ** rng.uniform(-4, 0, 30), [0.0, 1e-12]))
            points = np.stack([ends[:-1], (ends[:-1] + ends[1:]) / 2, ends[1:]], axis=1)
            found = values(np.where(np.arange(game.n) == i, points.reshape(-1, 1), s))[:, i]
            left, middle, right = found.reshape(-1, 3).T
            finite = found[np.isfinite(found)]
            bends = left - 2 * middle + right - 1e-9 * np.max(np.abs(finite), initial=0.0)
            worst = int(np.argmax(bends))
            between = f"between {ends[worst]:.6g} and {ends[worst + 1]:.6g} samples"
            assert not bends[worst] > 0, f"the {what} of agent {i} is not {word} {between}"
            change, range_of_values = abs(right[0] - left[0]), np.ptp(finite)
            jumps = np.isfinite(change) and change > 1e-4 * range_of_values
            assert not jumps, f"the {what} of agent {i} jumps at {last[i]:.6g} samples"


def _check_of_total(game: games.Game, profiles: np.ndarray) -> None:
    """Payoffs depend on the total only, and do not fall with it if they are concave."""
    some = profiles[:8]
    tenth, change = 0.1 * some[:, 0] * (game.n > 1), np.zeros_like(some)
    change[:, 0] -= tenth
    change[:, -1] += tenth
    values, others = (_of_profiles(_payoffs, game, x) for x in (some, some + change))
    for a, b in zip(values, others, strict=True):
        _close(a, b, "the promise `of_total` is broken: another split of the same total changes payoffs")
    if game.payoff.concave:
        shares = np.linspace(0.0, 1.0, 201)
        along = _of_profiles(_payoffs, game, shares[:, None] * np.asarray(game.capacity))
        with np.errstate(invalid="ignore"):
            falls = np.diff(along, axis=0) < -1e-9 * np.abs(along[1:])
        assert not np.any(falls), "a payoff falls with more samples: set `concave = False`"


def _check_fit(game: games.Game) -> None:
    """A family that defines `fit` recovers itself where its payoffs are accuracies in [0, 1].

    Fits payoffs at 12 totals from 0 to the sum of capacities. The fit of a member of the family may be off by
    5% of its largest value, in root mean square: a `MeasuredCurve` that bends sharply at one total has no
    closer fit whose slopes are linear between the 12. The fit of a fit may be off by 0.5% at every total.
    """
    most = float(np.sum(np.asarray(game.quality) * np.asarray(game.capacity)))
    family, totals = type(game.payoff), np.linspace(0.0, most, 12)
    for i in range(min(game.n, 8)):
        own = games.agent_of(game, i).payoff
        values = np.asarray(curves.values(own, totals))
        if np.min(values) < 0 or np.max(values) > 1:
            continue
        fit = curves.fit(family, totals, values)
        assert isinstance(fit.payoff, family), f"`fit` gives a {type(fit.payoff).__name__}"
        # A clipped payoff may have no fit: those of (3) are concave from 0 on, so never clipped.
        if own.pays_from() <= 0 or fit.payoff.pays_from() > 0:
            off = fit.rmse / max(float(np.max(values)), 1e-300)
            assert off <= 0.05, f"`fit` does not recover the payoff of agent {i}, it is off by {off:.1%}"
        found = np.clip(curves.values(fit.payoff, totals), 0, 1)  # rounding may lead out of [0, 1]
        for start in (None, fit.payoff):
            off = curves.fit(family, totals, found, start).largest / max(float(np.max(found)), 1e-300)
            assert off <= 0.005, f"`fit` does not recover what it found for agent {i}, it is off by {off:.1%}"


def _check_certificate(game: games.Game) -> None:
    """If a profile is certified, no contribution on a grid gains more than the certificate allows."""
    s = np.asarray(equilibria.solve(game).profile)
    evidence, certified = _certify(game, s)
    now = _of_profiles(_utilities, game, s[None])[0]
    for i in range(game.n):
        grid = np.linspace(0.0, float(game.capacity[i]), 2001)
        there = np.where(np.arange(game.n) == i, grid[:, None], s)
        gain = np.max(_of_profiles(_utilities, game, there)[:, i]) - now[i]
        allowed = 1e-6 * float(evidence.stake[i]) + float(evidence.rounding[i])
        assert not certified or gain <= 2 * allowed, f"certified, and agent {i} gains {gain:.1e}"


def _check_json(game: games.Game) -> None:
    """A game that JSON can hold comes back from JSON the same."""
    if not scenarios.holds(game):
        return
    again = scenarios.from_dict(scenarios.to_dict(game)).game
    same = jax.tree.map(np.array_equal, game, again)
    assert all(jax.tree.leaves(same)), "JSON does not give the same game back"
