"""Rows of tables as features of models: numbers imputed and scaled, categories one-hot, by scikit-learn.

What is learnt from data, means and standard deviations, is learnt from the records that can be trained on, of
all members together, as a federation would agree on it before it trains. Which columns there are, which of
them have empty cells, and which categories occur is known of all records: so models of all splits have the
same shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Schema(NamedTuple):
    """The columns of all members' tables."""

    numbers: tuple[str, ...]  # names of columns of numbers
    categories: dict[str, tuple[str, ...]]  # of columns of texts: what occurs in them
    gaps: tuple[bool, ...]  # of the columns of numbers: whether a member has an empty cell there


class Columns(NamedTuple):
    """One member's records."""

    numbers: np.ndarray  # [m, columns of numbers] float64; NaN: empty
    texts: np.ndarray  # [m, columns of texts] of str; "": empty


def width(schema: Schema) -> int:
    """The number of features."""
    return len(schema.numbers) + sum(schema.gaps) + sum(len(known) for known in schema.categories.values())


def features(schema: Schema, records: Sequence[Columns], train: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The features of all records of each member, [m_i, d] float32.

    Empty cells of numbers become the mean, and 1 in a column of their own, if the column has any; everything
    is then scaled to mean 0 and standard deviation 1. A category is 1 in its column; empty cells of texts are
    0 in all columns. Constant columns are 0.

    Args:
      schema: of all members' tables.
      records: by member.
      train: by member, the rows from which means and standard deviations are learnt.
    """
    from sklearn import compose, impute, pipeline, preprocessing  # takes most of a second to import

    gaps, number = np.flatnonzero(schema.gaps), len(schema.numbers)
    steps = [
        (
            "numbers",
            pipeline.make_pipeline(
                impute.SimpleImputer(keep_empty_features=True), preprocessing.StandardScaler()
            ),
            list(range(number)),
        ),
        (
            "gaps",
            pipeline.make_pipeline(impute.MissingIndicator(features="all"), preprocessing.StandardScaler()),
            gaps.tolist(),
        ),
    ]
    numeric = compose.ColumnTransformer(steps)
    numeric.fit(np.concatenate([own.numbers[rows] for own, rows in zip(records, train, strict=True)]))
    found = [numeric.transform(own.numbers) for own in records]
    if schema.categories:
        known = [np.array(texts, object) for texts in schema.categories.values()]
        encoder = preprocessing.OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False)
        encoder.fit(np.array([[texts[0] for texts in known]], object))
        found = [
            np.concatenate([some, encoder.transform(own.texts)], axis=1)
            for some, own in zip(found, records, strict=True)
        ]
    return [np.asarray(some, np.float32) for some in found]
