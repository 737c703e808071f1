"""Costs c_i(s_i): what sharing s_i samples costs agent i (Section 2), in the currency of utility.

A family has, for ONE agent,

    value(own)       the cost, convex and non-decreasing
    supply(price)    the largest contribution whose last sample costs at most `price` (the inverse of
                     the marginal cost)
    inverse(amount)  the largest contribution that costs at most `amount`
    scaled(factor)   the same family with costs multiplied, which is all that a mechanism M_β does to
                     an agent's incentives

Parameters are shared by all agents, or one per agent along a leading axis [n].
"""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp


def _until(left: jax.Array, rate: jax.Array) -> jax.Array:
    """The largest x ≥ 0 with rate · x ≤ left: infinite if x is free, 0 if nothing is left."""
    ratio = left / jnp.where(rate > 0, rate, 1.0)
    return jnp.where(left < 0, 0.0, jnp.where(rate > 0, ratio, jnp.inf))


@flax.struct.dataclass
class LinearCost:
    """c_i(s_i) = rate_i s_i + fixed_i. The fixed part is paid while enrolled, at s_i = 0 too."""

    core_ndim: ClassVar[int] = 0

    rate: Any
    fixed: Any = 0.0

    def value(self, own: jax.Array) -> jax.Array:
        return self.rate * own + self.fixed

    def supply(self, price: jax.Array) -> jax.Array:
        return jnp.where(price >= self.rate, jnp.inf, 0.0)

    def inverse(self, amount: jax.Array) -> jax.Array:
        return _until(amount - self.fixed, self.rate)

    def scaled(self, factor: jax.Array) -> "LinearCost":
        return LinearCost(rate=self.rate * factor, fixed=self.fixed * factor)


@flax.struct.dataclass
class PowerCost:
    """c_i(s_i) = rate_i s_i^exponent_i + fixed_i with exponent ≥ 1: marginal costs do not fall.

    Exponents may differ, so linear costs (exponent 1) and steeper ones mix in one game.
    """

    core_ndim: ClassVar[int] = 0
    limits: ClassVar[dict] = {"exponent": (lambda x: x >= 1, "at least 1")}

    rate: Any
    exponent: Any
    fixed: Any = 0.0

    def value(self, own: jax.Array) -> jax.Array:
        # At 0 a power below 2 is infinitely curved, but not if samples are free: 0 · ∞ would be NaN.
        free_at_0, straight = (self.rate == 0.0) & (own == 0.0), self.exponent == 1.0
        curved = own ** jnp.where(free_at_0 | straight, 2.0, self.exponent)
        # And s¹ is not curved there. Its derivative by the exponent is that of this tangent, s log s.
        tangent = own + (self.exponent - 1.0) * own * jnp.log(
            jnp.where(own > jnp.finfo(jnp.result_type(float)).tiny, own, 1.0)
        )
        return self.rate * jnp.where(straight, tangent, curved) + self.fixed

    def supply(self, price: jax.Array) -> jax.Array:
        straight = (self.exponent == 1.0) | (self.rate == 0.0)
        slope, bend = self.rate * self.exponent, self.exponent - 1.0
        ratio = jnp.maximum(price, 0.0) / jnp.where(straight, 1.0, slope)
        curved = ratio ** (1.0 / jnp.where(straight, 1.0, bend))
        return jnp.where(straight, jnp.where(price >= self.rate, jnp.inf, 0.0), curved)

    def inverse(self, amount: jax.Array) -> jax.Array:
        return _until(amount - self.fixed, self.rate) ** (1.0 / self.exponent)

    def scaled(self, factor: jax.Array) -> "PowerCost":
        return PowerCost(self.rate * factor, self.exponent, self.fixed * factor)


@flax.struct.dataclass
class OrderedCost:
    """Ordered selection (Section 1.1): records are shared in ascending order of what each one costs.

    Convex and piecewise linear: between whole numbers of records the next one is shared in part. At a
    whole number `jax.grad` gives the mean of the two one-sided derivatives. An agent who has fewer
    records than others repeats her last cost and has a smaller capacity.

    Attributes:
      record_costs: [k] cost of each record, ascending; shared, or [n, k].
    """

    core_ndim: ClassVar[int] = 1
    limits: ClassVar[dict] = {
        "record_costs": (
            lambda x: (x >= 0) & jnp.all(jnp.diff(x) >= 0, axis=-1, keepdims=True),
            "non-negative and ascending",
        )
    }

    record_costs: Any

    def value(self, own: jax.Array) -> jax.Array:
        shared = jnp.clip(own - jnp.arange(self.record_costs.shape[-1]), 0.0, 1.0)  # of every record
        return self.record_costs @ shared

    def supply(self, price: jax.Array) -> jax.Array:
        return jnp.sum(self.record_costs <= price, dtype=self.record_costs.dtype)

    def inverse(self, amount: jax.Array) -> jax.Array:
        left = amount - jnp.cumsum(self.record_costs) + self.record_costs  # before each record
        free = self.record_costs == 0
        part = jnp.clip(left / jnp.where(free, 1.0, self.record_costs), 0.0, 1.0)
        return jnp.sum(jnp.where(free, 1.0 * (left >= 0), part))

    def scaled(self, factor: jax.Array) -> "OrderedCost":
        return OrderedCost(self.record_costs * factor)
