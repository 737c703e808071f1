"""Models of mixtures of four hospitals' records, in one call, beside scikit-learn one by one.

  python benchmarks/mixtures.py

160 mixtures × 12 splits, 1,920 logistic regressions on up to 459 patients: those of fedgame by federated
rounds along the whole gradient, all mixtures of a split in one call, a thread per processor, compiled before;
those of scikit-learn pooled, with its usual penalty, one after the other in one process. Both see the same
records with the same features. Prints the seconds, their ratio, and mean accuracies on everybody's held-out
patients.
"""

import pathlib
import tempfile
import time
import warnings

import jax
import numpy as np
from sklearn import exceptions, linear_model

from fedgame.experiments import measure, mixtures
from fedgame.learning import members
from fedgame.learning import mixtures as learning
from fedgame.runs import workdir
from fedgame.runs.experiment import Resources

FOLDER, SPLITS = "examples/hospitals", 12


def ours(task, samples):
    """[B, splits, n] accuracies, and the seconds after compilation."""
    found, seconds = None, 0.0
    for _ in range(2):  # the first compiles
        with tempfile.TemporaryDirectory() as folder:
            work, begin = workdir.Workdir(pathlib.Path(folder)), time.perf_counter()
            found = mixtures.measure(task, samples, range(SPLITS), work, Resources())
            seconds = time.perf_counter() - begin
    return found, seconds


def theirs(task, samples):
    """The same by scikit-learn."""
    found, seconds = np.zeros((len(samples), SPLITS, samples.shape[1])), 0.0
    for k in range(SPLITS):
        split = task.split(k)
        train, test = split.train, split.test
        there = [labels >= 0 for labels in test.labels]
        begin = time.perf_counter()
        for b, row in enumerate(samples):
            if not any(row):
                continue
            x = np.concatenate([images[:s] for images, s in zip(train.images, row, strict=True)])
            y = np.concatenate([labels[:s] for labels, s in zip(train.labels, row, strict=True)])
            one_class = len(set(y)) == 1
            model = None if one_class else linear_model.LogisticRegression(max_iter=1000).fit(x, y)
            for i, mine in enumerate(there):
                labels = test.labels[i][mine]
                told = y[0] if one_class else model.predict(test.images[i][mine])
                found[b, k, i] = np.mean(told == labels)
        seconds += time.perf_counter() - begin
    return found, seconds


def main():
    warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
    task = measure.prepare(measure.Settings(federation=FOLDER))
    most = members.trainable(task.own.federation, task.own.shares)
    samples = learning.design(most, 160, 0)
    (accuracy, seconds), (accuracy_theirs, seconds_theirs) = ours(task, samples), theirs(task, samples)
    some = samples.any(axis=1)  # without data there is no model
    print(f"{jax.devices()[0].device_kind}, {len(samples)} mixtures × {SPLITS} splits")
    print(f"fedgame {seconds:.1f} s, scikit-learn {seconds_theirs:.1f} s: {seconds_theirs / seconds:.1f}x")
    for name, ours_, theirs_ in zip(
        task.own.federation.names,
        accuracy[some].mean((0, 1)),
        accuracy_theirs[some].mean((0, 1)),
        strict=True,
    ):
        print(f"{name:<14} mean accuracy {ours_:.4f}, scikit-learn {theirs_:.4f}")


if __name__ == "__main__":
    main()
