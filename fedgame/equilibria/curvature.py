"""Bounds on the Jacobian G of Theorem 3.2 that hold on a whole box of profiles, from formulas.

G_ij = ∂²u_i/∂s_j∂s_i. For payoffs of the total G is a matrix of rank one less the diagonal of c_i'':
with y_i = v_i w_i |a_i''(S)| its payoff part is -y wᵀ, and the largest eigenvalue of the symmetric part
of that is (|y||w| - y·w) / 2 ≥ 0, and > 0 unless y is a multiple of w. So λ > 0 needs costs that are
curved more than that; linear costs have λ ≤ 0 whatever the payoff of S.
"""

import itertools
from typing import NamedTuple

import jax
import numpy as np

from fedgame.equilibria import total
from fedgame.games import costs, payoffs
from fedgame.games import game as games

_CELLS = 512  # the range of S is cut into so many, each bounded by its ends


class Bounds(NamedTuple):
    """What holds for every profile in the box."""

    strong_concavity: float  # λ: G + λI is negative semi-definite; ≤ 0 if no λ > 0 is shown to exist
    derivative: float  # L: no |G_ij| is larger
    formula: str  # where it comes from


def bounds(game: games.Game, low: jax.Array, high: jax.Array) -> Bounds | None:
    """Rigorous λ and L on the box [low, high], or None for a family without a formula.

    Args:
      game: checked.
      low, high: [n] samples.
    """
    bend = _cost_bend(game, low, high)
    if bend is None:
        return None
    least, most = bend
    payoff = game.payoff
    if isinstance(payoff, payoffs.LinearPayoff | payoffs.RandomDiscovery):
        part, text = (0.0, np.zeros(1), np.zeros(1)), "a_i is linear: G = -diag(c'')"
    elif isinstance(payoff, payoffs.RandomCoverage):
        part, text = _coverage(game, low), "Eq. (1): every term of G is largest at the low corner"
    elif isinstance(payoff, payoffs.PowerLaw | payoffs.MeasuredCurve):
        if np.any(np.asarray(total.pays_from(game)) > float(games.statistic(game, low))):
            return None  # a convex kink, where the clipped payoff becomes positive, lies in the box
        part, text = (
            _of_total(game, low, high),
            "payoff of S: G = -y wᵀ - diag(c''), |a''| bounded on cells of S",
        )
    else:
        return None
    eigenvalue, own, others = part
    largest = max(float(np.max(own + most)), float(np.max(others)))
    return Bounds(float(np.min(least)) - eigenvalue, largest, text)


def _cost_bend(game: games.Game, low: jax.Array, high: jax.Array) -> tuple[np.ndarray, np.ndarray] | None:
    """The least and largest c_i'' on the box, [n] each; None where the cost has kinks."""
    if isinstance(game.cost, costs.LinearCost):
        return np.zeros(game.n), np.zeros(game.n)
    if not isinstance(game.cost, costs.PowerCost):
        return None
    rate, x = game.cost.rate, game.cost.exponent
    with np.errstate(divide="ignore", invalid="ignore"):  # c'' is a power of s: its extremes are at the ends
        ends = [np.asarray(rate * x * (x - 1)) * np.asarray(s) ** np.asarray(x - 2.0) for s in (low, high)]
    flat = np.broadcast_to(np.asarray((x == 1) | (rate == 0)), (game.n,))
    ends = [np.where(flat, 0.0, end) for end in ends]
    return np.minimum(*ends), np.maximum(*ends)


def _of_total(game: games.Game, low: jax.Array, high: jax.Array) -> tuple[float, np.ndarray, np.ndarray]:
    first, last = float(games.statistic(game, low)), float(games.statistic(game, high))
    if first <= 0 and np.any(np.asarray(_steepness(game, 0.0, 0.0)[1]) == np.inf):
        return np.inf, np.full(1, np.inf), np.full(1, np.inf)
    edges = np.concatenate(
        [[first], np.geomspace(max(first, 1e-6 * last, 1e-300), max(last, 1e-300), _CELLS)]
    )
    quality = np.broadcast_to(np.asarray(game.quality), (game.n,))
    weight = np.asarray(game.value) * quality
    eigenvalue = 0.0
    for a, b in itertools.pairwise(edges):
        least, most = (weight * y for y in _steepness(game, a, b))
        eigenvalue = max(eigenvalue, _largest_eigenvalue(least, most, quality))
    _, most = _steepness(game, first, last)
    return eigenvalue, weight * most * quality, np.max(weight * most) * quality


