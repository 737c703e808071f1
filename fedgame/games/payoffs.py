"""Payoffs a_i(s): what an agent gains from the model that everyone's data trains (Section 2.1).

A family sees the other agents only through what `rest` returns for her, usually m numbers z - A_i s_i
of a linear statistic z = A s, so own gradients, best responses and Nash gaps cost O(n m). A family has

    core_ndim               dimensions of one agent's parameters (0 for scalars, 1 for vectors)
    of_total                whether a_i depends on s only through S = ‖s‖₁ (m = 1, A = 1)
    rest(s)                 [n] -> what each agent sees of the others, leading axis n
    value(own, rest)        the payoff of ONE agent who contributes `own`; `vmap` gives all of them

A parameter with `core_ndim` dimensions is shared by all agents; one more, leading, dimension of
length n makes it one per agent. Payoffs are non-negative in the paper: (2) and (3) are clipped at 0
unless `clip=False` asks for the raw formula.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp


class OfTotal:
    """What families have in common that depend on S = ‖s‖₁ alone: they only define `curve(S)`."""

    core_ndim: ClassVar[int] = 0
    of_total: ClassVar[bool] = True

    def rest(self, s: jax.Array) -> jax.Array:
        return jnp.sum(s) - s

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return self.curve(own + rest)


@flax.struct.dataclass
class PowerLaw(OfTotal):
    """a_i(s) = best - scale (shift + S)^-exponent. Eq. (3) is best=1, shift=0, exponent in (0, 1].

    `shift` is the data that count from the start, such as samples the server holds; with shift > 0
    the payoff is finite and concave on all of S ≥ 0.
    """

    best: Any
    scale: Any
    exponent: Any
    shift: Any = 0.0
    clip: bool = flax.struct.field(pytree_node=False, default=True)

    def curve(self, total: jax.Array) -> jax.Array:
        data = total + self.shift
        safe = jnp.where(data > 0, data, 1.0)  # keeps value and gradient finite at S = 0
        raw = jnp.where(data > 0, self.best - self.scale * safe**-self.exponent, -jnp.inf)
        return jnp.maximum(raw, 0.0) if self.clip else raw


@flax.struct.dataclass
class GeneralizationBound(OfTotal):
    """Eq. (2): a_i(s) = best - (4 + √(2k(2 + log(S/k)))) / √S with k = `difficulty`, and a_i(0) = 0.

    Clipped at 0 it is not concave on [0, τ]: an agent can have two locally best contributions, 0 and
    an interior one. The raw formula is NaN below S = k·e⁻², where (2) has no value.
    """

    best: Any
    difficulty: Any
    clip: bool = flax.struct.field(pytree_node=False, default=True)

    def curve(self, total: jax.Array) -> jax.Array:
        k = self.difficulty
        defined = total > k * jnp.exp(-2.0)
        safe = jnp.where(defined, total, k)  # a NaN would pass through `maximum` and its gradient
        raw = self.best - (4.0 + jnp.sqrt(2.0 * k * (2.0 + jnp.log(safe / k)))) / jnp.sqrt(safe)
        raw = jnp.where(defined, raw, jnp.nan)
        return jnp.where(defined & (raw > 0), raw, 0.0) if self.clip else raw


@flax.struct.dataclass
class MeasuredCurve(OfTotal):
    """A measured accuracy curve ã(S) (Section 5.1): C¹, concave, non-decreasing.

    Between `sizes` the slope is linear, so ã is piecewise quadratic and its gradient exact. ã(0) is
    `accuracy[0]`. Beyond the last size ã continues with the named tail "inverse": the slope falls as
    slope[-1] (sizes[-1]/S)², which keeps ã C¹, concave and bounded; `extrapolates` tells its use.
    `curves.fit_concave` makes one from measurements.

    Attributes:
      sizes: [k] totals in samples, increasing from 0.
      accuracy: [k] accuracy at each size.
      slope: [k] its derivative there, per sample; non-increasing, non-negative.
    """

    core_ndim: ClassVar[int] = 1

    sizes: Any
    accuracy: Any
    slope: Any

    def curve(self, total: jax.Array) -> jax.Array:
        last = self.sizes[-1]
        within = jnp.where(total > last, last, total)  # `clip` would halve the gradient at the ends
        k = jnp.clip(jnp.searchsorted(self.sizes, within, side="right") - 1, 0, len(self.sizes) - 2)
        step = within - self.sizes[k]
        bend = (self.slope[k + 1] - self.slope[k]) / (self.sizes[k + 1] - self.sizes[k])
        inside = self.accuracy[k] + self.slope[k] * step + 0.5 * bend * step**2
        far = jnp.where(total > last, total, last)
        tail = self.accuracy[-1] + self.slope[-1] * last * (1.0 - last / far)
        return jnp.where(total > last, tail, inside)

    def extrapolates(self, total: jax.Array) -> jax.Array:
        """Whether ã at `total` samples comes from the tail, not from measurements."""
        return total > self.sizes[..., -1]


@flax.struct.dataclass
class TotalPayoff(OfTotal):
    """a_i(s) = fn(S) for any scalar function `fn`; `value` in `Game` scales it per agent."""

    fn: Callable[[jax.Array], jax.Array] = flax.struct.field(pytree_node=False)

    def curve(self, total: jax.Array) -> jax.Array:
        return self.fn(total)


@flax.struct.dataclass
class LinearPayoff:
    """a_i(s) = (W s)_i for a dense matrix `w`, [n, n] (Section 2.1, linear)."""

    core_ndim: ClassVar[int] = 1
    of_total: ClassVar[bool] = False

    w: Any

    def rest(self, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        own_weight = jnp.diagonal(self.w)
        return self.w @ s - own_weight * s, own_weight

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        others, own_weight = rest
        return own_weight * own + others


@flax.struct.dataclass
class RandomDiscovery:
    """a_i(s) = (Q Qᵀ s)_i: agent i gains q_ix whenever anybody samples x (Section 2.1).

    Attributes:
      q: [n, m] sampling probabilities of agent i over the m points of X. No n×n array is formed.
    """

    core_ndim: ClassVar[int] = 1
    of_total: ClassVar[bool] = False

    q: Any

    def rest(self, s: jax.Array) -> jax.Array:
        q = jnp.broadcast_to(self.q, (len(s), self.q.shape[-1]))
        return s @ q - q * s[:, None]

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return self.q @ (rest + own * self.q)


@flax.struct.dataclass
class RandomCoverage:
    """Eq. (1): a_i(s) = 1 - ½ Σ_x q_ix Π_j (1 - q_jx)^s_j.

    Attributes:
      q: [n, m] probabilities in [0, 1); q = 1 would make a_i jump at s = 0.
    """

    core_ndim: ClassVar[int] = 1
    of_total: ClassVar[bool] = False
    below: ClassVar[dict[str, float]] = {"q": 1.0}

    q: Any

    def rest(self, s: jax.Array) -> jax.Array:
        miss = jnp.log1p(-jnp.broadcast_to(self.q, (len(s), self.q.shape[-1])))
        return s @ miss - miss * s[:, None]

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return 1.0 - 0.5 * jnp.sum(self.q * jnp.exp(rest + own * jnp.log1p(-self.q)))


@flax.struct.dataclass
class CustomPayoff:
    """Any function from profiles [n] to payoffs [n]. A look at every agent costs n calls of `fn`."""

    core_ndim: ClassVar[int] = 0
    of_total: ClassVar[bool] = False

    fn: Callable[[jax.Array], jax.Array] = flax.struct.field(pytree_node=False)

    def rest(self, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.arange(len(s)), jnp.broadcast_to(s, (len(s), len(s)))

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        agent, s = rest
        return self.fn(s.at[agent].set(own))[agent]
