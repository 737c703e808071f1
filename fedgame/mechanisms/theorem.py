"""Theorem 4.1, checked on a game: is the equilibrium of M_β one that maximises the p-mean?

The proof (Lemma 3) takes multipliers (24)-(25) and checks (26), which follows from the KKT conditions
(20) and (21) of program (19) but does not imply (21). With quasi-linear utility and p = 1, (20) and (21)
force equal costs. So where costs differ the theorem can fail; `audit` says whether it does, with every
residual."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria
from fedgame.equilibria import certificates
from fedgame.games import game as games
from fedgame.mechanisms import budgets, optimum, refunds, welfare

_TOLERANCE = 1e-6  # relative: below it residuals count as 0 and welfare as equal


class Kkt(NamedTuple):
    """Multipliers of program (19) at an equilibrium, and how far each condition is from holding.

    Residuals are relative to the size of the terms of their equation.
    """

    mu: np.ndarray  # [n] μ_i by (24)
    gamma: np.ndarray  # [n] γ_i by (25)
    lagrange: np.ndarray  # [n] λ_i ≥ 0 of (16)-(18), the multiplier of b_i ≥ 0 in her own program (5)
    residuals: dict[str, float]  # "(16)", "(20)", "(21)", "(22)", "(23)", "(26)"

    @property
    def holds(self) -> bool:
        """Whether (20)-(23) hold, which for s > 0 and concave utilities proves a maximum."""
        return all(self.residuals[name] <= _TOLERANCE for name in ("(20)", "(21)", "(22)", "(23)"))


class Audit(NamedTuple):
    """What Theorem 4.1 says of a game, and what is true."""

    beta: float
    p: float
    profile: np.ndarray  # [n] the equilibrium
    nash_gap: float
    certified: bool  # whether it is an equilibrium
    positive: bool  # s > 0, as the theorem requires
    utilities: np.ndarray  # [n]
    welfare: float  # W_p at the equilibrium, normalised
    optimum: optimum.Optimum  # of program (7)
    kkt: Kkt | None  # None unless s > 0, β < 1, p > -∞, and W_p has derivatives there
    verdict: str

    @property
    def gap(self) -> float:
        """How much more W_p the optimum has."""
        return self.optimum.welfare - self.welfare

    def __str__(self) -> str:
        best = f"optimum of (7): W_p = {self.optimum.welfare:.6g}, at most {self.optimum.bound:.6g}"
        if not self.optimum.concave:
            best += " if utilities were concave, which they are not"
        if self.optimum.attained is False:  # None: it is not known
            best += "; approached by s > 0, not attained"
        lines = [
            f"M_β with β = {self.beta:.6g}, p = {self.p:g}: {self.verdict}",
            f"equilibrium: W_p = {self.welfare:.6g}, largest Nash gap {self.nash_gap:.1e}",
            best,
        ]
        if self.kkt:
            lines.append("KKT residuals: " + ", ".join(f"{k} {v:.1e}" for k, v in self.kkt.residuals.items()))
        return "\n".join(lines)


def audit(
    game: games.Game | budgets.BudgetGame, beta: float, p: float, budget: Any = None, profile: Any = None
) -> Audit:
    """Compares the equilibrium of M_β with the welfare optimum of program (7).

    Args:
      game: payoffs of S and linear costs; or the general model with budgets.
      beta: β in [0, 1]; Theorem 4.1 is about β*.
      p: in [-∞, 1].
      budget: B_i, one number or [n], currency: adds the constraint b_i ≥ 0, and B_i to utilities. None:
        neither.
      profile: the equilibrium to audit: [n] samples, or an `Equilibrium` of M_β, whose certificate is taken
        over unless there are budgets. None: one is solved for, in which agents who are indifferent
        contribute equal shares.

    Returns:
      The equilibrium, the optimum, the KKT residuals of (20)-(26), and a verdict in words.

    Raises:
      ValueError: another model than Section 4's, fewer than two agents, p, β, a budget or the profile out
        of range, W_p undefined everywhere, or no profile that everybody can afford.
    """
    general = game
    if isinstance(game, games.Game):
        general = budgets.with_budgets(game, 0.0 if budget is None else budget)
    elif budget is not None:
        raise ValueError("`budget` is for games without one: a `BudgetGame` has its own")
    if general.n < 2 or np.ndim(beta):
        raise ValueError(f"M_β needs at least two agents and one β for all, got {general.n} and {beta}")
    refunds.check_beta(beta, general.n)
    bounded = general is game or budget is not None
    if profile is None:
        s, gap, certified = _equilibrium(game, general, beta, bounded)
    else:
        s, gap, certified = _given(game, general, beta, bounded, profile)
    u = _utilities(general, beta, s)
    best = optimum.maximize_welfare(general if bounded else game, beta, p)
    value = float(welfare.p_mean(u, p))
    # A local search that began elsewhere may end below the equilibrium; NaN: W_p is undefined there.
    if value - best.welfare > 1e-9 * abs(value):
        best = optimum.maximize_welfare(general if bounded else game, beta, p, start=s)
    positive = bool(jnp.all(s > 1e-9 * jnp.max(s)))
    smooth = -np.inf < p and beta < 1 and (p == 1 or value > 0)
    kkt = kkt_residuals(general, beta, p, s, bounded) if positive and smooth else None
    found = Audit(
        beta=float(beta),
        p=p,
        profile=np.asarray(s),
        nash_gap=float(jnp.max(gap)),
        certified=bool(certified),
        positive=positive,
        utilities=np.asarray(u),
        welfare=value,
        optimum=best,
        kkt=kkt,
        verdict="",
    )
    return found._replace(verdict=_verdict(general, found))


_certify = jax.jit(certificates.certify)
_solve_budgets, _certify_budgets = jax.jit(budgets.solve), jax.jit(budgets.certify)
_utilities, _unspent, _marginals = map(jax.jit, (budgets.utilities, budgets.unspent, budgets.marginals))
_weight = jax.jit(jax.grad(welfare.p_mean), static_argnums=1)  # ∂W_p/∂u_i


def _equilibrium(
    game: Any, general: budgets.BudgetGame, beta: float, bounded: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A profile, [n], its Nash gaps, [n], and whether it is an equilibrium.

    An equilibrium that everybody can afford is one with budgets too. If somebody cannot, best responses
    under budgets start from it, and if they find no equilibrium, from their own start.
    """
    starts = [None]
    if isinstance(game, games.Game):
        found = equilibria.solve(refunds.under_mechanism(game, beta))
        if not bounded or jnp.all(_unspent(general, beta, found.profile) >= 0):
            return found.profile, found.nash_gap, found.converged
        starts = [found.profile, None]
    for start in starts:
        found = _solve_budgets(general, jnp.asarray(beta, float), start)
        if found.converged:
            break
    return found.profile, jnp.where(found.stranded, jnp.inf, found.nash_gap), found.converged


