"""Payoffs a_i(s): what an agent gains from the model that everyone's data trains (Section 2.1).

A family sees the other agents only through a statistic z of the profile, usually the linear one
z = A s of m numbers, so own gradients, best responses and Nash gaps cost O(n m). It is written for ONE
agent; `vmap` gives all of them:

    core_ndim               dimensions of one agent's parameters (0 for scalars, 1 for vectors)
    of_total                whether a_i depends on s only through S (m = 1); then there is `curve(S)`
    concave                 whether a_i is known to be concave in s_i, at least where it is not 0
    statistic(s)            z, from the whole profile [n]
    rest(z, own, i)         what agent i sees of the others, who contributes `own` of z herself
    value(own, rest)        a_i
    moved(z, change, i)     z after agent i has changed her contribution
    kept(keep, n)           the payoff if of n agents only `keep` are there; only where taking their
                            parameters is not enough

A parameter with `core_ndim` dimensions is shared by all agents; one more, leading, dimension of
length n makes it one per agent. Payoffs are non-negative in the paper: (2) and (3) are clipped at 0
unless `clip=False` asks for the raw formula. `limits` are what `games.check` checks, beyond numbers
that are not negative. The families of who samples what, Eq. (1) among them, are in `sampling`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from fedgame.games import sampling


class OfTotal:
    """What families have in common that depend on S alone: they only define `curve(S)`.

    `pays_from` is the total up to which `curve` is 0 and from which it is concave and non-decreasing.
    """

    core_ndim: ClassVar[int] = 0
    of_total: ClassVar[bool] = True
    concave: ClassVar[bool] = True

    def statistic(self, s: jax.Array) -> jax.Array:
        return jnp.sum(s)

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> jax.Array:
        return z - own

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return self.curve(own + rest)

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z + change

    def pays_from(self) -> jax.Array:
        return jnp.zeros(())


@flax.struct.dataclass
class PowerLaw(OfTotal):
    """a_i(s) = best - scale (shift + S)^-exponent. Eq. (3) is best=1, shift=0, exponent in (0, 1].

    With shift > 0 the payoff is finite, and concave wherever it is not clipped.
    """

    best: Any
    scale: Any
    exponent: Any
    shift: Any = 0.0
    clip: bool = flax.struct.field(pytree_node=False, default=True)

    limits: ClassVar[dict] = {"best": (jnp.isfinite, "finite")}

    def curve(self, total: jax.Array) -> jax.Array:
        data = total + self.shift
        some = ~(data <= 0)  # a NaN counts as some, and stays NaN
        safe = jnp.where(some, data, 1.0)  # keeps value and gradient finite at S = 0
        loss = self.scale * jnp.exp(-self.exponent * jnp.log(safe))  # one log for all agents' exponents
        raw = jnp.where(some, self.best - loss, jnp.where(self.scale > 0, -jnp.inf, self.best))
        return jnp.maximum(raw, 0.0) if self.clip else raw

    def pays_from(self) -> jax.Array:
        if not self.clip:
            return jnp.zeros(())
        ratio = self.scale / jnp.where(self.best > 0, self.best, 1.0)
        zero = jnp.maximum(ratio ** (1.0 / self.exponent) - self.shift, 0.0)
        return jnp.where(self.best > 0, zero, jnp.inf)


@flax.struct.dataclass
class GeneralizationBound(OfTotal):
    """Eq. (2): a_i(s) = best - (4 + √(2k(2 + log(S/k)))) / √S with k = `difficulty`, and a_i(0) = 0.

    Clipped at 0 it is not concave on [0, τ]: an agent can have two locally best contributions, 0 and
    an interior one. The formula has no value below S = k·e⁻² and *falls* with more data just above,
    where it is even positive for large k; the clipped payoff is 0 until the formula rises and is
    positive. From there on it is concave if best ≤ 2, as accuracies are.
    """

    best: Any
    difficulty: Any
    clip: bool = flax.struct.field(pytree_node=False, default=True)

    limits: ClassVar[dict] = {"best": (jnp.isfinite, "finite"), "difficulty": (lambda x: x > 0, "above 0")}

    @property
    def concave(self) -> bool:
        return self.clip

    def complaint(self) -> str | None:
        if self.clip and jnp.any(self.best > 2):
            return f"`best` must be at most 2, where (2) clipped at 0 is concave, got {self.best}"
        return None

    def curve(self, total: jax.Array) -> jax.Array:
        k = self.difficulty
        defined = ~(total <= (self._lowest() if self.clip else k * jnp.exp(-2.0)))  # a NaN stays NaN
        safe = jnp.where(defined, total, k)  # a NaN would pass through `maximum` and its gradient
        raw = self.best - (4.0 + jnp.sqrt(2.0 * k * (2.0 + jnp.log(safe / k)))) / jnp.sqrt(safe)
        raw = jnp.where(defined, raw, jnp.nan)
        return jnp.where(defined & ~(raw <= 0), raw, 0.0) if self.clip else raw

    def _lowest(self) -> jax.Array:
        """Where the formula stops falling: there √(2k(2 + log(S/k))) = r with r² + 4r = 2k."""
        k = self.difficulty
        r = 2.0 * k / (2.0 + jnp.sqrt(4.0 + 2.0 * k))
        return k * jnp.exp(r * r / (2.0 * k) - 2.0)

    def pays_from(self) -> jax.Array:
        low = jnp.log(self._lowest())

        def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            middle = (bracket[0] + bracket[1]) / 2
            pays = self.curve(jnp.exp(middle)) > 0
            return jnp.where(pays, bracket[0], middle), jnp.where(pays, middle, bracket[1])

        _, zero = jax.lax.fori_loop(0, 60, halve, (low, low + 60.0))  # e⁶⁰ times as many samples
        return jnp.where(self.curve(jnp.exp(low + 60.0)) > 0, jnp.exp(zero), jnp.inf)


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

    limits: ClassVar[dict] = {
        "sizes": (
            lambda x: (x[..., 0] == 0) & jnp.all(jnp.diff(x) > 0, axis=-1) & (x.shape[-1] > 1),
            "at least two numbers that increase from 0",
        ),
        "slope": (
            lambda x: (x >= 0) & jnp.all(jnp.diff(x) <= 0, axis=-1, keepdims=True),
            "non-negative and non-increasing",
        ),
        "accuracy": (jnp.isfinite, "finite"),
    }

    def complaint(self) -> str | None:
        rise = jnp.diff(self.sizes) * (self.slope[..., 1:] + self.slope[..., :-1]) / 2
        least = 1e-9 * float(jnp.max(jnp.abs(self.accuracy)))
        if jnp.allclose(jnp.diff(self.accuracy), rise, rtol=1e-6, atol=least):
            return None
        return (
            "`accuracy` must rise by the mean slope times the step between sizes, as `fit_concave` makes it"
        )

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
    """Any scalar function of S, the same for all agents; `value` of the game makes them differ."""

    concave: ClassVar[bool] = False

    fn: Callable[[jax.Array], jax.Array] = flax.struct.field(pytree_node=False)

    def curve(self, total: jax.Array) -> jax.Array:
        return self.fn(total)


@flax.struct.dataclass
class Separable(sampling.OfProfile):
    """a_i(s) = g_i(s_i) + h_i(s_-i) (Theorem A.1): what others do does not change what i wants.

    Attributes:
      own: g, called as own(i, s_i) with the number of the agent, returns a scalar.
      others: h of all agents, [n] -> [n]; entry i must not depend on s_i.
    """

    own: Callable[[jax.Array, jax.Array], jax.Array] = flax.struct.field(pytree_node=False)
    others: Callable[[jax.Array], jax.Array] = flax.struct.field(pytree_node=False)

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        return i, self.others(z)[i]

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, others = rest
        return self.own(i, own) + others

    def kept(self, keep: jax.Array, n: int) -> "Separable":
        others = CustomPayoff(self.others).kept(keep, n).fn
        return Separable(lambda i, own: self.own(keep[i], own), others)


@flax.struct.dataclass
class CustomPayoff(sampling.OfProfile):
    """Any function from profiles [n] to payoffs [n]. A look at every agent costs n calls of `fn`."""

    fn: Callable[[jax.Array], jax.Array] = flax.struct.field(pytree_node=False)

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        return i, z

    def value(self, own: jax.Array, rest: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, s = rest
        return self.fn(s.at[i].set(own))[i]

    def kept(self, keep: jax.Array, n: int) -> "CustomPayoff":
        return CustomPayoff(lambda s: self.fn(jnp.zeros(n, s.dtype).at[keep].set(s))[keep])
