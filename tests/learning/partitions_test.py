import time

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from fedgame.learning import federated, partitions


def pool(labels):
    """Images with one pixel each: their number, counted from 1."""
    numbers = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1) + 1
    return federated.Images(numbers, np.asarray(labels, np.int32))


def hands(dealt, sizes):
    return [row[:size].astype(int) for row, size in zip(dealt.images[..., 0, 0, 0], sizes, strict=True)]


@hypothesis.given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    alpha=st.sampled_from([1e-300, 1e-3, 0.5, 10.0, 1e300]),
    shards=st.integers(1, 70),
    seed=st.integers(0, 5),
)
@pytest.mark.parametrize("kind", partitions.KINDS)
def test_every_agent_gets_her_number_of_images_and_no_image_twice(kind, labels, cuts, alpha, shards, seed):
    edges = np.sort(np.minimum([0, *cuts, len(labels)], len(labels)))
    sizes = np.diff(edges)[: max(1, len(cuts))]  # all of the pool, or less
    images = pool(labels)
    dealt = partitions.partition(images, sizes, jax.random.key(seed), kind, alpha, shards)
    assert dealt.images.shape == (len(sizes), max(sizes), 1, 1, 1)
    assert (dealt.images.dtype, dealt.labels.dtype) == (np.float32, np.int32)
    flat = np.concatenate(hands(dealt, sizes))
    assert len(flat) == len(set(flat)) == sum(sizes)
    beyond = np.arange(max(sizes)) >= sizes[:, None]
    assert not dealt.images[beyond].any()
    assert not dealt.labels[beyond].any()
    held = np.concatenate([row[:size] for row, size in zip(dealt.labels, sizes, strict=True)])
    np.testing.assert_array_equal(held, images.labels[flat - 1])
    table = partitions.holdings(dealt.labels, sizes, 5)
    assert table.shape == (len(sizes), 5)
    np.testing.assert_array_equal(table.sum(axis=1), sizes)
    np.testing.assert_array_equal(table.sum(axis=0), np.bincount(held, minlength=5))


