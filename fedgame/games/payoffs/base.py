"""What families of payoffs have in common."""

from typing import ClassVar

import jax
import jax.numpy as jnp


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


class OfProfile:
    """What families have in common that need the whole profile: z = s."""

    core_ndim: ClassVar[int] = 0
    of_total: ClassVar[bool] = False
    concave: ClassVar[bool] = False

    def statistic(self, s: jax.Array) -> jax.Array:
        return s

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z.at[i].add(change)
