"""Who holds which images: i.i.d., Dirichlet label skew or shards, each for any numbers of images."""

import jax
import numpy as np

from fedgame.learning.federated import Images

KINDS = ("iid", "dirichlet", "shards")


def partition(
    pool: Images, sizes: np.ndarray, key: jax.Array, kind: str = "iid", alpha: float = 0.5, shards: int = 2
) -> Images:
    """Splits images among agents: disjoint, and agent i holds exactly sizes[i] of them.

    The order of an agent's images is random: any prefix of her row is a random sample of what she holds.

    - "iid": uniformly random images.
    - "dirichlet" (Hsu, Qi and Brown 2019): agent i prefers classes in proportions p_i ~ Dirichlet(α·1). Of
      each class she gets min(λ p_i, what is left of it) images, rounded, with the λ at which these sum to
      sizes[i]. So if a class runs out, others take its place in proportion to p_i. Agents are served in
      random order; if almost all images are dealt, the last agents get what is left.
    - "shards" (McMahan et al. 2017): sum(sizes) random images are sorted by label and cut into contiguous
      shards, of which every agent gets `shards` random ones. Agent i's shards have sizes[i] / shards images
      each, give or take one.

    Args:
      pool: at least sum(sizes) images [m, h, w, c] with labels [m].
      sizes: [n] numbers of images; they may differ, and be 0.
      key: of the partition.
      kind: one of `KINDS`.
      alpha: α > 0; the smaller, the fewer classes an agent holds.
      shards: number of shards of each agent, at least 1.

    Returns:
      Images [n, max(sizes), h, w, c] and labels [n, max(sizes)], zero beyond an agent's size.

    Raises:
      ValueError: an argument out of range, or fewer images than are asked for.
    """
    sizes = np.asarray(sizes)
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}")
    a_vector = sizes.ndim == 1 and sizes.size > 0
    if not (a_vector and np.issubdtype(sizes.dtype, np.integer) and sizes.min() >= 0):
        raise ValueError(
            f"`sizes` must be a whole number of at least 0 for every agent, got {sizes.tolist()}"
        )
    if np.sum(sizes) > len(pool.labels):
        raise ValueError(f"{np.sum(sizes)} images are to be dealt, and there are {len(pool.labels)}")
    if kind == "dirichlet" and not 0 < alpha < np.inf:
        raise ValueError(f"`alpha` must be a positive number, got {alpha}")
    if kind == "shards" and shards < 1:
        raise ValueError(f"`shards` must be at least 1, got {shards}")
    if kind == "iid":
        rows = np.asarray(jax.random.permutation(key, len(pool.labels)))[: np.sum(sizes)]
    else:
        rng, labels = np.random.default_rng(np.asarray(jax.random.key_data(key))), np.asarray(pool.labels)
        if kind == "dirichlet":
            rows, owners = _dirichlet(labels, sizes, alpha, rng)
        else:
            rows, owners = _shards(labels, sizes, shards, rng)
        rows = rows[np.lexsort((rng.random(len(rows)), owners))]
    mine = np.arange(np.max(sizes)) < sizes[:, None]
    images = np.zeros((*mine.shape, *pool.images.shape[1:]), np.float32)
    labels = np.zeros(mine.shape, np.int32)
    images[mine], labels[mine] = pool.images[rows], pool.labels[rows]
    return Images(images, labels)


def holdings(labels: np.ndarray, sizes: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each class every agent holds, [n, classes], from labels [n, most].

    Raises:
      ValueError: a label is not below `classes`.
    """
    labels, sizes = np.asarray(labels), np.asarray(sizes)
    owners, columns = np.nonzero(np.arange(labels.shape[1]) < sizes[:, None])
    held = labels[owners, columns]
    if held.size and not 0 <= held.min() <= held.max() < classes:
        raise ValueError(f"labels must be 0 to {classes - 1}, got {held.min()} to {held.max()}")
    flat = np.bincount(owners * classes + held, minlength=len(sizes) * classes)
    return flat.reshape(len(sizes), classes)


def _dirichlet(
    labels: np.ndarray, sizes: np.ndarray, alpha: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool and their owners, [Σ sizes] each."""
    _, labels, left = np.unique(labels, return_inverse=True, return_counts=True)
    preferred = rng.dirichlet(np.full(len(left), alpha), len(sizes))
    held = np.zeros(preferred.shape, int)
    for agent in rng.permutation(len(sizes)):
        held[agent] = _nearest(preferred[agent], left, sizes[agent])
        left = left - held[agent]
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, in random order within
    by_class = np.split(order, np.cumsum(np.bincount(labels))[:-1])
    agents = np.arange(len(sizes))
    rows = [mine[: np.sum(took)] for mine, took in zip(by_class, held.T, strict=True)]
    return np.concatenate(rows), np.concatenate([np.repeat(agents, took) for took in held.T])


def _nearest(share: np.ndarray, left: np.ndarray, size: int) -> np.ndarray:
    """Whole numbers that sum to `size`, near min(λ share, left), by largest remainders; [k]."""
    share = np.maximum(share, 1e-290)  # a class that is not preferred is taken when all others have run out
    order = np.argsort(left / share)  # as λ grows, classes run out in this order
    before = np.cumsum(left[order]) - left[order]
    not_run_out = np.cumsum(share[order][::-1])[::-1]  # [k] the sum of the shares from the k-th on
    # Σ min(λ share, left) is the minimum over k of the lines before[k] + λ not_run_out[k].
    scale = np.max((size - before) / not_run_out)
    exact = np.minimum(scale * share, left)
    whole = np.floor(exact).astype(int)
    remainder = np.where(whole < left, exact - whole, -1)
    whole[np.argsort(-remainder, kind="stable")[: size - np.sum(whole)]] += 1
    return whole


def _shards(
    labels: np.ndarray, sizes: np.ndarray, shards: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool and their owners, [Σ sizes] each."""
    rows = rng.permutation(len(labels))[: np.sum(sizes)]
    rows = rows[np.argsort(labels[rows], kind="stable")]
    # [n, shards] images in each shard: the remainder goes to an agent's first shards.
    lengths = sizes[:, None] // shards + (np.arange(shards) < sizes[:, None] % shards)
    order = rng.permutation(lengths.size)
    return rows, np.repeat(order // shards, lengths.ravel()[order])