@pytest.mark.parametrize("kind", partitions.KINDS)
def test_the_key_decides(kind):
    images, sizes = pool(np.arange(60) % 3), np.array([10, 20, 5])
    a, b, c = (partitions.partition(images, sizes, jax.random.key(s), kind).images for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_iid_is_one_permutation_cut_into_hands():
    images, sizes, key = pool(np.arange(30) % 3), np.array([4, 0, 9]), jax.random.key(3)
    order = jax.random.permutation(key, 30) + 1
    dealt = partitions.partition(images, sizes, key).images[..., 0, 0, 0]
    np.testing.assert_array_equal(dealt[0, :4], order[:4])
    np.testing.assert_array_equal(dealt[2], order[4:13])


@pytest.mark.parametrize("alpha", [0.1, 1.0, 50.0])
def test_dirichlet_shares_have_the_moments_of_the_distribution(alpha):
    """From a pool that never runs out: mean 1/k, variance (1/k)(1 - 1/k) / (kα + 1)."""
    k, n, size = 4, 400, 100
    images, sizes = pool(np.arange(k * n * size) % k), np.full(n, size)
    dealt = partitions.partition(images, sizes, jax.random.key(0), "dirichlet", alpha)
    share = partitions.holdings(dealt.labels, sizes, k) / size
    variance = (1 / k) * (1 - 1 / k) / (k * alpha + 1)
    np.testing.assert_allclose(share.mean(axis=0), 1 / k, atol=4 * np.sqrt(variance / n))
    np.testing.assert_allclose(share.var(), variance, rtol=0.2)


def test_a_class_that_runs_out_is_replaced_in_proportion():
    share, left = np.array([0.6, 0.3, 0.1]), np.array([10, 1000, 1000])
    np.testing.assert_array_equal(partitions._nearest(share, left, 50), [10, 30, 10])
    np.testing.assert_array_equal(partitions._nearest(share, left, 10), [6, 3, 1])
    np.testing.assert_array_equal(partitions._nearest(np.array([1.0, 0, 0]), left, 30), [10, 10, 10])
    np.testing.assert_array_equal(partitions._nearest(share, left, 2010), left)


def test_shards_are_contiguous_and_random():
    images, sizes = pool(np.arange(400) % 10), np.full(20, 20)
    dealt = partitions.partition(images, sizes, jax.random.key(0), "shards", shards=2)
    table = partitions.holdings(dealt.labels, sizes, 10)
    # 40 shards of 10 in classes of 40: every shard has one class, as in McMahan et al.
    assert set(table.ravel()) == {0, 10, 20}
    assert (table > 0).sum(axis=1).max() == 2
    assert not np.array_equal(np.unique(table[:10], axis=0), np.unique(table[10:], axis=0))
    one = partitions.partition(images, np.array([7, 40, 100]), jax.random.key(0), "shards", shards=1)
    for labels, size in zip(one.labels, (7, 40, 100), strict=True):
        assert np.ptp(labels[:size]) + 1 == len(set(labels[:size]))  # neighbouring classes


@pytest.mark.parametrize("kind", ["dirichlet", "shards"])
def test_a_prefix_is_a_random_sample_of_what_an_agent_holds(kind):
    images, sizes = pool(np.repeat([0, 1], 500)), np.array([1000])
    dealt = partitions.partition(images, sizes, jax.random.key(0), kind, 1.0, 2)
    assert abs(dealt.labels[0, :500].mean() - 0.5) < 0.07  # 4 standard deviations
    assert abs(hands(dealt, sizes)[0][:500].mean() - 500) < 55


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [4, 7]}, "11 images are to be dealt, and there are 10"),
        ({"sizes": [3, -1]}, r"`sizes` must be a whole number of at least 0 .* \[3, -1\]"),
        ({"sizes": []}, "`sizes` must be"),
        ({"sizes": [1.5]}, "`sizes` must be"),
        ({"kind": "dirichlet", "alpha": 0.0}, "`alpha` must be a positive number, got 0.0"),
        ({"kind": "dirichlet", "alpha": np.nan}, "`alpha` must be a positive number, got nan"),
        ({"kind": "dirichlet", "alpha": np.inf}, "`alpha` must be a positive number, got inf"),
        ({"kind": "shards", "shards": 0}, "`shards` must be at least 1, got 0"),
        ({"kind": "by luck"}, "`kind` must be one of iid, dirichlet, shards, got 'by luck'"),
    ],
)
def test_what_cannot_be_is_said(arguments, message):
    arguments = {"sizes": [1, 2]} | arguments
    with pytest.raises(ValueError, match=message):
        partitions.partition(pool(np.zeros(10)), key=jax.random.key(0), **arguments)


def test_holdings_ignore_what_is_beyond_a_size_and_refuse_unknown_labels():
    labels = np.array([[2, 0, 9], [1, 1, 2]])
    np.testing.assert_array_equal(partitions.holdings(labels, [2, 3], 3), [[1, 0, 1], [0, 2, 1]])
    with pytest.raises(ValueError, match="labels must be 0 to 2, got 0 to 9"):
        partitions.holdings(labels, [3, 3], 3)


@pytest.mark.parametrize("kind", partitions.KINDS)
def test_a_thousand_agents_take_well_under_a_second(kind):
    images, sizes = pool(np.arange(120_000) % 100), np.full(1000, 100)
    partitions.partition(images, sizes, jax.random.key(0), kind)
    begin = time.process_time()
    partitions.partition(images, sizes, jax.random.key(1), kind)
    assert time.process_time() - begin < 1


def test_no_agent_is_always_left_what_the_others_do_not_want():
    images, sizes = pool(np.repeat([0, 1], 60)), np.full(3, 40)
    mixed = set()
    for seed in range(12):
        dealt = partitions.partition(images, sizes, jax.random.key(seed), "dirichlet", 1e-3)
        mixed |= set(np.flatnonzero(partitions.holdings(dealt.labels, sizes, 2).min(axis=1)).tolist())
    assert mixed == {0, 1, 2}


def test_dirichlet_takes_random_images_of_a_class():
    images, sizes = pool(np.zeros(1000)), np.array([200])
    dealt = partitions.partition(images, sizes, jax.random.key(0), "dirichlet")
    assert abs(hands(dealt, sizes)[0].mean() - 500) < 80  # 4 standard deviations
