"""Games of every family, solved and certified, against brute force in plain numpy that shares no code.

  python benchmarks/oracle.py [--games=5000] [--seed=0] [--family=NAME] [--float32]

For every game of three agents:
  certified   brute force finds no deviation that gains more than 1e-6 of what the agent's decision moves;
  missed      (a disagreement only where Theorem 3.1 promises an equilibrium, or, with clipped payoffs, where
              a scan of all totals finds one) no equilibrium was found although brute force knows one;
  gap         at a random profile the Nash gap is the one of brute force: not less, and attained by the best
              response that comes with it;
  scale       in another currency (1e±9) and unit of samples (1e±6), with fixed costs up to 1e6 of what is
              at stake, beside an idle agent of any capacity up to 1e15, and in another order of agents: the
              same verdict, status and profile.
Then `solve_all` is compared with a scan of all totals; λ and L with Jacobians written out; the first best
with random profiles; and who leaves with who leaves in another currency and order. Ends with exit code 1 if
anything disagrees.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria, games, mechanisms
from fedgame.equilibria import certificates, conditions, solvers

N = 3
Numbers = dict[str, np.ndarray]


class Family(NamedTuple):
    """One way of drawing games."""

    draw: Callable[[np.random.Generator], Numbers]  # the payoff's own numbers
    build: Callable[[dict], Any]  # the payoff of fedgame
    # a_i in plain numpy: of the numbers d, agent i, her own w_i x [k], all w s [n], and the samples held.
    payoff: Callable[[Numbers, int, np.ndarray, np.ndarray, float], np.ndarray]
    size: float  # of capacities, samples
    prices: tuple[float, float]  # marginal costs at capacity are between these powers of ten
    promised: bool  # whether Theorem 3.1 promises an equilibrium
    ordered: bool = False  # whether costs are sums of sorted prices of single samples
    held: float = 0.0  # S₀, samples that the server holds


def of_total(curve: Callable[[Numbers, int, np.ndarray], np.ndarray]) -> Callable:
    """A payoff of the total, from a function of the total, for `Family.payoff`."""
    return lambda d, i, x, s, held: curve(d, i, held + x + s.sum() - s[i])


def power(d: Numbers, i: int, total: np.ndarray) -> np.ndarray:
    """Eq. (3), clipped at 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.maximum(d["best"][i] - d["scale"][i] * (total + d["shift"][i]) ** -d["power"][i], 0.0)


def draw_power(shift: float, steep: float) -> Callable[[np.random.Generator], Numbers]:
    """Clipped power laws; `steep` is the largest scale."""

    def draw(rng: np.random.Generator) -> Numbers:
        same = rng.random() < 0.2
        power = np.full(N, rng.uniform(0.3, 1)) if same else rng.uniform(0.3, 1, N)
        scale = np.full(N, rng.uniform(0.3, steep)) if same else rng.uniform(0.3, steep, N)
        return {"best": rng.uniform(0.5, 1, N), "scale": scale, "power": power, "shift": np.full(N, shift)}

    return draw


def build_power(d: dict) -> games.PowerLaw:
    return games.PowerLaw(d["best"], d["scale"], d["power"], d["shift"])


def bound(d: Numbers, i: int, total: np.ndarray) -> np.ndarray:
    """Eq. (2), clipped at 0, and 0 up to where it begins to rise."""
    k = d["difficulty"][i]
    r = np.sqrt(4 + 2 * k) - 2  # where (2) stops falling: r² + 4r = 2k
    lowest = k * np.exp(r * r / (2 * k) - 2)
    safe = np.maximum(total, lowest)
    raw = 0.95 - (4 + np.sqrt(2 * k * (2 + np.log(safe / k)))) / np.sqrt(safe)
    return np.where(total > lowest, np.maximum(raw, 0), 0.0)


def draw_measured(rng: np.random.Generator) -> Numbers:
    """Concave curves with piecewise linear slopes."""
    slope = np.sort(rng.uniform(0, 0.2, (N, 4)), axis=1)[:, ::-1]
    sizes = np.tile([0.0, 2.0, 5.0, 20.0], (N, 1))
    rise = np.diff(sizes) * (slope[:, 1:] + slope[:, :-1]) / 2
    accuracy = 0.1 + np.concatenate([np.zeros((N, 1)), np.cumsum(rise, axis=1)], axis=1)
    return {"sizes": sizes, "accuracy": accuracy, "slope": slope}


