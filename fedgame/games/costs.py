"""Costs c_i(s_i): what sharing s_i samples costs agent i (Section 2), in the currency of utility."""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry
from fedgame.registry import option

COSTS = registry.kind("cost", registry.a_family)


class Cost:
    """c_i(s_i), written for ONE agent; `vmap` gives all.

    A family is a class with a name, see `registry.register`, whose parameters are fields made by
    `registry.option`. Only `value` has to be defined; a formula for another method makes it faster and exact.
    """

    kind: ClassVar[str] = "cost"
    # A promise: convex and non-decreasing. False is always safe: nothing is assumed then.
    convex: ClassVar[bool] = False

    @registry.needed
    def value(self, own: jax.Array) -> jax.Array:
        """c_i, a scalar, for `own` ≥ 0 samples; differentiable."""
        raise NotImplementedError

    def supply(self, price: jax.Array) -> jax.Array:
        """The largest contribution, samples, with c_i' ≤ `price`: the inverse of marginal cost.

        By default by bisection, for a convex cost; 0 if there is none, ∞ if it is 10³⁰ or more.
        """
        return _largest(lambda own: jax.grad(self.value)(own) <= price)

    def inverse(self, amount: jax.Array) -> jax.Array:
        """The largest contribution, samples, with c_i ≤ `amount`. By default by bisection, as `supply`."""
        return _largest(lambda own: self.value(own) <= amount)

    def scaled(self, factor: jax.Array) -> Any:
        """The cost times `factor` ≥ 0, as a mechanism that refunds a share of costs scales it."""
        return Scaled(self, factor)

    def most(self) -> float:
        """The maximum number of samples for which the cost is defined."""
        return np.inf

    def line(self) -> tuple[Any, Any] | None:
        """(rate, fixed), one number or [n] each, if c_i(s_i) = rate s_i + fixed; else None. Outside jit."""
        return None

    def complaint(self) -> str | None:
        """What is wrong with the parameters together, beyond their ranges, or None. Called outside jit."""
        return None

    def bend(self, low: jax.Array, high: jax.Array) -> tuple[Any, Any] | None:
        """Minimum and maximum of c_i'' for contributions between `low` and `high`, [n] samples each.

        None if they are not known, or a kink lies between. Together with the payoff's `curvature` they prove
        λ and L of Theorem 3.2. Called outside jit, on the whole family.
        """
        del low, high
        return None