def _largest_eigenvalue(least: np.ndarray, most: np.ndarray, w: np.ndarray) -> float:
    """At least (|y||w| - y·w) / 2 for all y between `least` and `most`, [n] each.

    For that is a sublinear function of y, and at most |y||w| / 2 if y ≥ 0. Equal payoffs give 0.
    """
    norm = np.linalg.norm(w)
    along = least @ w / norm
    across = np.linalg.norm(least - along * w / norm)
    size = np.hypot(along, across)
    own = across**2 / (size + along) if size > 0 else 0.0  # |y| - y·w/|w| without cancellation
    return 0.5 * norm * (own + np.linalg.norm(most - least))


def _steepness(game: games.Game, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on |a_i''| for totals in [a, b], [n] each, up to a factor ≤ 1 that all agents share.

    The common factor makes no difference to the eigenvalue's bound, and without it curves of nearly
    the same shape have bounds close to each other.
    """
    payoff = game.payoff
    if isinstance(payoff, payoffs.PowerLaw):  # falls with S
        x, shift = np.asarray(payoff.exponent), np.asarray(payoff.shift)
        with np.errstate(divide="ignore", invalid="ignore"):
            least, most = (np.asarray(payoff.scale) * x * (x + 1) * (s + shift) ** (-x - 2) for s in (b, a))
            common = ((a + np.max(shift)) / (b + np.max(shift))) ** (np.min(x) + 2)
        lossless = np.asarray(payoff.scale) == 0
        least, most = (np.where(lossless, 0.0, y) for y in (least, most))  # at S = 0 too, where 0·∞ is NaN
        return np.broadcast_to(least / common, (game.n,)), np.broadcast_to(most, (game.n,))
    sizes, slope = np.asarray(payoff.sizes), np.asarray(payoff.slope)
    bends = -np.diff(slope) / np.diff(sizes)
    last, end = sizes[..., -1:], slope[..., -1:]
    overlap = (sizes[..., :-1] <= b) & (sizes[..., 1:] >= a)
    tails = [np.where(b >= last, 2 * end * last**2 / np.maximum(s, last) ** 3, np.nan) for s in (a, b)]
    inside = np.where(overlap, bends, np.nan)
    shape = (*np.broadcast_shapes(inside.shape[:-1], tails[0].shape[:-1]),)
    every = np.concatenate([np.broadcast_to(x, (*shape, x.shape[-1])) for x in (inside, *tails)], axis=-1)
    least, most = np.nanmin(every, axis=-1), np.nanmax(every, axis=-1)
    least = most if most.ndim == 0 else least  # the same curve for all: a common factor is all there is
    return np.broadcast_to(least, (game.n,)), np.broadcast_to(most, (game.n,))


def _coverage(game: games.Game, low: jax.Array) -> tuple[float, np.ndarray, np.ndarray]:
    q = np.broadcast_to(np.asarray(game.payoff.q), (game.n, np.shape(game.payoff.q)[-1]))
    w = -np.log1p(-q) * np.broadcast_to(np.asarray(game.quality), (game.n,))[:, None]
    left = np.exp(np.asarray(games.statistic(game, low)))  # Π (1 - q)^s, at most this in the box
    y = 0.5 * q * w * np.broadcast_to(np.asarray(game.value), (game.n,))[:, None] * left
    eigenvalue = 0.5 * np.sum(np.linalg.norm(y, axis=0) * np.linalg.norm(w, axis=0) - np.sum(y * w, axis=0))
    others = np.max(y @ np.max(w, axis=0))  # at least every entry beside the diagonal
    return max(float(eigenvalue), 0.0), np.sum(y * w, axis=1), np.asarray([others])