def measured(d: Numbers, i: int, total: np.ndarray) -> np.ndarray:
    """The integral of the slope, up to the last size; beyond it the slope falls as 1/S²."""
    sizes, slope = d["sizes"][i], d["slope"][i]
    inside = np.minimum(total, sizes[-1])
    k = np.clip(np.searchsorted(sizes, inside, side="right") - 1, 0, len(sizes) - 2)
    here = np.interp(inside, sizes, slope)
    value = d["accuracy"][i][k] + (slope[k] + here) / 2 * (inside - sizes[k])
    return value + slope[-1] * sizes[-1] * (1 - sizes[-1] / np.maximum(total, sizes[-1]))


def jumps(d: Numbers, i: int, total: np.ndarray) -> np.ndarray:
    """A step function of the total, the same for all agents."""
    heights, places = d["heights"][0], d["places"][0]
    return sum(np.where(total >= place, height, 0.0) for height, place in zip(heights, places, strict=True))


def draw_jumps(rng: np.random.Generator) -> Numbers:
    """Three jumps, some of height 0, at whole numbers in half of the games."""
    if rng.random() < 0.5:
        places = np.sort(rng.uniform(0, 40, 3))
    else:
        places = np.sort(rng.integers(1, 40, 3).astype(float))
    heights = rng.uniform(0, 1, 3)
    heights = np.where(rng.random(3) < 0.7, heights, 0.0)
    return {"heights": np.tile(heights, (N, 1)), "places": np.tile(places, (N, 1))}


def build_jumps(d: dict) -> games.TotalPayoff:
    heights, places = d["heights"][0], d["places"][0]
    return games.TotalPayoff(lambda S: jnp.sum(jnp.where(places <= S, heights, 0.0)))


def waves(d: Numbers, i: int, total: np.ndarray, xp: Any = np) -> Any:
    """Logarithm, sigmoid and ripples: smooth, with several peaks; `xp` is numpy or jax.numpy."""
    log_height, height, middle, width, ripple, frequency = d["shape"][0]
    sigmoid = height / (1 + xp.exp(-(total - middle) / width))
    return log_height * xp.log1p(total) + sigmoid + ripple * (1 + xp.sin(frequency * total))


def draw_waves(rng: np.random.Generator) -> Numbers:
    shape = [
        rng.uniform(0, 0.3),  # height of the logarithm
        rng.uniform(0, 1),  # height of the sigmoid
        rng.uniform(2, 30),  # middle
        rng.uniform(0.5, 5),  # width
        rng.uniform(0, 0.05),  # height of the ripples
        rng.uniform(0.05, 0.6),  # frequency
    ]
    return {"shape": np.tile(shape, (N, 1))}


def draw_sigmoid(rng: np.random.Generator) -> Numbers:
    """A sigmoid alone, in the numbers of `waves`; `alike` is how far costs differ, relative to their size."""
    shape = [0.0, rng.uniform(0.5, 1), rng.uniform(5, 50), rng.uniform(0.5, 5), 0.0, 1.0]
    return {"shape": np.tile(shape, (N, 1)), "alike": np.full((N, 1), 10 ** rng.uniform(-8, -2))}


def build_waves(d: dict) -> games.TotalPayoff:
    return games.TotalPayoff(lambda S: waves(d, 0, S, jnp))


def steps(d: Numbers, i: int, x: np.ndarray, s: np.ndarray, held: float) -> np.ndarray:
    """A step function of the own contribution, and a little of what the others contribute."""
    return d["height"][i] * np.sqrt(np.floor(x * d["per"][i])) + 0.01 * (s.sum() - s[i])


def build_steps(d: dict) -> games.Separable:
    return games.Separable(
        lambda i, x: d["height"][i] * jnp.sqrt(jnp.floor(x * d["per"][i])), lambda s: 0.01 * (jnp.sum(s) - s)
    )


def coverage(d: Numbers, i: int, x: np.ndarray, s: np.ndarray, held: float) -> np.ndarray:
    """Eq. (1)."""
    q = d["q"]
    others = np.prod((1 - np.delete(q, i, 0)) ** np.delete(s, i)[:, None], axis=0)
    return 1 - 0.5 * ((1 - q[i]) ** np.asarray(x)[..., None]) @ (q[i] * others)