def _largest(affordable: Any) -> jax.Array:
    """The largest number ≥ 0 that is `affordable`, if all smaller ones are too; ∞ if 10³⁰ is."""

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        # A wide bracket is halved on a logarithmic scale.
        middle = jnp.where(high > 4.0 * low, jnp.sqrt(low) * jnp.sqrt(high), (low + high) / 2)
        good = affordable(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    least, most = jnp.asarray(1e-30), jnp.asarray(1e30)
    low, _ = jax.lax.fori_loop(0, 70, halve, (least, most))  # enough for all digits of a float64
    found = jnp.where(affordable(least), low, 0.0)
    return jnp.where(affordable(most), jnp.inf, found)


@registry.family
class Scaled(Cost):
    """`factor` times another cost."""

    cost: Cost = option("what is multiplied")
    factor: Any = option("by which it is multiplied", low=0)

    @property
    def convex(self) -> bool:
        return self.cost.convex

    def value(self, own: jax.Array) -> jax.Array:
        return self.factor * self.cost.value(own)

    def supply(self, price: jax.Array) -> jax.Array:
        return self.cost.supply(self._unscaled(price))

    def inverse(self, amount: jax.Array) -> jax.Array:
        return self.cost.inverse(self._unscaled(amount))

    def _unscaled(self, x: jax.Array) -> jax.Array:
        ratio = x / jnp.where(self.factor > 0, self.factor, 1.0)
        if_free = jnp.where(x >= 0, jnp.inf, -jnp.inf)
        return jnp.where(self.factor > 0, ratio, if_free)

    def most(self) -> float:
        return self.cost.most()

    def line(self) -> tuple[Any, Any] | None:
        inner = self.cost.line()
        return None if inner is None else tuple(self.factor * x for x in inner)

    def bend(self, low: jax.Array, high: jax.Array) -> tuple[Any, Any] | None:
        inner = self.cost.bend(low, high)
        return None if inner is None else tuple(self.factor * x for x in inner)


def _until(left: jax.Array, rate: jax.Array) -> jax.Array:
    """The largest x ≥ 0 with rate · x ≤ left: ∞ if the rate is 0, 0 if `left` is negative."""
    ratio = left / jnp.where(rate > 0, rate, 1.0)
    affordable = jnp.where(rate > 0, ratio, jnp.inf)
    return jnp.where(left < 0, 0.0, affordable)


@registry.register("linear")
class LinearCost(Cost):
    """c_i(s_i) = rate_i s_i + fixed_i. The fixed part is paid while enrolled, at s_i = 0 too."""

    convex: ClassVar[bool] = True

    rate: Any = option("of a sample", low=0)
    fixed: Any = option("of being enrolled", 0.0, low=0)

    def value(self, own: jax.Array) -> jax.Array:
        return self.rate * own + self.fixed

    def supply(self, price: jax.Array) -> jax.Array:
        return jnp.where(price >= self.rate, jnp.inf, 0.0)

    def inverse(self, amount: jax.Array) -> jax.Array:
        return _until(amount - self.fixed, self.rate)

    def scaled(self, factor: jax.Array) -> "LinearCost":
        return LinearCost(rate=self.rate * factor, fixed=self.fixed * factor)

    def line(self) -> tuple[Any, Any]:
        return self.rate, self.fixed

    def bend(self, low: jax.Array, high: jax.Array) -> tuple[float, float]:
        return 0.0, 0.0


@jax.custom_jvp
def _first_power(own: jax.Array, exponent: jax.Array) -> jax.Array:
    """s_i^x at x = 1. Its derivative with respect to x, s log s, is computed only if it is needed."""
    del exponent
    return own


@functools.partial(_first_power.defjvp, symbolic_zeros=True)
def _first_power_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    own, exponent = primals
    by_own, by_exponent = tangents
    change = jnp.zeros_like(own) if isinstance(by_own, jax.custom_derivatives.SymbolicZero) else by_own
    if not isinstance(by_exponent, jax.custom_derivatives.SymbolicZero):
        tiny = jnp.finfo(own.dtype).tiny
        change += by_exponent * own * jnp.log(jnp.where(own > tiny, own, 1.0))
    return _first_power(own, exponent), change


@registry.register("power")
class PowerCost(Cost):
    """c_i(s_i) = rate_i s_i^exponent_i + fixed_i with exponent ≥ 1: marginal costs do not fall.

    Exponents may differ, so linear costs (exponent 1) and steeper ones mix in one game.
    """

    convex: ClassVar[bool] = True

    rate: Any = option("of the first sample", low=0)
    exponent: Any = option("how costs grow with samples; 1 is linear", low=1)
    fixed: Any = option("of being enrolled", 0.0, low=0)

    def value(self, own: jax.Array) -> jax.Array:
        # At s_i = 0 the second derivative of a power below 2 is infinite. Where the rate is 0 that would make
        # 0 · ∞ = NaN, and s¹ has none: there the exponent is replaced.
        free_at_0, straight = (self.rate == 0.0) & (own == 0.0), self.exponent == 1.0
        curved = own ** jnp.where(free_at_0 | straight, 2.0, self.exponent)
        line = _first_power(*jnp.broadcast_arrays(own, self.exponent))
        return self.rate * jnp.where(straight, line, curved) + self.fixed

    def supply(self, price: jax.Array) -> jax.Array:
        straight = (self.exponent == 1.0) | (self.rate == 0.0)
        slope, bend = self.rate * self.exponent, self.exponent - 1.0
        ratio = jnp.maximum(price, 0.0) / jnp.where(straight, 1.0, slope)
        curved = ratio ** (1.0 / jnp.where(straight, 1.0, bend))
        all_or_nothing = jnp.where(price >= self.rate, jnp.inf, 0.0)
        return jnp.where(straight, all_or_nothing, curved)

    def inverse(self, amount: jax.Array) -> jax.Array:
        return _until(amount - self.fixed, self.rate) ** (1.0 / self.exponent)

    def scaled(self, factor: jax.Array) -> "PowerCost":
        return PowerCost(rate=self.rate * factor, exponent=self.exponent, fixed=self.fixed * factor)

    def line(self) -> tuple[Any, Any] | None:
        return (self.rate, self.fixed) if np.all(np.asarray(self.exponent) == 1.0) else None

    def bend(self, low: jax.Array, high: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """c'' = rate x (x - 1) s^(x - 2) with the exponent x is monotonic: its extremes are at the ends."""
        rate, x = np.asarray(self.rate), np.asarray(self.exponent)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = [rate * x * (x - 1) * np.asarray(s) ** (x - 2.0) for s in (low, high)]
        ends = [np.where((x == 1) | (rate == 0), 0.0, end) for end in ends]
        return np.minimum(*ends), np.maximum(*ends)


@registry.register("ordered")
class OrderedCost(Cost):
    """Ordered selection (Section 1.1): records are shared in ascending order of what each one costs.

    Convex and piecewise linear: between whole numbers of records the next one is shared in part. At a
    whole number `jax.grad` gives the mean of the two one-sided derivatives. An agent who has fewer
    records than others repeats her last cost and has a smaller capacity.

    Attributes:
      record_costs: [k] cost of each record, ascending; shared, or [n, k].
    """

    convex: ClassVar[bool] = True

    record_costs: Any = option("of each record, ascending", low=0, rank=1)

    def complaint(self) -> str | None:
        if np.any(np.diff(self.record_costs) < 0):
            return f"`record_costs` must be ascending, got {self.record_costs}"
        return None

    def most(self) -> float:
        return self.record_costs.shape[-1]

    def value(self, own: jax.Array) -> jax.Array:
        shared = jnp.clip(own - jnp.arange(self.record_costs.shape[-1]), 0.0, 1.0)  # part of each record
        return self.record_costs @ shared

    def supply(self, price: jax.Array) -> jax.Array:
        return jnp.sum(self.record_costs <= price, dtype=self.record_costs.dtype)

    def inverse(self, amount: jax.Array) -> jax.Array:
        left = amount - jnp.cumsum(self.record_costs) + self.record_costs  # of `amount`, before each record
        free = self.record_costs == 0
        part = jnp.clip(left / jnp.where(free, 1.0, self.record_costs), 0.0, 1.0)
        shared = jnp.where(free, jnp.where(left >= 0, 1.0, 0.0), part)
        return jnp.sum(shared)

    def scaled(self, factor: jax.Array) -> "OrderedCost":
        return OrderedCost(self.record_costs * factor)
