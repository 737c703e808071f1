"""Payoffs of effective samples: a sample of one agent may be worth more to some agents than to others.

The paper's payoffs of S take every sample to be worth the same to everybody, and it leaves others as future
work (Section 6). "Effective data" is the term of Hernandez et al. (2021), Scaling Laws for Transfer.
"""

import itertools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games.payoffs import base
from fedgame.registry import option

ALWAYS = "always"


@registry.register("effective")
class EffectiveSamples(base.Payoff):
    """a_i(s) = f_i(z_i) with agent i's effective samples z_i = Σ_j w_ij s_j.

    w_ij, the exchange rate, is how many of her own samples one of agent j's is worth to agent i; w_ii = 1.
    With w ≡ 1 and the same f for all this is a payoff of S. W need not be symmetric.

    With own="always" an agent's own records teach her own model whether she shares them or not: z_i = τ_i +
    Σ_{j≠i} w_ij s_j. Then nobody gains from what she shares, and without payments nobody shares anything.
    Payments for samples (`price`, `prices`) change that; refunds of costs cannot, as nobody has a reason to
    share what costs her a little less.

    There is at most one equilibrium if every f_i is strictly concave, v_i > 0, costs are convex and W is a
    P-matrix (all principal minors are positive). For if x ≠ y were two, some i would have
    (x_i - y_i) (W (x - y))_i > 0, as W is a P-matrix (Gale and Nikaido 1965, Moré and Rheinboldt 1973). With
    F_i(s) = c_i'(s_i) - v_i f_i'(z_i), c_i' non-decreasing in s_i and f_i' decreasing in z_i, so also
    (x_i - y_i) (F_i(x) - F_i(y)) > 0. But at an equilibrium x no change of s_i alone gains, F_i(x) (y_i -
    x_i) ≥ 0, and likewise F_i(y) (x_i - y_i) ≥ 0; the sum of both contradicts this. The matrix of ones is no
    P-matrix: of payoffs of S only the total is determined.
    """

    qualities: ClassVar[bool] = False  # W says it all

    data_to_accuracy: base.OfTotal = option(
        "f_i, a payoff of the total, here of an agent's effective samples", of="payoff"
    )
    rates: Any = option(
        "w_ij, how many samples of agent i's own one of agent j's is worth to her; w_ii = 1, [n, n]",
        low=0,
        rank=1,
    )
    records: Any = option("τ_i, own records that teach her model in any case, with own=always", 0.0, low=0)
    own: str = option(
        "whether only samples that an agent contributes teach her own model, or all her records, always",
        "contributed",
        choices=("contributed", ALWAYS),
        kind=str,
        static=True,
    )

    @property
    def concave(self) -> bool:
        return self.data_to_accuracy.concave

    @property
    def own_gain(self) -> bool:
        return self.own != ALWAYS

    @property
    def separable(self) -> bool:
        return not self.own_gain

    def complaint(self) -> str | None:
        rates, curve = np.asarray(self.rates), self.data_to_accuracy
        if rates.ndim != 2 or rates.shape[0] != rates.shape[1]:
            return f"`rates` must be a square matrix, got shape {rates.shape}"
        if not np.all(np.diag(rates) == 1.0):
            return f"`rates` must have 1 on the diagonal, got {np.diag(rates)}"
        if not curve.of_total:
            return f"`data_to_accuracy` must be a payoff of the total, got {type(curve).__name__}"
        if np.any(np.asarray(self.records) > 0) and self.own != ALWAYS:
            return "`records` has no use without own=always"
        return None

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> jax.Array:
        """What agent i has besides what she contributes: effective samples of the others, and records."""
        others = jnp.where(jnp.arange(len(z)) == i, 0.0, self.rates)
        return self.records + others @ z

    def effective(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        """z_i of ONE agent."""
        return own + rest if self.own_gain else rest

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return self.data_to_accuracy.curve(self.effective(own, rest))

    def kinks(self, rest: jax.Array) -> tuple[jax.Array, ...] | None:
        if not self.own_gain:
            return ()
        return (self.data_to_accuracy.pays_from() - rest,) if self.concave else None

    def ceiling(self, much: jax.Array) -> jax.Array:
        return self.data_to_accuracy.curve(much)

    def kept(self, keep: jax.Array, n: int) -> "EffectiveSamples":
        theirs = registry.of_agents(self, keep)
        return theirs.replace(rates=jnp.asarray(theirs.rates)[:, keep])

    def only_equilibrium(self, game: Any) -> str:
        if not self.own_gain or not game.cost.convex or np.any(np.asarray(game.value) <= 0):
            return ""
        effective = np.asarray(self.rates) @ np.asarray(game.capacity)  # the maximum of z_i, [n]
        # Of one curve for all `bend` may bound |f''| only up to a common factor, of n curves it does not.
        curves = registry.per_agent(self.data_to_accuracy, len(effective))
        bend = curves.bend(0.0, float(np.max(effective)))
        from_0 = np.all(np.asarray(self.data_to_accuracy.pays_from()) <= 0)
        strictly_concave = self.concave and from_0 and bend is not None and np.all(np.asarray(bend[0]) > 0)
        return why_p_matrix(np.asarray(self.rates)) if strictly_concave else ""


_MINORS = 15  # maximum of agents for whom all principal minors, 2ⁿ - 1, are computed: a tenth of a second


def why_p_matrix(matrix: np.ndarray) -> str:
    """Why all principal minors of a matrix [n, n] are known to be positive, in words; "" if it is not known.

    All of them are computed for up to 15 agents. Beyond that, either of two conditions is enough: the
    symmetric part is positive definite, or the diagonal is strictly dominant in every row. A minor counts as
    positive if it exceeds what rounding may make of 0.
    """
    n, eps = len(matrix), np.finfo(float).eps
    if n <= _MINORS:
        for size in range(1, n + 1):
            chosen = np.array(list(itertools.combinations(range(n), size)))
            parts = matrix[chosen[:, :, None], chosen[:, None, :]]  # [subsets, size, size]
            largest = np.prod(np.linalg.norm(parts, axis=2), axis=1)  # Hadamard: no minor is larger
            if np.any(np.linalg.det(parts) <= 8 * size * eps * largest):
                return ""
        return "all principal minors of the exchange rates are positive"
    eigenvalues = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    if eigenvalues[0] > n * eps * eigenvalues[-1]:
        return "the symmetric part of the exchange rates is positive definite"
    diagonal = np.diag(matrix)
    others = np.sum(np.abs(matrix), axis=1) - np.abs(diagonal)
    if np.all(diagonal > others * (1 + n * eps)):
        return "every agent's own samples are worth more to her than one of each of the others together"
    return ""