def draw_q(rng: np.random.Generator) -> Numbers:
    return {"q": rng.dirichlet(np.ones(3), N) * 0.9}


def discovery(d: Numbers, i: int, x: np.ndarray, s: np.ndarray, held: float) -> np.ndarray:
    q = d["q"]
    return q[i] @ q.T @ s + (x - s[i]) * (q[i] @ q[i])


LAW = (build_power, of_total(power))
FAMILIES = {
    "power law": Family(draw_power(2.0, 0.7), *LAW, 20, (-3, 0), True),
    "(3) clipped": Family(draw_power(0.0, 3.0), *LAW, 30, (-4, -0.5), False),
    "(3) clipped, held": Family(draw_power(0.0, 3.0), *LAW, 30, (-4, -0.5), False, held=3.0),
    "(3) ordered costs": Family(draw_power(0.0, 3.0), *LAW, 12, (-3, -0.5), False, ordered=True),
    "(2)": Family(
        lambda rng: {"difficulty": rng.uniform(0.5, 3, N)},
        lambda d: games.GeneralizationBound(0.95, d["difficulty"]),
        of_total(bound),
        2000,
        (-6, -3),
        False,
    ),
    "measured": Family(
        draw_measured,
        lambda d: games.MeasuredCurve(d["sizes"], d["accuracy"], d["slope"]),
        of_total(measured),
        15,
        (-2, -0.5),
        True,
    ),
    "measured, ordered costs": Family(
        draw_measured,
        lambda d: games.MeasuredCurve(d["sizes"], d["accuracy"], d["slope"]),
        of_total(measured),
        12,
        (-2, -0.5),
        True,
        ordered=True,
    ),
    "coverage": Family(draw_q, lambda d: games.RandomCoverage(d["q"]), coverage, 8, (-3, -0.5), True),
    "discovery": Family(draw_q, lambda d: games.RandomDiscovery(d["q"]), discovery, 8, (-1.5, 0), True),
    "linear": Family(
        lambda rng: {"w": rng.uniform(-0.1, 0.3, (N, N))},
        lambda d: games.LinearPayoff(d["w"]),
        lambda d, i, x, s, held: d["w"][i] @ s + d["w"][i, i] * (x - s[i]),
        8,
        (-1.5, 0),
        True,
    ),
    "jumps": Family(draw_jumps, build_jumps, of_total(jumps), 40, (-3, -0.5), False),
    "jumps, held": Family(draw_jumps, build_jumps, of_total(jumps), 40, (-3, -0.5), False, held=7.0),
    "smooth, several peaks": Family(draw_waves, build_waves, of_total(waves), 30, (-3, -0.5), False),
    "sigmoid, costs nearly equal": Family(draw_sigmoid, build_waves, of_total(waves), 40, (-3.5, -1), False),
    "separable steps": Family(
        lambda rng: {"height": rng.uniform(0.05, 1, N), "per": rng.uniform(0.1, 3, N)},
        build_steps,
        steps,
        10,
        (-2, 0),
        True,
    ),
}


def draw(family: Family, rng: np.random.Generator) -> Numbers:
    """The numbers of one game; arrays have the agents as first axis."""
    d = family.draw(rng)
    capacity = rng.uniform(0.1, 1, N) * family.size
    price = 10 ** rng.uniform(*family.prices, N)
    if rng.random() < 0.15:
        price = np.full(N, price[0])
    exponent = rng.choice([1.0, 1.0, 1.5, 2.0, 3.0], N)
    ones = rng.random() < 0.5
    d["capacity"], d["exponent"] = capacity, exponent
    d["rate"] = price * capacity ** (1 - exponent) / exponent  # the marginal cost at capacity is the price
    d["value"] = np.ones(N) if ones else rng.uniform(0.5, 2, N)
    d["quality"] = np.ones(N) if ones else rng.uniform(0.5, 2, N)
    d["fixed"] = np.zeros(N)
    if "alike" in d:  # linear costs that are nearly equal, relative to what a sample is worth
        d["exponent"] = np.ones(N)
        d["rate"] = price[0] * d["value"] * d["quality"] * (1 + d["alike"][0] * rng.uniform(-1, 1, N))
    if family.ordered:
        d["records"] = np.sort(10 ** rng.uniform(*family.prices, (N, int(family.size) + 1)), axis=1)
    return d


