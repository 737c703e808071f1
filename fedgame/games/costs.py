"""Costs c_i(s_i): what sharing s_i samples costs agent i (Section 2), in the currency of utility.

A family has `value(own)`, the cost of ONE agent; `supply(price)`, the largest contribution whose last
sample costs at most `price` (the inverse of the marginal cost); and `scaled(factor)`, the same family
with costs multiplied, which is all that a mechanism M_β does to an agent's incentives. Parameters are
scalars, shared by all agents, or arrays [n].
"""

from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp


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

    def scaled(self, factor: jax.Array) -> "LinearCost":
        return LinearCost(rate=self.rate * factor, fixed=self.fixed * factor)


@flax.struct.dataclass
class PowerCost:
    """c_i(s_i) = rate_i s_i^exponent_i with exponent > 1: increasing marginal costs."""

    core_ndim: ClassVar[int] = 0
    above: ClassVar[dict[str, float]] = {"exponent": 1.0}

    rate: Any
    exponent: Any

    def value(self, own: jax.Array) -> jax.Array:
        return self.rate * own**self.exponent

    def supply(self, price: jax.Array) -> jax.Array:
        ratio = jnp.where(price > 0, price / (self.rate * self.exponent), 0.0)  # not 0/0 if free
        return ratio ** (1.0 / (self.exponent - 1.0))

    def scaled(self, factor: jax.Array) -> "PowerCost":
        return PowerCost(rate=self.rate * factor, exponent=self.exponent)
