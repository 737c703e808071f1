"""p-mean welfare: from the average (p = 1) through the Nash welfare (p → 0) to the minimum (p = -∞).

Section 1.1 has (1/n Σ u_i^p)^(1/p); Section 4 and Table 1 leave out the 1/n. Here that is
`normalized`, and every table says which one it shows.
"""

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


def p_mean(u: jax.Array, p: float, normalized: bool = True) -> jax.Array:
    """W_p(u) = (1/n Σ u_i^p)^(1/p), or (Σ u_i^p)^(1/p) if not `normalized`; see `log_p_mean`.

    p = 1 is the arithmetic mean (or sum) and takes utilities of any sign; with p < 1 and a negative
    utility the result is NaN, and `undefined` names the agents.
    """
    if p == 1:
        return jnp.mean(u) if normalized else jnp.sum(u)
    return jnp.exp(log_p_mean(u, p, normalized))


def undefined(u: jax.Array, p: float) -> list[int]:
    """The agents whose negative (or NaN) utility leaves W_p without a value; none if it has one."""
    u = np.asarray(u)
    return np.flatnonzero(np.isnan(u) if p == 1 else ~(u >= 0)).tolist()