def build(family: Family, d: dict) -> games.Game:
    """The game of fedgame from its numbers."""
    if family.ordered:
        cost = games.OrderedCost(d["records"])
    else:
        cost = games.PowerCost(d["rate"], d["exponent"], d["fixed"])
    return games.Game(
        payoff=family.build(d),
        cost=cost,
        capacity=d["capacity"],
        value=d["value"],
        quality=d["quality"],
        held=family.held,
    )


def parts(family: Family, d: Numbers, i: int, x: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """v_i a_i and c_i, [k] each, at own contributions x [k], the others contributing as in s [n]."""
    x, w = np.asarray(x, float), d["quality"]
    payoff = d["value"][i] * family.payoff(d, i, w[i] * x, w * s, family.held)
    if family.ordered:
        sums = np.append(0.0, np.cumsum(d["records"][i]))
        return payoff, np.interp(x, np.arange(len(sums)), sums)
    return payoff, d["rate"][i] * x ** d["exponent"][i] + d["fixed"][i]


def best(family: Family, d: Numbers, i: int, s: np.ndarray) -> tuple[float, float]:
    """The largest utility of agent i that is found, and where: on a fine grid, then on closer ones."""
    top = d["capacity"][i]
    x = np.concatenate([np.linspace(0, top, 2001), np.geomspace(1e-9 * top, top, 200), [s[i]]])
    x = np.unique(np.append(x, np.floor(np.linspace(0, top, 50))))  # also whole numbers, where steps are
    for closer in range(5):
        payoff, cost = parts(family, d, i, x, s)
        u = payoff - cost
        k = int(np.argmax(u))
        found = float(u[k]), float(x[k])
        at_an_end = k in (0, len(x) - 1)
        if at_an_end and closer > 0:
            break
        x = np.linspace(x[max(k - 1, 0)], x[min(k + 1, len(x) - 1)], 201)
        x = np.append(x, found[1])
        x.sort()
    return found


def gaps(family: Family, d: Numbers, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By brute force, [n] Nash gaps of the profile s, and what each agent's decision moves: her stake.

    The stake is the largest rise of payoff or cost from contributing nothing to s_i or the best response.
    """
    gap, stake = np.zeros(N), np.zeros(N)
    for i in range(N):
        largest, x = best(family, d, i, s)
        # At a jump the total may round to the other side in another order of its terms.
        just_above = s[i] + 1e-14 * np.sum(s)
        payoff, cost = parts(family, d, i, np.array([0.0, s[i], x, just_above]), s)
        u = payoff - cost
        gap[i] = largest - max(u[1], u[3])
        stake[i] = np.max(np.maximum(payoff - payoff[0], cost - cost[0])[:3])
    return gap, stake


def in_turn(family: Family, d: Numbers, rng: np.random.Generator) -> np.ndarray | None:
    """An equilibrium by brute-force best responses in turn, from several starts; None if none is found."""
    for start in (0.5 * d["capacity"], 0 * d["capacity"], rng.uniform(0, d["capacity"])):
        s = np.array(start)
        for _ in range(40):
            before = s.copy()
            for i in range(N):
                s[i] = best(family, d, i, s)[1]
            if np.max(np.abs(s - before) / d["capacity"]) < 1e-7:
                gap, stake = gaps(family, d, s)
                if np.all(gap <= 1e-9 * stake):
                    return s
                break
    return None


def rescaled(family: Family, d: Numbers, rng: np.random.Generator) -> tuple[Numbers, np.ndarray, float]:
    """The same game in other units and in another order, with one more agent, who stays idle.

    Returns:
      The numbers; the new places of the N agents, [N]; and the unit of samples.
    """
    money, unit = 10 ** rng.uniform(-9, 9), 10 ** rng.uniform(-6, 6)
    unit = 1.0 if family.ordered else unit  # records are whole
    more = {name: np.concatenate([x, x[-1:]]) for name, x in d.items()}
    if "w" in d:
        more["w"] = np.pad(d["w"], ((0, 1), (0, 1)))
    if "q" in d:
        more["q"][-1] = 0.0
    highest = np.max(d["value"]) * 1e3
    more["exponent"][-1], more["rate"][-1] = 1.0, highest
    more["capacity"][-1] = 10 ** rng.uniform(0, 15)
    if family.ordered:
        more["records"][-1] = highest
        more["records"], more["capacity"][-1] = more["records"] * money, family.size
    more["rate"] = money * more["rate"] * unit ** -more["exponent"]
    stake = d["value"].min() * 0.1
    more["fixed"] = money * stake * 10 ** rng.uniform(-3, 6, N + 1) * (rng.random(N + 1) < 0.5)
    more["value"], more["capacity"] = more["value"] * money, more["capacity"] * unit
    more["quality"] = more["quality"] / unit
    order = rng.permutation(N + 1)
    moved = {name: x[order] for name, x in more.items()}
    if "w" in d:
        moved["w"] = more["w"][order][:, order]
    return moved, np.argsort(order)[:N], unit


def tolerances(x: np.ndarray) -> tuple[float, float]:
    """The share of a stake that counts as nothing, and the precision of x."""
    eps = float(np.finfo(x.dtype).eps)
    return max(1e-6, 200 * eps), eps


def compare_equilibrium(
    name: str, d: Numbers, found: equilibria.Equilibrium, rng: np.random.Generator
) -> tuple[str, str]:
    """Compares what `solve` found with brute force.

    Returns:
      What was found, as it is counted; "" if no equilibrium was found and none is known.
      What is wrong; "" if nothing.
    """
    family, (close, eps) = FAMILIES[name], tolerances(found.profile)
    s = found.profile.astype(float)
    if found.converged:
        gap, stake = gaps(family, d, s)
        if np.any(gap > close * stake + 8 * eps * np.abs(d["value"])):
            return "certified", f"certified {s}, but deviations gain {gap} at stakes {stake}"
        return "certified", ""
    if found.status == solvers.NOT_TOLD:
        return "not told", ""
    if not family.promised and in_turn(family, d, rng) is None:
        return "", ""
    if family.promised or name.startswith(("(", "sigmoid")):
        return "missed", f"none found ({found.status}), ended at {s}, and there is one"
    return "missed", ""


def compare_gaps(name: str, d: Numbers, s: np.ndarray, evidence: Any) -> list[str]:
    """What is wrong with the Nash gaps that the certificate gives at a random profile s."""
    family, (close, eps) = FAMILIES[name], tolerances(evidence.gap)
    gap, stake = gaps(family, d, s)
    slack = close * stake + 32 * eps * np.abs(d["value"])
    attained = np.zeros(N)
    for i in range(N):
        payoff, cost = parts(family, d, i, np.array([s[i], evidence.response[i]]), s)
        now, there = payoff - cost
        attained[i] = there - now
    problems = []
    if np.any(evidence.gap < gap - slack):
        problems.append(f"at {s} gaps are {gap}, the certificate says {evidence.gap}")
    if "jumps" not in name and "steps" not in name and np.any(evidence.gap > attained + slack):
        problems.append(f"at {s} gaps of {evidence.gap} are not attained: {attained}")
    return problems


def compare_rescaled(
    d: Numbers, found: equilibria.Equilibrium, again: equilibria.Equilibrium, places: np.ndarray, unit: float
) -> str:
    """What is wrong with the equilibrium of the game in other units and another order; "" if nothing."""
    close, _ = tolerances(found.profile)
    s, t = found.profile.astype(float), again.profile[places] / unit
    size = np.max(np.abs(s)) + np.max(np.abs(t)) + 1e-9 * np.max(d["capacity"])
    moved = np.any(np.abs(s - t) > 1e3 * close * size)
    if again.status == found.status and not moved:
        return ""
    return (
        f"{found.status} at {s}, rescaled {again.status} at {t} (gaps {again.nash_gap}, stakes {again.stake})"
    )


def compare(name: str, count: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Counts of games of one family by what was found, and a line for every disagreement."""
    family, rng = FAMILIES[name], np.random.default_rng([seed, *name.encode()])
    drawn = [draw(family, rng) for _ in range(count)]
    random = [rng.uniform(0, d["capacity"]) * (rng.random(N) < 0.8) for d in drawn]
    other = [rescaled(family, d, rng) for d in drawn]
    solve = jax.jit(lambda d: solvers.solve(build(family, d)))

    @jax.jit
    def look(d: dict, s: jax.Array) -> tuple:
        game = build(family, d)
        return solvers.solve(game), certificates.examine(game, s)

    counts, wrong = {"certified": 0, "missed": 0, "not told": 0}, []
    # One game after the other: in a batch every loop runs as long as the slowest game needs.
    for k, (d, s, (moved, places, unit)) in enumerate(zip(drawn, random, other, strict=True)):
        found, evidence = jax.device_get(look(d, s))
        again = jax.device_get(solve(moved))
        verdict, problem = compare_equilibrium(name, d, found, rng)
        if verdict:
            counts[verdict] += 1
        problems = [
            problem,
            *compare_gaps(name, d, s, evidence),
            compare_rescaled(d, found, again, places, unit),
        ]
        wrong += [f"{name} {k}: {problem}" for problem in problems if problem]
    return counts, wrong


def law_with_power_costs(rng: np.random.Generator, shift: float, steep: float) -> Numbers:
    """A power law with strictly convex costs, for which everything can be written out."""
    d = draw(FAMILIES["(3) clipped"], rng) | draw_power(shift, steep)(rng)
    exponent = rng.uniform(1.2, 3, N)
    price = 10 ** rng.uniform(-4, -0.5, N)
    return d | {"exponent": exponent, "rate": price * d["capacity"] ** (1 - exponent) / exponent}


def wanted_at(d: Numbers, zero: np.ndarray, total: np.ndarray) -> np.ndarray:
    """[..., n] contributions at which marginal costs equal marginal payoffs, at totals [...]."""
    total = np.maximum(np.asarray(total, float)[..., None], 1e-30)
    slope = np.where(total > zero, d["scale"] * d["power"] * total ** (-d["power"] - 1), 0.0)
    price = d["value"] * d["quality"] * slope / (d["rate"] * d["exponent"])
    return np.minimum(price ** (1 / (d["exponent"] - 1)), d["capacity"])


def compare_all_equilibria(count: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """`solve_all` against a scan of all totals, for those where the contributions wanted cross the total."""
    family, rng, wrong, several = FAMILIES["(3) clipped"], np.random.default_rng(seed), [], 0
    for k in range(count):
        d = law_with_power_costs(rng, 0.0, 4.0)
        w, zero = d["quality"], (d["scale"] / d["best"]) ** (1 / d["power"])  # [n] totals where payoffs begin
        wanted = functools.partial(wanted_at, d, zero)
        most = w @ d["capacity"]
        turns = np.concatenate([zero * (1 - 1e-12), zero * (1 + 1e-12)])  # contributions wanted jump there
        totals = np.unique(np.concatenate([np.geomspace(1e-9, most, 8001), turns[turns < most]]))
        excess = wanted(totals) @ w - totals
        falls = np.flatnonzero((excess[:-1] > 0) & (excess[1:] <= 0))
        low, high = totals[falls], totals[falls + 1]
        for _ in range(60):  # bisections of all crossings at once
            middle = (low + high) / 2
            is_below = wanted(middle) @ w > middle
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        candidates = [np.zeros(N), *wanted(high)]
        if excess[-1] >= -1e-12 * totals[-1]:
            candidates.append(d["capacity"])
        expected = []
        for s in candidates:
            gap, stake = gaps(family, d, s)
            total = float(w @ s)
            known = any(abs(total - other) <= 1e-9 * total for other in expected)
            if np.all(gap <= 1e-7 * stake + 1e-15) and not known:
                expected.append(total)
        listed = equilibria.solve_all(build(family, d))
        found = [float(w @ one.profile) for one in listed]
        several += len(found) > 1
        if len(found) != len(expected) or not np.allclose(
            found, sorted(expected)[::-1], rtol=1e-6, atol=1e-9
        ):
            wrong.append(f"all equilibria {k}: totals {found}, by a scan {expected}")
    return {"with several": several}, wrong


def compare_boxes(count: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Rigorous λ and L of power laws with power costs against Jacobians, written out, at random profiles."""
    rng, wrong, positive = np.random.default_rng(seed), [], 0
    for k in range(count):
        d = law_with_power_costs(rng, float(rng.choice([1.0, 3.0])), 0.5)
        d["exponent"] = rng.uniform(2, 3, N)
        game = games.check(build(FAMILIES["power law"], d))
        low, high = np.sort(rng.uniform(0, d["capacity"], (2, N)), axis=0)
        known = conditions.bounds(game, jnp.asarray(low), jnp.asarray(high))
        if known is None:  # somebody's payoff becomes positive within the box
            continue
        positive += known.strong_concavity > 0
        for s in np.concatenate([[low, high], rng.uniform(low, high, (30, N))]):
            total = d["quality"] @ s + d["shift"]
            steep = d["scale"] * d["power"] * (d["power"] + 1) * total ** (-d["power"] - 2)
            bend = d["rate"] * d["exponent"] * (d["exponent"] - 1) * s ** (d["exponent"] - 2)
            matrix = -np.outer(d["value"] * d["quality"] * steep, d["quality"]) - np.diag(bend)
            strong = -np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
            most = np.abs(matrix).max()
            if known.strong_concavity > strong + 1e-12 * most or known.derivative < most * (1 - 1e-12):
                wrong.append(f"boxes {k}: at {s} λ = {strong}, L = {most}, but bounds are {known}")
    return {"with λ > 0": positive}, wrong


def compare_first_best(count: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """The largest sum of utilities, which is said to be proved, against random profiles and ones close by."""
    family, rng, wrong = FAMILIES["(3) clipped"], np.random.default_rng(seed), []
    for k in range(count):
        d = draw(family, rng)
        found = mechanisms.first_best(build(family, d))
        best = np.asarray(found.profile)
        shares = np.concatenate(
            [rng.random((1000, N)), rng.random((1000, N)) ** 8 * (rng.random((1000, N)) < 0.6)]
        )
        tried = np.concatenate([shares * d["capacity"], [0 * best], [d["capacity"]]])
        near = np.clip(best * (1 + 1e-2 * rng.normal(size=(500, N))), 0, d["capacity"])
        tried = np.concatenate([tried, near, [best]])
        total = tried @ d["quality"]
        sums = np.zeros(len(tried))
        for i in range(N):
            cost = d["rate"][i] * tried[:, i] ** d["exponent"][i] + d["fixed"][i]
            sums += d["value"][i] * power(d, i, total) - cost
        if np.max(sums) > found.welfare + 1e-9 * d["value"].sum() or abs(sums[-1] - found.welfare) > 1e-9:
            wrong.append(f"first best {k}: {found}, but {tried[np.argmax(sums)]} has {np.max(sums)}")
    return {}, wrong


def compare_who_leaves(count: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Who leaves without payments, or with the rate 1 - 1/n, against the same in other currency and order."""
    family, rng, wrong, left = FAMILIES["power law"], np.random.default_rng(seed), [], 0
    for k in range(count):
        d = draw(family, rng)
        d["fixed"] = d["value"] * rng.uniform(0, 0.5, N) * (rng.random(N) < 0.5)
        rule = mechanisms.rules.falkinger if k % 2 else mechanisms.rules.none
        one = mechanisms.participation(build(family, d), rule)
        order, money = rng.permutation(N), 10 ** rng.uniform(-9, 9)
        e = {name: x[order] for name, x in d.items()}
        e |= {name: e[name] * money for name in ("value", "rate", "fixed")}
        two = mechanisms.participation(build(family, e), rule)
        left += len(one.left) > 0
        if sorted(order[two.left]) != sorted(one.left) or one.certified != two.certified:
            wrong.append(
                f"who leaves {k}: {one.left} by {one.shortfall}, else {order[two.left]} by {two.shortfall}"
            )
    return {"where somebody leaves": left}, wrong


CHECKS = {
    "all equilibria": compare_all_equilibria,
    "boxes": compare_boxes,
    "first best": compare_first_best,
    "who leaves": compare_who_leaves,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--games", type=int, default=5000, help="games of every family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=[*FAMILIES, *CHECKS], help="only this one")
    parser.add_argument("--show", type=int, default=5, help="disagreements printed for every family")
    parser.add_argument("--float32", action="store_true", help="single precision; families of games only")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", not options.float32)
    names = list(FAMILIES)
    if not options.float32:
        names += CHECKS
    if options.family:
        names = [options.family]
    total = 0
    for name in names:
        begin = time.perf_counter()
        check = CHECKS.get(name, functools.partial(compare, name))
        counts, wrong = check(options.games, options.seed)
        total += len(wrong)
        said = "".join(f"{key} {value}, " for key, value in counts.items())
        spent = time.perf_counter() - begin
        print(
            f"{name:28}{options.games} games: {said}disagreements {len(wrong)}  ({spent:.0f} s)", flush=True
        )
        print("".join(f"    {line}\n" for line in wrong[: options.show]), end="", flush=True)
    print(f"disagreements: {total}")
    sys.exit(total > 0)


if __name__ == "__main__":
    main()
