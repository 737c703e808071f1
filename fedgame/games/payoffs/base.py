"""The contract of a payoff family: what has to be defined, and safe defaults of what may be left out."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import registry

PAYOFFS = registry.kind("payoff", registry.a_family)


class Payoff:
    """a_i(s), written for ONE agent; `vmap` gives all.

    A family is a class with a name, see `registry.register`, whose parameters are fields made by
    `registry.option`. It sees the others only through a statistic z of the profile, m numbers, so that
    evaluating all agents costs O(n m), not O(n²). The default statistic is the whole profile; only `value`
    has to be defined. s are standard samples: contributions times qualities.
    """

    kind: ClassVar[str] = "payoff"
    # Promises. False is always safe: nothing is assumed then.
    of_total: ClassVar[bool] = False  # depends on s only through S: derive from `OfTotal`
    concave: ClassVar[bool] = False  # in s_i, but for `kinks`: 0 up to the only kink, concave from there on
    separable: ClassVar[bool] = False  # a_i(s) = g_i(s_i) + h_i(s_-i): the best s_i does not depend on others
    linear: ClassVar[bool] = False  # linear in s
    own_gain: ClassVar[bool] = True  # False: what an agent shares never changes her own payoff
    qualities: ClassVar[bool] = True  # whether s may be standard samples; False: qualities must be 1

    def statistic(self, s: jax.Array) -> Any:
        """z of the profile s, [n] standard samples. A change of one s_i must be possible by `moved`."""
        return s

    def rest(self, z: Any, own: jax.Array, i: jax.Array) -> Any:
        """What agent i, who contributes `own` of z, sees of the others, for `value`. By default (i, z)."""
        del own
        return i, z

    @registry.needed
    def value(self, own: jax.Array, rest: Any) -> jax.Array:
        """a_i if she contributes `own` while the others are `rest`, a scalar; differentiable in `own`."""
        raise NotImplementedError

    def kinks(self, rest: Any) -> tuple[jax.Array, ...] | None:
        """Contributions w_i s_i between which a_i is known to be concave in s_i; None if nothing is known.

        For certificates. By default (), no kinks, if the payoff is concave.
        """
        del rest
        return () if self.concave else None

    def ceiling(self, much: jax.Array) -> jax.Array | None:
        """a_i if she has `much` data, more than anybody could have; None if that is not known.

        With few data a payoff may be the difference of numbers as large as its limit, and have their rounding
        error: certificates ask for it.
        """
        del much
        return None

    def moved(self, z: Any, change: jax.Array, i: jax.Array) -> Any:
        """z after agent i has contributed `change` more."""
        return z.at[i].add(change)

    def kept(self, keep: jax.Array, n: int) -> Any:
        """The payoff if only `keep`, [k] numbers of n agents, are there. By default with their parameters."""
        del n
        return registry.of_agents(self, keep)

    def complaint(self) -> str | None:
        """What is wrong with the parameters together, beyond their ranges, or None. Called outside jit."""
        return None

    def only_equilibrium(self, game: Any) -> str:
        """Why `game` has at most one equilibrium, in words; "" if that is not known. Called outside jit."""
        del game
        return ""

    def curvature(self, game: Any, low: jax.Array, high: jax.Array) -> "Curvature | None":
        """Bounds on second derivatives for profiles between `low` and `high`, [n] samples; None if not known.

        They prove λ and L of Theorem 3.2 for the game. Called outside jit, on the whole family.
        Payoffs of the total define `bend` instead.
        """
        del game, low, high
        return _STRAIGHT if self.linear else None


class Curvature(NamedTuple):
    """Upper bounds on what the payoffs v_i a_i add to the Jacobian G of Theorem 3.2 on a box of profiles."""

    eigenvalue: float  # of the largest eigenvalue of the symmetric part of that matrix, ≥ 0
    own: Any  # [n] or one number, of v_i |∂²a_i/∂s_i²|
    others: Any  # [n] or one number, of v_i |∂²a_i/∂s_j∂s_i| for all j ≠ i
    formula: str  # the formula in words


_STRAIGHT = Curvature(eigenvalue=0.0, own=0.0, others=0.0, formula="a_i is linear: G = -diag(c'')")


class OfTotal(Payoff):
    """A payoff of the total S = S₀ + Σ w_i s_i: only `curve(S)` has to be defined."""

    of_total: ClassVar[bool] = True
    concave: ClassVar[bool] = True

    @registry.needed
    def curve(self, total: jax.Array) -> jax.Array:
        """a_i at a total of S samples, a scalar."""
        raise NotImplementedError

    def pays_from(self) -> jax.Array:
        """The total up to which `curve` is 0, and from which it is concave and non-decreasing."""
        return jnp.zeros(())

    def bend(self, low: float, high: float) -> tuple[Any, Any] | None:
        """Bounds (least, most) on |a_i''| for totals S in [low, high], S > `pays_from`; None if not known.

        Each [n] or one number, like the parameters. If |a_i''(S)| = f(S) b_i(S) with the same 0 < f(S) ≤ 1
        for all agents, both may bound b_i instead: f only lowers the eigenvalue that is subtracted from λ,
        and bounds on b_i are closer to each other for curves of similar shape. Called outside jit, on the
        whole family.
        """
        del low, high
        return None

    @classmethod
    def fit(cls, sizes: np.ndarray, accuracy: np.ndarray, start: "OfTotal | None" = None) -> "OfTotal":
        """The member of the family that fits a measured accuracy curve best.

        A registered class that defines it is a choice of `--fit`; by default a family has none.
        Called by `curves.fit`, which checks the data and makes arrays of the numbers that come back.

        Args:
          sizes: [k] totals in samples, k ≥ 2, non-negative and increasing.
          accuracy: [k] mean accuracies at them, in [0, 1].
          start: an earlier fit to begin from, for data that differ little, such as resampled ones.

        Returns:
          An instance with the parameters of ONE agent.

        Raises:
          ValueError: these data do not determine a member, there are too few for example.
        """
        raise NotImplementedError(f"{cls.__name__} defines no `fit`")

    def kinks(self, rest: jax.Array) -> tuple[jax.Array, ...] | None:
        return (self.pays_from() - rest,) if self.concave else None

    def ceiling(self, much: jax.Array) -> jax.Array:
        return self.curve(much)

    def statistic(self, s: jax.Array) -> jax.Array:
        return jnp.sum(s)

    def rest(self, z: jax.Array, own: jax.Array, i: jax.Array) -> jax.Array:
        return z - own

    def value(self, own: jax.Array, rest: jax.Array) -> jax.Array:
        return self.curve(own + rest)

    def moved(self, z: jax.Array, change: jax.Array, i: jax.Array) -> jax.Array:
        return z + change
