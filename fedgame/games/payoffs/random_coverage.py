"""Section 2.1, Eq. (1): who gains once somebody has sampled a point."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.games.payoffs import base
from fedgame.registry import option


@registry.register("random_coverage")
class RandomCoverage(base.Payoff):
    """Eq. (1): a_i(s) = 1 - ½ Σ_x q_ix Π_j (1 - q_jx)^s_j.

    Attributes:
      q: [n, m] probabilities in [0, 1); q = 1 would make a_i jump at s = 0.
    """

    concave: ClassVar[bool] = True

    q: Any = option("how likely a sample of agent i is each of m points, [m]", low=0, below=1, rank=1)

    def statistic(self, s: jax.Array) -> jax.Array:
        return s @ jnp.broadcast_to(jnp.log1p(-self.q), (len(s), self.q.shape[-1]))

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> jax.Array:
        return z - own * jnp.log1p(-self.q)

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return 1.0 - 0.5 * jnp.sum(self.q * jnp.exp(rest + own * jnp.log1p(-self.q)))

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z + change * jnp.log1p(-self.q)

    def curvature(self, game: Any, low: jax.Array, high: jax.Array) -> base.Curvature:
        del high
        n, m = len(low), np.shape(self.q)[-1]
        q = np.broadcast_to(np.asarray(self.q), (n, m))
        quality, value = np.broadcast_to(game.quality, (n,)), np.broadcast_to(game.value, (n,))
        # Payoffs add -Σ_x y_x w_xᵀ to G: a matrix of rank 1 for every point x.
        w = -np.log1p(-q) * quality[:, None]
        missed = np.exp(np.asarray(self.statistic(quality * low)))  # Π_j (1 - q_jx)^s_j, largest at `low`
        y = 0.5 * q * w * value[:, None] * missed
        # The largest eigenvalue of a sum is at most the sum of those of its terms, (‖y‖‖w‖ - y·w) / 2 each.
        eigenvalue = 0.5 * np.sum(
            np.linalg.norm(y, axis=0) * np.linalg.norm(w, axis=0) - np.sum(y * w, axis=0)
        )
        return base.Curvature(
            eigenvalue=max(float(eigenvalue), 0.0),
            own=np.sum(y * w, axis=1),
            others=np.max(y @ np.max(w, axis=0)),  # at least every entry off the diagonal
            formula="Eq. (1): every term of G is largest at the low corner",
        )
