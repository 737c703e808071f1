import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fedgame.learning import evaluation, federated


def drawn(seed, m=60, classes=2, steps=8):
    """Logits with ties, and labels that they tell something about; every class occurs."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(m) % classes)
    logits = rng.normal(size=(m, classes)) + np.eye(classes)[labels]
    return np.round(steps * logits) / steps, labels


def by_scikit_learn(metric, logits, labels):
    shares = scipy.special.softmax(logits, axis=-1)
    if metric == "accuracy":
        return metrics.accuracy_score(labels, np.argmax(logits, axis=-1))
    if metric == "log_loss":
        return max(0.0, 1 - metrics.log_loss(labels, shares, labels=np.arange(logits.shape[-1])))
    if logits.shape[-1] == 2:
        return metrics.roc_auc_score(labels, logits[:, 1] - logits[:, 0])
    return metrics.roc_auc_score(labels, shares, multi_class="ovr", average="macro")


@pytest.mark.parametrize("metric", evaluation.METRICS)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_metrics_are_those_of_scikit_learn(metric, classes):
    for seed in range(5):
        logits, labels = drawn(seed, classes=classes, steps=8 if classes == 2 else 2**30)
        found = evaluation.metric_of(metric, logits, labels)
        np.testing.assert_allclose(found, by_scikit_learn(metric, logits, labels), rtol=1e-12)


@pytest.mark.parametrize("metric", evaluation.METRICS)
@pytest.mark.parametrize("classes", [2, 3])
def test_records_that_fill_up_count_nothing(metric, classes):
    logits, labels = drawn(1, classes=classes)
    filled = np.concatenate([logits, np.full((7, classes), 1e6), np.zeros((3, classes))])
    several = np.stack([filled, filled[::-1]])
    numbers = np.stack([np.concatenate([labels, np.full(10, -1)])] * 2)
    numbers[1] = numbers[1, ::-1]
    want = evaluation.metric_of(metric, logits, labels)
    np.testing.assert_allclose(evaluation.metric_of(metric, several, numbers), [want, want], rtol=1e-12)
    values = evaluation.values_of(metric, several, numbers)
    np.testing.assert_array_equal(np.isnan(values), numbers < 0)


def test_labels_are_those_of_every_model_when_there_are_several():
    logits = np.stack([drawn(seed)[0] for seed in range(3)])
    labels = drawn(0)[1]
    for metric in evaluation.METRICS:
        want = [evaluation.metric_of(metric, one, labels) for one in logits]
        np.testing.assert_array_equal(evaluation.metric_of(metric, logits, labels), want)


@pytest.mark.parametrize(
    ("metric", "labels"),
    [("accuracy", [-1, -1]), ("log_loss", [-1, -1]), ("auc", [-1, -1]), ("auc", [1, 1]), ("auc", [-1, 0])],
)
def test_what_is_not_defined_is_nan(metric, labels):
    logits = np.array([[0.0, 1.0], [2.0, 0.0]])
    assert np.isnan(evaluation.metric_of(metric, logits, labels))
    assert np.isnan(evaluation.values_of(metric, logits, labels)).all()


def test_classes_that_do_not_occur_do_not_count_in_the_area():
    logits, labels = drawn(2, classes=3)
    kept = labels < 2
    areas = []
    for k in (0, 1):
        odds = logits[kept, k] - scipy.special.logsumexp(np.delete(logits[kept], k, axis=1), axis=1)
        areas.append(metrics.roc_auc_score(labels[kept] == k, odds))
    found = evaluation.metric_of("auc", logits, np.where(kept, labels, -1))
    np.testing.assert_allclose(found, np.mean(areas), rtol=1e-12)


def test_very_sure_models_have_no_ties():
    """Probabilities of log odds 40 and 41 are the same number: 1."""
    logits = np.array([[0, 40], [0, 41], [0, 42], [0, 43.0]])
    assert evaluation.metric_of("auc", logits, [0, 0, 1, 1]) == 1
    assert evaluation.metric_of("auc", np.pad(logits, [(0, 0), (0, 1)]), [0, 0, 1, 1]) == 1


def test_a_loss_beyond_one_is_no_worse_than_one():
    logits = np.array([[0.0, 9.0], [0.0, 0.0]])
    assert evaluation.metric_of("log_loss", logits, [0, 0]) == 0
    np.testing.assert_allclose(
        evaluation.values_of("log_loss", logits, [0, 0]), [1 - np.log1p(np.exp(9)), 1 - np.log(2)]
    )


def delong(scores, positive):
    """The variance of the area, from the comparisons of all pairs; without Bessel's correction."""
    above, below = scores[positive], scores[~positive]
    won = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    return np.var(won.mean(axis=1)) / len(above) + np.var(won.mean(axis=0)) / len(below)


@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 0.9), steps=st.sampled_from([1, 4, 64]))
def test_the_spread_of_values_is_the_variance_of_delong(seed, share, steps):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], (rng.random(40) < share).astype(int)])
    logits = np.round(steps * (rng.normal(size=(42, 2)) + labels[:, None] * [0, 1])) / steps
    values = evaluation.values_of("auc", logits, labels)
    np.testing.assert_allclose(np.mean(values), by_scikit_learn("auc", logits, labels), rtol=1e-12)
    want = delong(logits[:, 1] - logits[:, 0], labels == 1)
    np.testing.assert_allclose(np.var(values) / len(values), want, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("metric", evaluation.METRICS)
def test_the_mean_of_the_values_is_the_metric(metric):
    logits, labels = drawn(3, classes=3)
    labels[::7] = -1
    values = evaluation.values_of(metric, logits, labels)
    np.testing.assert_allclose(np.nanmean(values), evaluation.metric_of(metric, logits, labels), rtol=1e-12)


class Scores(nn.Module):
    """Its logits are the records."""

    @nn.compact
    def __call__(self, records):
        return records


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_logits_are_what_the_model_says_however_many_records_there_are(shape):
    for m in (1, 99, 101, 250):
        records = jax.random.normal(jax.random.key(m), (*shape, m, 3), jnp.float32)
        found = evaluation.logits(Scores(), {}, federated.Images(records, jnp.zeros((*shape, m), jnp.int32)))
        np.testing.assert_array_equal(found, records)


@pytest.mark.parametrize("metric", evaluation.METRICS)
def test_a_model_is_measured_by_its_logits(metric):
    logits, labels = drawn(4)
    labels[:5] = -1
    data = federated.Images(jnp.asarray(logits, jnp.float32), jnp.asarray(labels, jnp.int32))
    found = evaluation.measured(Scores(), {}, data, metric)
    np.testing.assert_allclose(found, by_scikit_learn(metric, logits[5:], labels[5:]), rtol=1e-6)
