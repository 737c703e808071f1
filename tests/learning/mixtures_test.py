import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedgame.learning import evaluation, federated, local, members, mixtures, models

OPTIONS = local.LocalTraining(batch_size=3, epochs=2, learning_rate=0.1)
KEY = jax.random.key(5)


def some_split(sizes=(7, 4, 5), tests=(4, 6, 2), classes=2, width=3):
    """Random records of which the labels depend, filled up as in `members`."""
    rng = np.random.default_rng(0)

    def part(counts):
        records = rng.normal(size=(len(counts), max(counts), width)).astype(np.float32)
        labels = np.argmax(records[..., :classes] + 0.5 * rng.normal(size=(1, 1, classes)), axis=-1)
        there = np.arange(max(counts)) < np.array(counts)[:, None]
        return federated.Images(records * there[..., None], np.where(there, labels, -1).astype(np.int32))

    test = part(tests)
    return members.Split(part(sizes), test, np.array(sizes), test)


@given(
    most=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    number=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_mixtures_are_different_and_begin_with_the_structural_ones(most, number, seed):
    most = np.array(most)
    found = mixtures.design(most, number, seed)
    n, first = len(most), mixtures.structural(len(most))
    assert len(np.unique(found, axis=0)) == len(found)
    assert ((found >= 0) & (found <= most)).all()
    assert found.dtype.kind == "i"
    assert not found[0].any()
    np.testing.assert_array_equal(found[1], most)
    np.testing.assert_array_equal(found[2 : 2 + n], np.diag(most))
    if n > 2:
        np.testing.assert_array_equal(found[2 + n : first], most - np.diag(most))
    assert found[first:].any(axis=1).all()
    assert len(found) == max(first, min(number, len(found)))
    assert len(found) >= min(number, np.prod(most.astype(float) + 1) / 2)


@given(seed=st.integers(0, 99), number=st.integers(1, 300), more=st.integers(0, 300))
def test_a_longer_design_begins_with_the_shorter_one(seed, number, more):
    most = np.array([100, 30, 7])
    short, long = (mixtures.design(most, k, seed) for k in (number, number + more))
    np.testing.assert_array_equal(long[: len(short)], short)


def test_of_few_samples_there_are_all_mixtures():
    found = mixtures.design(np.array([2, 1]), 50, 0)
    assert sorted(map(tuple, found.tolist())) == list(itertools.product(range(3), range(2)))


def test_mixtures_that_fill_the_space_leave_out_a_fifth_of_the_members():
    found = mixtures.design(np.array([1000] * 4), 500, 1)[mixtures.structural(4) :]
    np.testing.assert_allclose(np.mean(found == 0, axis=0), 0.2, atol=0.03)
    np.testing.assert_allclose(np.median(found[found > 0]), 250, rtol=0.1)  # the square of a half


def test_another_seed_gives_other_mixtures_of_the_same_structure():
    a, b = (mixtures.design(np.array([50, 60]), 20, seed) for seed in (0, 1))
    np.testing.assert_array_equal(a[:4], b[:4])
    assert not (a[4:] == b[4:]).all(axis=1).any()


def one_by_one(model, options, split, samples, rounds):
    """The logits of the model of one mixture, by rounds that are each a call."""
    init_key, train_key = jax.random.split(KEY)
    params = models.initial_parameters(model, init_key, split.train.images.shape[2:])
    for number in range(1, rounds + 1):
        params = federated.federated_round(
            model, options, params, split.train, np.asarray(samples, np.int32), train_key, number
        )
    return evaluation.logits(model, params, split.test)


@pytest.mark.parametrize("options", [OPTIONS, OPTIONS._replace(full_batch=True)])
@pytest.mark.parametrize("model", [models.Linear(), models.MLP(units=4)])
def test_models_are_those_of_rounds_done_one_at_a_time(model, options):
    split, samples = some_split(), np.array([[7, 4, 5], [3, 0, 5], [0, 1, 0]])
    found = mixtures.measure(model, options, split, samples, 3, KEY)
    assert found.shape == (3, 3, 6, 2)
    for own, row in zip(found, samples, strict=True):
        np.testing.assert_allclose(own, one_by_one(model, options, split, row, 3), rtol=1e-4, atol=1e-5)


def test_a_mixture_is_measured_alike_beside_others():
    split, samples = some_split(), np.array([[7, 4, 5], [3, 0, 5]])
    both = mixtures.measure(models.Linear(), OPTIONS, split, samples, 2, KEY)
    alone = mixtures.measure(models.Linear(), OPTIONS, split, samples[1:], 2, KEY)
    np.testing.assert_allclose(both[1:], alone, rtol=1e-5, atol=1e-6)


def test_records_of_those_who_give_nothing_do_not_matter():
    split = some_split()
    images = split.train.images.copy()
    images[1], images[0, 2:] = np.nan, np.nan
    changed = split._replace(train=split.train._replace(images=images))
    for options in (OPTIONS, OPTIONS._replace(full_batch=True)):
        found = [
            mixtures.measure(models.Linear(), options, each, np.array([[2, 0, 5]]), 2, KEY)
            for each in (split, changed)
        ]
        np.testing.assert_array_equal(*found)


def test_without_data_everybody_is_told_her_own_shares():
    split = some_split()
    split.train.labels[0] = [1, 1, 1, 0, 1, 1, 1]
    split.train.labels[1] = [0, 0, 0, 0, -1, -1, -1]
    found = mixtures.without_data(split, classes=3)
    assert found.shape == (3, 6, 3)
    np.testing.assert_allclose(np.exp(found[0]), np.tile([2 / 10, 7 / 10, 1 / 10], (6, 1)))
    np.testing.assert_allclose(np.exp(found[1]), np.tile([5 / 7, 1 / 7, 1 / 7], (6, 1)))


def test_a_mixture_without_samples_has_no_model():
    split = some_split()
    found = mixtures.measure(models.Linear(), OPTIONS, split, np.array([[0, 0, 0], [0, 0, 1]]), 2, KEY)
    np.testing.assert_array_equal(found[0], mixtures.without_data(split, 2))
    assert not np.array_equal(found[1], found[0])


@pytest.mark.parametrize("rate", [1e38, 1e20])
def test_training_that_diverges_is_told(rate):
    split = some_split()
    split.train.images[2] *= 1e20
    options = OPTIONS._replace(learning_rate=rate)
    mixtures.measure(models.Linear(), OPTIONS, some_split(), np.array([[0, 0, 0], [1, 1, 1]]), 3, KEY)
    with pytest.raises(FloatingPointError, match=r"training diverged: .* a smaller learning rate may help"):
        mixtures.measure(models.Linear(), options, split, np.array([[0, 0, 0], [1, 1, 1]]), 3, KEY)


def test_a_loss_that_was_not_finite_is_told_though_the_last_is():
    """Logits of 2e38 and -2e38 for the second member, whose step then leads back to 0."""
    images = np.full((2, 3, 1), np.sqrt(8e38), np.float32)
    train = federated.Images(images, np.array([[0, 0, 0], [1, -1, -1]], np.int32))
    test = federated.Images(np.ones((2, 1, 1), np.float32), np.zeros((2, 1), np.int32))
    split = members.Split(train, test, np.array([3, 1]), test)
    options = local.LocalTraining(learning_rate=1.0, full_batch=True)
    with pytest.raises(FloatingPointError, match="diverged in round 2"):
        one_by_one(models.Linear(), options, split, [3, 1], 3)
    with pytest.raises(FloatingPointError, match="training diverged"):
        mixtures.measure(models.Linear(), options, split, np.array([[3, 1]]), 3, KEY)


def test_small_models_are_trained_side_by_side():
    assert [name for name, model in models.PRESETS.items() if mixtures.batched(model)] == ["linear", "mlp"]