def _given(game: Any, general: budgets.BudgetGame, beta: float, bounded: bool, profile: Any) -> tuple:
    """As `_equilibrium`, for a profile or an `Equilibrium` that the caller gives."""
    known = isinstance(profile, equilibria.Equilibrium)
    s = games.as_profile(profile.profile if known else profile)
    if s.shape != (general.n,) or not jnp.all((s >= 0) & (s <= general.capacity * (1 + 1e-9))):
        raise ValueError(f"`profile` must be {general.n} numbers from 0 to the capacities, got {s}")
    if bounded:
        return s, *_examined(general, beta, s)
    if known:
        return s, profile.nash_gap, profile.converged
    evidence, certified = _certify(refunds.under_mechanism(game, beta), s)
    return s, evidence.gap, certified


def _examined(general: budgets.BudgetGame, beta: float, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nash gaps of a profile, [n], and whether it is certified; ∞ for agents without a feasible action."""
    gap, stranded, certified = _certify_budgets(general, jnp.asarray(beta, float), s, _TOLERANCE)
    return jnp.where(stranded, jnp.inf, gap), certified


def kkt_residuals(game: budgets.BudgetGame, beta: float, p: float, s: Any, bounded: bool = True) -> Kkt:
    """The multipliers (24)-(25) of program (19) at a profile, and the residuals of its KKT conditions.

    W_p is the normalised one; without the 1/n all multipliers are n^(1/p) times as large. With equal costs
    and β = 1 - 1/n, (24) is 0/0 and (20) only determines Σ μ_i. The result is then the μ that (21) asks for
    in the limit, μ_i = ∂W_p/∂u_i (∂u_i/∂b_i + λ_i).

    Args:
      game: the general model; `budgets.with_budgets` makes the quasi-linear one.
      beta: β in [0, 1).
      p: finite, at most 1; utilities at s are positive.
      s: [n] profile, s > 0.
      bounded: whether b_i ≥ 0 is a constraint.

    Raises:
      ValueError: β or p out of range.
    """
    if not (0 <= beta < 1 and -np.inf < p <= 1):
        raise ValueError(f"(20)-(26) need 0 ≤ β < 1 and finite p ≤ 1, got β = {beta} and p = {p}")
    s, n, c = games.as_profile(s), game.n, np.asarray(game.rate)
    by_money, by_data = (np.asarray(x) for x in _marginals(game, beta, s))
    b, weight = np.asarray(_unspent(game, beta, s)), np.asarray(_weight(_utilities(game, beta, s), p))
    money = np.asarray(game.budget) + float(np.sum(c * s))
    spends_all = bounded & (b <= 1e-9 * money)
    price = (1.0 - beta) * c
    lagrange = np.where(spends_all, np.maximum(by_data / price - by_money, 0.0), 0.0)
    alpha = float(weight @ by_data)
    share = (1 / c) / np.sum(1 / c)
    rest = 1.0 - beta * n / (n - 1)  # 0 if β = 1 - 1/n
    if abs(rest) < 1e-9 and np.ptp(share) < 1e-9 / n:
        mu = weight * (by_money + lagrange)
    elif abs(rest) > 1e-12:
        mu = alpha * np.sum(1 / c) * (share - beta / (n - 1)) / rest
    else:  # β = 1 - 1/n and unequal costs: there are no such multipliers
        mu = np.full(n, np.nan)
    gamma = mu * lagrange / (lagrange + by_money)
    common = c * (mu * (1.0 - beta) + beta / (n - 1) * (np.sum(mu) - mu))
    size = np.max(np.abs(mu))

    def relative(difference: Any, scale: Any) -> float:
        return float(np.max(np.abs(difference) / scale))

    residuals = {
        "(16)": relative(by_data - price * (by_money + lagrange), np.abs(by_data)),
        "(20)": relative(alpha - common, abs(alpha)),
        "(21)": relative(weight * by_money - (mu - gamma), size),
        "(22)": relative(np.minimum(gamma, 0.0), size),
        "(23)": relative(gamma * b, size * money),
        "(26)": relative(np.sum((mu - gamma) * by_data / by_money) - common, abs(alpha)),
    }
    return Kkt(mu, gamma, lagrange, residuals)


def _verdict(game: budgets.BudgetGame, found: Audit) -> str:
    """What the numbers of an audit say, in words."""
    # Constants in utilities are not at stake: welfare is compared with what contributing changes.
    idle = np.asarray(_utilities(game, found.beta, jnp.zeros(game.n)))
    size, moved = float(np.max(np.abs(found.utilities))), float(np.max(np.abs(found.utilities - idle)))
    tolerance = _TOLERANCE * (moved if np.isfinite(moved) else size) + 64 * np.finfo(float).eps * size
    if not found.certified:
        stranded = np.flatnonzero(np.asarray(_unspent(game, found.beta, found.profile)) < 0).tolist()
        if np.isinf(found.nash_gap) and stranded:
            who = f"agents {stranded[:10]} cannot pay what the costs of others oblige them to"
            return f"no equilibrium was found: {who}"
        return "no equilibrium was found, so there is nothing to compare"
    if np.isnan(found.welfare):
        agents = welfare.undefined(found.utilities, found.p)
        return f"W_p is undefined at the equilibrium: negative utility of agents {agents[:10]}"
    if found.gap > tolerance:
        maximal = f"does not maximise W_p: a feasible profile has {found.gap:.6g} more"
    elif found.optimum.concave and found.optimum.bound - found.welfare <= tolerance:
        maximal = "maximises W_p: proved"
    else:
        maximal = "maximises W_p as far as was found, which is no proof"
    is_beta_star = abs(found.beta - float(refunds.beta_star(np.asarray(game.rate)))) <= 1e-9
    if not is_beta_star:
        return f"the equilibrium {maximal}. (Theorem 4.1 is about β*, and says nothing of this β.)"
    if not found.positive:
        agents = np.flatnonzero(found.profile <= 1e-9 * np.max(found.profile)).tolist()
        return (
            f"Theorem 4.1 says nothing, as agents {agents[:10]} contribute nothing; the equilibrium {maximal}"
        )
    if np.any(found.profile >= np.asarray(game.capacity) * (1 - 1e-9)):
        binding = "it knows no capacities and here some bind"
        return f"Theorem 4.1 says nothing, as {binding}; the equilibrium {maximal}"
    says = "Theorem 4.1 FAILS here" if found.gap > tolerance else "Theorem 4.1 holds here"
    return f"{says}: the equilibrium has s > 0 and {maximal}"
