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
from fedgame.games import game as games
from fedgame.games import payoffs

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
    bends = game.cost.bend(low, high)
    if bends is None:
        return None
    least, most = (np.broadcast_to(x, (game.n,)) for x in bends)
    payoff = game.payoff
    found = _of_total(game, low, high) if payoff.of_total else payoff.curvature(game, low, high)
    if found is None:
        return None
    largest = max(float(np.max(found.own + most)), float(np.max(found.others)))
    return Bounds(float(np.min(least)) - found.eigenvalue, largest, found.formula)


def _of_total(game: games.Game, low: jax.Array, high: jax.Array) -> payoffs.Curvature | None:
    first, last = float(games.statistic(game, low)), float(games.statistic(game, high))
    if game.payoff.bend(first, last) is None or not game.payoff.concave:
        return None
    if np.any(np.asarray(total.pays_from(game)) > first):
        return None  # a convex kink, where the clipped payoff becomes positive, lies in the box
    formula = "payoff of S: G = -y wᵀ - diag(c''), |a''| bounded on cells of S"
    if first <= 0 and np.any(_steepness(game, 0.0, 0.0)[1] == np.inf):
        return payoffs.Curvature(np.inf, np.inf, np.inf, formula)
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
    return payoffs.Curvature(eigenvalue, weight * most * quality, np.max(weight * most) * quality, formula)


def _steepness(game: games.Game, a: float, b: float) -> list[np.ndarray]:
    return [np.broadcast_to(np.asarray(y), (game.n,)) for y in game.payoff.bend(a, b)]


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
