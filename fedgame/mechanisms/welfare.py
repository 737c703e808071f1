"""p-mean welfare: from the average (p = 1) through the Nash welfare (p → 0) to the minimum (p = -∞).

Section 1.1 defines it as (1/n Σ u_i^p)^(1/p), Section 4 and Table 1 as (Σ u_i^p)^(1/p). Functions have a
parameter `normalized` for the former, and every table says which of the two it shows.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def log_p_mean(u: jax.Array, p: float, normalized: bool = True) -> jax.Array:
    """log W_p(u), which is finite where W_p overflows, as the unnormalised one does for small p.

    Args:
      u: [n] utilities, n ≥ 1.
      p: in [-∞, 1]; a Python number.
      normalized: whether the sum is divided by n.

    Returns:
      Scalar. NaN if a utility is negative or NaN, as W_p is undefined then for p < 1 (for p = 1 use
      `p_mean`). NaN also for p = 0 and n ≥ 2 without normalisation, which has no limit for p → 0.

    Raises:
      ValueError: p > 1 or NaN.
    """
    if not p <= 1:
        raise ValueError(f"`p` must lie in [-inf, 1], got {p}")
    u = jnp.asarray(u)
    undefined = ~jnp.all(u >= 0)
    zero = jnp.any(u == 0) if p <= 0 else jnp.all(u == 0)  # whether W_p = 0
    logs = jnp.log(jnp.where(u > 0, u, 1.0))
    if p == -jnp.inf:
        log_mean = jnp.min(logs)
    elif p == 0:
        log_mean = jnp.mean(logs)
    else:
        # The utility with the largest power is taken out, so that no power exceeds 1.
        reference = jnp.max(jnp.where(u > 0, logs, -jnp.inf)) if p > 0 else jnp.min(logs)
        reference = jnp.where(zero | undefined, 0.0, reference)
        powers = jnp.where(u > 0, p * (logs - reference), -jnp.inf)  # logarithms of powers, ≤ 0
        # For small |p| all exponents x are small: the mean of e^x - 1 keeps their digits, that of e^x does
        # not. The lower bound does not change the mean, one term of which is 1: it guards the derivative.
        mean = jnp.maximum(jnp.mean(jnp.exp(powers)), 0.5 / len(u))
        small = jnp.where(mean > 0.5, jnp.mean(jnp.expm1(powers)), 0.0)
        log_mean = reference + jnp.where(mean > 0.5, jnp.log1p(small), jnp.log(mean)) / p
    if not normalized and p != -jnp.inf and len(u) > 1:
        log_mean = log_mean + (jnp.log(len(u)) / p if p != 0 else jnp.nan)  # (Σ)^(1/p) = n^(1/p) (mean)^(1/p)
    log_mean = jnp.where(zero, -jnp.inf, log_mean)
    return jnp.where(undefined, jnp.nan, log_mean)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def p_mean(u: jax.Array, p: float, normalized: bool = True) -> jax.Array:
    """W_p(u) = (1/n Σ u_i^p)^(1/p), or (Σ u_i^p)^(1/p) if not `normalized`; see `log_p_mean`.

    p = 1 is the arithmetic mean (or sum) and takes utilities of any sign; with p < 1 and a negative
    utility the result is NaN, and `undefined` names the agents.

    Derivatives by a utility that is 0 are one-sided, from above: ∞ for 0 ≤ p < 1 unless all are 0, and
    n^(-1/p) for p < 0 if no other is 0. If several are 0 and p < 0, or if p = -∞ and several are smallest,
    W_p has no gradient: the result is the derivative along equal rises of these utilities. In a direction
    in which a utility with derivative ∞ does not move, the result is 0 · ∞ = NaN.

    Args:
      u: [n] utilities.
      p: in [-∞, 1]; a Python number.
      normalized: whether the sum is divided by n.

    Returns:
      Scalar, in the unit of u.

    Raises:
      ValueError: p > 1 or NaN.
    """
    if p == 1:
        return jnp.mean(u) if normalized else jnp.sum(u)
    return jnp.exp(log_p_mean(u, p, normalized))


@p_mean.defjvp
def _p_mean_jvp(p: float, normalized: bool, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (u,), (change,) = primals, tangents
    u = jnp.asarray(u)
    weights = _marginals(u, p)
    if not normalized and p != -jnp.inf and len(u) > 1:
        weights = weights * (len(u) ** (1.0 / p) if p != 0 else jnp.nan)
    return p_mean(u, p, normalized), jnp.sum(weights * change)


def _marginals(u: jax.Array, p: float) -> jax.Array:
    """∂W_p/∂u_i = (u_i / W_p)^(p-1) / n of the normalised mean, [n], and its limits where u_i or W_p is 0."""
    n = len(u)
    if p == 1:
        return jnp.full(u.shape, 1.0 / n, u.dtype)
    if p == -jnp.inf:
        least = u == jnp.min(u)
        return jnp.where(jnp.all(u >= 0), least / jnp.sum(least), jnp.nan)
    zero = u == 0
    count = jnp.sum(zero)
    log_mean = log_p_mean(u, p)
    ratio = jnp.log(jnp.where(zero, 1.0, u)) - jnp.where(jnp.isfinite(log_mean), log_mean, 0.0)
    inside = jnp.exp((p - 1.0) * ratio) / n
    if p < 0:  # W_p ≈ (k/n)^(1/p) u if k utilities rise together from 0
        rising = jnp.maximum(count, 1)
        at_zero = (rising / n) ** (1.0 / p) / rising
        others = jnp.where(count > 0, 0.0, inside)
    else:
        at_zero = jnp.where(count == n, 1.0 / n, jnp.inf)
        others = jnp.where((count > 0) & (p == 0), 0.0, inside)
    return jnp.where(jnp.all(u >= 0), jnp.where(zero, at_zero, others), jnp.nan)


def undefined(u: jax.Array, p: float) -> list[int]:
    """Numbers of the agents whose negative (or NaN) utility makes W_p undefined; [] if it is defined."""
    u = np.asarray(u)
    return np.flatnonzero(np.isnan(u) if p == 1 else ~(u >= 0)).tolist()


def inconsistencies(powers: Any, values: Any, rounding: Any = 0.0) -> list[tuple[float, float]]:
    """Values in a row of W_p that no utilities can have.

    p ln W_p, unnormalised, is ln Σ u_i^p, which is convex in p: no inner value may lie above the chord
    between its neighbours. The same holds for normalised rows. Averages over runs need not obey this: for
    them see `falls`.

    Args:
      powers: [k] p, increasing, finite; k ≥ 3. 0 has a place in normalised rows only.
      values: [k] W_p > 0.
      rounding: maximum by which each value was rounded (half a unit of the last printed digit), one
        number or [k]; differences that it explains are ignored.

    Returns:
      (p, by how much p ln W_p exceeds the chord) for every such p; empty if the row is consistent.

    Raises:
      ValueError: powers do not increase or are not finite, or a value is not positive.
    """
    p, w = np.asarray(powers, float), np.asarray(values, float)
    if p.ndim != 1 or p.shape != w.shape or not (np.all(np.isfinite(p)) and np.all(np.diff(p) > 0)):
        raise ValueError(f"`powers` must be finite and increase, one for each value, got {p}")
    if not (np.all(np.isfinite(w)) and np.all(w > 0)):
        raise ValueError(f"`values` must be positive and finite, got {w}")
    share = np.minimum(np.broadcast_to(rounding, p.shape) / w, 1.0 - 1e-15)  # of w that was rounded away
    y, slack = p * np.log(w), np.abs(p) * -np.log1p(-share)  # maximum change of y by rounding
    left = (p[2:] - p[1:-1]) / (p[2:] - p[:-2])  # weight of the left neighbour
    excess = y[1:-1] - left * y[:-2] - (1 - left) * y[2:]
    explained = slack[1:-1] + left * slack[:-2] + (1 - left) * slack[2:]
    # And rounding of these sums themselves.
    explained += 1e-12 * (np.abs(y[1:-1]) + left * np.abs(y[:-2]) + (1 - left) * np.abs(y[2:]))
    return [(float(p[k + 1]), float(excess[k])) for k in np.flatnonzero(excess > explained)]


def falls(powers: Any, values: Any, slack: Any = 0.0) -> list[float]:
    """The p at which a row of normalised p-means is below its value at a smaller p, ascending.

    The normalised p-mean rises with p, for every run, and so does an average over runs.

    Args:
      powers: [k] p, finite.
      values: [k] W_p.
      slack: differences up to this are ignored; one number or [k].
    """
    order = np.argsort(np.asarray(powers, float))
    p, w = np.asarray(powers, float)[order], np.asarray(values, float)[order]
    slack = np.broadcast_to(slack, w.shape)[order]
    most = np.maximum.accumulate(w)
    return p[w < most - 1e-12 * np.abs(most) - slack].tolist()
