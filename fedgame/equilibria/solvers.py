"""Equilibria, found by a method that fits the payoff, certified, and put into words."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.equilibria import certificates, dynamics, pivoting, responses, total
from fedgame.games import game as games
from fedgame.registry import option

_SWEEPS = 1_000  # default maximum of best-response sweeps
_STEPS = 10_000  # default maximum of steps of the dynamics
METHODS = ("root in S", "separable", "pivoting", "Gauss-Seidel", "dynamics")

UNIQUE, ISOLATED, TOTAL_ONLY, INDIFFERENT, LARGEST, GRID, LIMIT, NOT_FOUND, NOT_FINITE, NOT_TOLD = range(10)
MEANING = {
    UNIQUE: "certified equilibrium, the only one",
    ISOLATED: "certified equilibrium; that it is the only one is not claimed",
    TOTAL_ONLY: "certified equilibrium of which only the total is determined: agents who are indifferent to "
    "their last samples contribute equal shares of their capacities, or of what they can bear",
    INDIFFERENT: "certified equilibrium; not the only one, nor is the total: somebody is indifferent between "
    "contributing more and less",
    LARGEST: "certified equilibrium with the largest total; others exist (`solve_all` lists them)",
    GRID: f"equilibrium, certified up to a grid of {certificates.POINTS:,} contributions of every agent: "
    "a gain that hides between two of them is not excluded, nor are other equilibria",
    LIMIT: "certified up to any ε > 0, but no exact equilibrium: the best of somebody is approached at a "
    "jump of her payoff, and no contribution attains it",
    NOT_FOUND: "no equilibrium found: somebody gains by deviating",
    NOT_FINITE: "no equilibrium found: the profile or a utility is not a finite number",
    NOT_TOLD: "whether it is an equilibrium cannot be told: utilities are so large beside what decisions "
    "move that rounding hides it",
}


@registry.family
class Equilibrium:
    """A profile and what is known about it.

    Attributes:
      profile: [n] contributions, samples.
      nash_gap: [n] the maximum that each agent gains by deviating, in her currency, from `certificates`.
      stake: [n] the maximum change that her own decision makes, in her currency; gaps are measured by it.
      response: [n] a best contribution of each agent, samples.
      limit: [n] +1 (-1) where her supremum is approached just above (below) a jump but not attained; else 0.
      residual: how far the solver's own equation is from holding (root in S: samples between S and
        what agents want at S; Gauss-Seidel: largest relative change in the last sweep; dynamics:
        ‖g(s, μ)‖₂; separable: 0).
      steps: totals evaluated, best-response sweeps, or steps of the dynamics.
      converged: whether every Nash gap is at most tolerance · stake, and rounding hides none; False if a
        utility, gap or stake is not finite.
      unique: whether it is proved to be the only equilibrium.
      status: a key of `MEANING`; `describe` puts it into words.
      method: how it was found, one of `METHODS`.
    """

    profile: jax.Array
    nash_gap: jax.Array
    stake: jax.Array
    response: jax.Array
    limit: jax.Array
    residual: jax.Array
    steps: jax.Array
    converged: jax.Array
    unique: jax.Array
    status: jax.Array
    method: str = option("how it was found", static=True)


@registry.family
class Found:
    """What a solver returns, not certified yet. `status` is what it will be if the certificate holds.

    Attributes as those of `Equilibrium`.
    """

    profile: jax.Array
    residual: jax.Array
    steps: jax.Array
    status: jax.Array


def solve(
    game: games.Game,
    start: jax.Array | None = None,
    steps: int | None = None,
    tolerance: float = 1e-6,
    method: str | None = None,
) -> Equilibrium:
    """Finds an equilibrium and certifies it. Works under `jax.jit` and `jax.vmap`.

    Payoffs of S alone: the exact root in S, whatever the number of agents; with clipped (2) or (3) the
    one with the largest total; with any function of S, best responses in turn from that root, where they
    end at once if it is an equilibrium. Separable payoffs: everybody's best response (Theorem A.1). Concave
    payoffs of effective samples, outside jit: complementary pivoting. Others: best responses in turn, with
    Newton's method for up to 256 agents. If payoffs are concave there is an
    equilibrium by Theorem 3.1; else `converged` says whether one was found.

    Args:
      game: n agents.
      start: [n] first profile of methods that need one, samples; None is half of every capacity.
      steps: maximum number of steps of the dynamics (None: 10,000), or of sweeps (None: 1,000).
      tolerance: of Nash gaps, relative to what each agent's own decision changes (`Equilibrium.stake`).
      method: one of `METHODS`; None chooses as above.

    Raises:
      ValueError: an unknown method, or one that does not fit the payoff.
      ArithmeticError: `method` is "pivoting", and its path is too long or lost by rounding.
    """
    if _traced((game, start)):
        return _solve(game, start, tolerance, steps=steps, method=method)
    if (method or _method_for(game)) == "pivoting":
        try:
            by_pivoting, name = find(game, method="pivoting")
            found = _certify(game, by_pivoting, method=name, tolerance=tolerance)
            if found.converged or method:
                return _the_only_one(game, found)
        except ArithmeticError:  # the path was lost
            if method:
                raise
    return _the_only_one(game, _solve(game, start, tolerance, steps=steps, method=method))


def _traced(tree: Any) -> bool:
    """Whether numbers are being traced, as inside jit: some of these, or, around a constant game, any."""
    return any(isinstance(x, jax.core.Tracer) for x in [jnp.zeros(()), *jax.tree.leaves(tree)])


@functools.partial(jax.jit, static_argnames=("steps", "method"))
def _solve(
    game: games.Game, start: jax.Array | None, tolerance: float, steps: int | None, method: str | None
) -> Equilibrium:
    """Compiled once for all games of a kind: outside jit JAX would compile its loops at every call."""
    found, name = find(game, start, steps, method)
    starts = total.pays_from(game) if name == "root in S" and game.concave else None
    return _certified(game, found, name, tolerance, starts)


def find(
    game: games.Game, start: jax.Array | None = None, steps: int | None = None, method: str | None = None
) -> tuple[Found, str]:
    """What `solve` does before it certifies: returns the profile found and the name of the method.

    Args and errors as `solve`.
    """
    name = method or _method_for(game)
    if name not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {method!r}")
    if name in ("root in S", "separable", "pivoting") and name != _method_for(game):
        where = ", or is not for use inside jit" if pivoting.applies(game) else ""
        raise ValueError(f"`method` {name!r} does not fit {type(game.payoff).__name__}{where}")
    game = game.replace(capacity=jnp.asarray(game.capacity, float))
    start = game.capacity / 2 if start is None else start
    status = jnp.asarray(ISOLATED if game.concave else GRID)
    if name == "root in S":
        if game.concave:
            root = total.largest_root(game)
            return Found(root.profile, root.residual, root.steps, _status(root, UNIQUE)), name
        first = total.root_of_any(game).profile
        found = responses.run(game, first, steps or _SWEEPS, settle=total.settled)
        return Found(*found, status), name
    if name == "pivoting":
        try:
            profile, change, pivots = pivoting.find(game)
            return Found(jnp.asarray(profile), jnp.asarray(change), jnp.asarray(pivots), status), name
        except ArithmeticError:
            if method:
                raise
            name = "Gauss-Seidel"
    if name == "separable":
        profile = games.over_agents(responses.respond)(game, jnp.zeros_like(game.capacity))
        return Found(profile, jnp.zeros(()), jnp.asarray(1), status), name
    if name == "Gauss-Seidel":
        return Found(*responses.run(game, start, steps or _SWEEPS), status), name
    tolerance = max(1e-12, 8 * float(jnp.finfo(start.dtype).eps))
    state, taken = dynamics.run(game, start, steps or _STEPS, tolerance)
    return Found(state.profile, state.residual, taken, status), name


def _the_only_one(game: games.Game, found: Equilibrium) -> Equilibrium:
    """`found` with the claim that it is the only one, where the payoff proves that. Outside jit."""
    if int(found.status) != ISOLATED or not game.payoff.only_equilibrium(game):
        return found
    return found.replace(status=jnp.asarray(UNIQUE), unique=jnp.asarray(True))


def certified(game: games.Game, profile: jax.Array, tolerance: float = 1e-6) -> Equilibrium:
    """Certifies a profile that `solve` did not find: `converged` says whether it is an equilibrium.

    Args:
      game: n agents.
      profile: [n] samples.
      tolerance: as in `solve`.
    """
    status = jnp.asarray(ISOLATED if game.concave else GRID)
    found = Found(games.as_profile(profile), jnp.zeros(()), jnp.asarray(0), status)
    return _certified(game, found, "announced", tolerance)


def solve_all(game: games.Game, tolerance: float = 1e-6) -> list[Equilibrium]:
    """Every equilibrium total of a game with payoffs of S, each with a certified profile, the largest first.

    The candidates are one total between any two neighbouring z_i, the totals from which agents' payoffs are
    positive (see `total`), and S₀. Where only the total is determined, indifferent agents contribute equal
    shares of their capacities. Not for use inside jit.

    Args:
      game: n agents.
      tolerance: as in `solve`.

    Raises:
      ValueError: the payoff is not one of the total, or is not known to be concave.
    """
    if not (game.payoff.of_total and game.concave):
        raise ValueError("`solve_all` needs a payoff of the total that is known to be concave from some S on")
    game = games.check(game)
    between = jax.jit(total.root_between)
    starts = np.asarray(total.pays_from(game))
    # A little more than everybody's capacities: compiled in another expression the same sum may round up.
    upper = total.most(game) * (1.0 + 1e-12)
    ends = np.unique([*starts[np.isfinite(starts) & (starts > game.held)], game.held])
    descending = ends[(ends < upper) | (ends == game.held)][::-1]
    found, doubtful = [], False
    for lower in descending:
        root = between(game, lower, upper)
        one = Found(root.profile, root.residual, root.steps, _status(root, ISOLATED))
        certified = _certify(game, one, method="root in S", tolerance=tolerance)
        if np.isfinite(root.total) and certified.converged:
            found.append(certified)
        elif np.isfinite(root.total):
            # Another split of this total may be an equilibrium, or rounding hides that this one is.
            doubtful |= bool(root.ties > 1 or int(certified.status) == NOT_TOLD)
        upper = lower
    if all(jnp.any(one.profile > 0) for one in found):
        # The profile in which nobody contributes is another candidate, unless it was found above.
        nothing = Found(jnp.zeros(game.n), jnp.zeros(()), jnp.asarray(0), jnp.asarray(ISOLATED))
        nobody = _certify(game, nothing, method="root in S", tolerance=0.0)
        if nobody.converged:
            found.append(nobody)
    if len(found) == 1 and found[0].status == ISOLATED and not doubtful:
        return [found[0].replace(status=jnp.asarray(UNIQUE), unique=jnp.asarray(True))]
    return found


def describe(equilibrium: Equilibrium) -> str:
    """The status in words, with method, steps and the largest Nash gap; one line. Not for use inside jit."""
    gap = float(np.max(np.asarray(equilibrium.nash_gap)))
    text = (
        f"{MEANING[int(equilibrium.status)]} ({equilibrium.method}, {int(equilibrium.steps)} steps, "
        f"largest Nash gap {gap:.1e})"
    )
    if int(equilibrium.status) != LIMIT:
        return text
    limits = np.asarray(equilibrium.limit)
    agent = int(np.flatnonzero(limits)[0])
    side = "above" if limits[agent] > 0 else "below"
    return f"{text}: agent {agent}'s best is just {side} {float(equilibrium.response[agent]):.10g}"


def _method_for(game: games.Game) -> str:
    if game.payoff.of_total:
        return "root in S"
    if game.payoff.separable:
        return "separable"
    return "pivoting" if pivoting.applies(game) and not _traced(game) else "Gauss-Seidel"


def _status(root: total.Root, otherwise: int) -> jax.Array:
    """The status of a root: `otherwise` unless somebody is indifferent."""
    tied = jnp.where(root.ties > 1, TOTAL_ONLY, otherwise)
    return jnp.where(root.flat, INDIFFERENT, tied)


def _certified(
    game: games.Game, found: Found, method: str, tolerance: float, starts: jax.Array | None = None
) -> Equilibrium:
    """Certifies a profile; where payoffs are 0 up to totals z_i, also checks the all-zero profile.

    Both certificates are turns of one loop: compiled once, and under vmap the second is not computed
    when no game needs it.

    Args:
      game: n agents.
      found: the profile and its supposed status.
      method: how it was found.
      tolerance: as in `solve`.
      starts: [n] z_i; None if the all-zero profile need not be checked.
    """
    profile = found.profile

    def turn(carry: tuple) -> tuple:
        k, evidence, good, _ = carry
        first = k == 0
        s = jnp.where(first, profile, jnp.zeros_like(profile))
        new = certificates.examine(game, s)
        nobody = ~first & certificates.holds(game, s, new, 0.0) & jnp.all(new.told)
        evidence = jax.tree.map(lambda new, kept: jnp.where(first, new, kept), new, evidence)
        good = jnp.where(first, certificates.holds(game, s, new, tolerance), good)
        return k + 1, evidence, good, nobody

    shapes = jax.eval_shape(certificates.examine, game, profile)
    unknown = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    carry = jnp.asarray(0), unknown, jnp.asarray(False), jnp.asarray(False)
    if starts is None:
        _, evidence, good, _ = turn(carry)
    else:
        # Whether the all-zero profile is another candidate.
        clipped = jnp.any(starts > game.held) & jnp.any(profile > 0)
        certificates_needed = 1 + clipped
        _, evidence, good, nobody = jax.lax.while_loop(lambda x: x[0] < certificates_needed, turn, carry)
        # With different z_i there may be one with a smaller total, at which some agents do not contribute.
        maybe_smaller = clipped & (jnp.max(starts) > jnp.min(starts))
        other = jnp.where(maybe_smaller & (found.status == UNIQUE), ISOLATED, found.status)
        found = found.replace(status=jnp.where(nobody, LARGEST, other))
    status = _verdict(game, found, evidence, good)
    return Equilibrium(
        profile=profile,
        nash_gap=evidence.gap,
        stake=evidence.stake,
        response=evidence.response,
        limit=evidence.limit,
        residual=found.residual,
        steps=found.steps,
        converged=good & jnp.all(evidence.told),
        unique=status == UNIQUE,
        status=status,
        method=method,
    )


_certify = jax.jit(_certified, static_argnames=("method", "tolerance"))


def _verdict(game: games.Game, found: Found, evidence: certificates.Evidence, good: jax.Array) -> jax.Array:
    """The status after certification: the solver's if the evidence proves it, else what is missing."""
    finite = jnp.all(
        certificates.finite(evidence) & jnp.isfinite(found.profile) & jnp.isfinite(game.capacity)
    )
    proved = jnp.where(jnp.any(evidence.limit != 0), LIMIT, found.status)
    told = jnp.where(jnp.all(evidence.told), proved, NOT_TOLD)
    return jnp.where(good, told, jnp.where(finite, NOT_FOUND, NOT_FINITE))
