"""p-mean welfare: from the average (p = 1) through the Nash welfare (p → 0) to the minimum (p = -∞).

Section 1.1 has (1/n Σ u_i^p)^(1/p); Section 4 and Table 1 leave out the 1/n. Here that is
`normalized`, and every table says which one it shows.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def log_p_mean(u: jax.Array, p: float, normalized: bool = True) -> jax.Array:
    """log W_p(u): for when W_p itself overflows, as the unnormalised one does for small p.

    Args:
      u: [n] utilities, n ≥ 1.
      p: in [-∞, 1]; a Python number.
      normalized: whether the sum is divided by n.

    Returns:
      Scalar. NaN if a utility is negative or NaN: then W_p does not exist for p < 1 (for p = 1 use
      `p_mean`). Without normalisation p = 0 has no limit for n ≥ 2 and is NaN.

    Raises:
      ValueError: p > 1 or NaN.
    """
    if not p <= 1:
        raise ValueError(f"`p` must lie in [-inf, 1], got {p}")
    u = jnp.asarray(u)
    undefined = ~jnp.all(u >= 0)
    zero = jnp.any(u == 0) if p <= 0 else jnp.all(u == 0)  # either makes W_p = 0
    logs = jnp.log(jnp.where(u > 0, u, 1.0))
    if p == -jnp.inf:
        log_mean = jnp.min(logs)
    elif p == 0:
        log_mean = jnp.mean(logs)
    else:
        reference = jnp.max(jnp.where(u > 0, logs, -jnp.inf)) if p > 0 else jnp.min(logs)
        reference = jnp.where(zero | undefined, 0.0, reference)
        powers = jnp.where(u > 0, p * (logs - reference), -jnp.inf)  # ≤ 0: nothing overflows
        # Σ e^x - 1 keeps the digits of small x, that is of small |p|; the plain sum those of large.
        mean = jnp.maximum(jnp.mean(jnp.exp(powers)), 0.5 / len(u))
        small = jnp.where(mean > 0.5, jnp.mean(jnp.expm1(powers)), 0.0)
        log_mean = reference + jnp.where(mean > 0.5, jnp.log1p(small), jnp.log(mean)) / p
    if not normalized and p != -jnp.inf:
        log_mean = log_mean + (jnp.log(len(u)) / p if p != 0 else (0.0 if len(u) == 1 else jnp.nan))
    log_mean = jnp.where(zero, -jnp.inf, log_mean)
    return jnp.where(undefined, jnp.nan, log_mean)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def p_mean(u: jax.Array, p: float, normalized: bool = True) -> jax.Array:
    """W_p(u) = (1/n Σ u_i^p)^(1/p), or (Σ u_i^p)^(1/p) if not `normalized`; see `log_p_mean`.

    p = 1 is the arithmetic mean (or sum) and takes utilities of any sign; with p < 1 and a negative
    utility the result is NaN, and `undefined` names the agents.

    Derivatives are those from above where utilities are 0: ∞ for 0 ≤ p < 1 if not all are, while for p < 0 a
    single agent with 0 has n^(-1/p). Where several have 0, or at p = -∞ several the least, there is no
    gradient: the one returned is that along equal rises of these. In a direction in which such a utility
    does not move, 0 · ∞ is NaN.
    """
    if p == 1:
        return jnp.mean(u) if normalized else jnp.sum(u)
    return jnp.exp(log_p_mean(u, p, normalized))


@p_mean.defjvp
def _p_mean_jvp(p: float, normalized: bool, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (u,), (change,) = primals, tangents
    u = jnp.asarray(u)
    weights = _marginals(u, p)
    if not normalized and p != -jnp.inf:
        weights = weights * (len(u) ** (1.0 / p) if p != 0 else (1.0 if len(u) == 1 else jnp.nan))
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
        share = jnp.maximum(count, 1) / n
        at_zero, others = share ** (1.0 / p) / jnp.maximum(count, 1), jnp.where(count > 0, 0.0, inside)
    else:
        at_zero = jnp.where(count == n, 1.0 / n, jnp.inf)
        others = jnp.where((count > 0) & (p == 0), 0.0, inside)
    return jnp.where(jnp.all(u >= 0), jnp.where(zero, at_zero, others), jnp.nan)


def undefined(u: jax.Array, p: float) -> list[int]:
    """The agents whose negative (or NaN) utility leaves W_p without a value; none if it has one."""
    u = np.asarray(u)
    return np.flatnonzero(np.isnan(u) if p == 1 else ~(u >= 0)).tolist()


def inconsistencies(powers: Any, values: Any, rounding: Any = 0.0) -> list[tuple[float, float]]:
    """Where a row of W_p contradicts itself, whatever the utilities behind it.

    p ln W_p, unnormalised, is ln Σ u_i^p, which is convex in p: no inner value may lie above the chord
    between its neighbours. The same holds for normalised rows. Rows that are averages over runs need
    not obey this: of those see `falls`.

    Args:
      powers: [k] p, increasing, finite; k ≥ 3. 0 has a place in normalised rows only.
      values: [k] W_p > 0.
      rounding: the most by which each value was rounded (half a unit of the last printed digit), one
        number or [k]; differences that it explains are not reported.

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
    off = np.minimum(np.broadcast_to(rounding, p.shape) / w, 1.0 - 1e-15)  # of w, at most
    y, slack = p * np.log(w), np.abs(p) * -np.log1p(-off)
    left = (p[2:] - p[1:-1]) / (p[2:] - p[:-2])  # weight of the left neighbour
    excess = y[1:-1] - left * y[:-2] - (1 - left) * y[2:]
    explained = slack[1:-1] + left * slack[:-2] + (1 - left) * slack[2:]
    explained += 1e-12 * (np.abs(y[1:-1]) + left * np.abs(y[:-2]) + (1 - left) * np.abs(y[2:]))
    return [(float(p[k + 1]), float(excess[k])) for k in np.flatnonzero(excess > explained)]


def falls(powers: Any, values: Any, slack: Any = 0.0) -> list[float]:
    """The p at which a row of normalised means, also of averages over runs, is below one at a smaller p.

    The normalised p-mean rises with p, for every run and so for their average. Differences up to `slack`,
    one number or one for each value, are not reported.
    """
    order = np.argsort(np.asarray(powers, float))
    p, w = np.asarray(powers, float)[order], np.asarray(values, float)[order]
    slack = np.broadcast_to(slack, w.shape)[order]
    most = np.maximum.accumulate(w)
    return p[w < most - 1e-12 * np.abs(most) - slack].tolist()
