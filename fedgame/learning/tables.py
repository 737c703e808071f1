"""Rows of tables as features of models: numbers imputed and scaled, categories one-hot.

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


class Preparation(NamedTuple):
    """How columns become features, as it was learnt from the records that are trained on."""

    schema: Schema
    fill: np.ndarray  # [columns of numbers] stands in for an empty cell
    mean: np.ndarray  # [columns of numbers, then those of them with gaps] is subtracted
    deviation: np.ndarray  # likewise, divides what is left; 1 of constant columns


def learnt(schema: Schema, records: Sequence[Columns], train: Sequence[np.ndarray]) -> Preparation:
    """The preparation of all members' records.

    Args:
      schema: of all members' tables.
      records: by member.
      train: by member, the rows from which means and standard deviations are learnt.
    """
    from sklearn import impute, pipeline, preprocessing  # takes most of a second to import

    whole = np.concatenate([own.numbers[rows] for own, rows in zip(records, train, strict=True)])
    gaps, number = np.flatnonzero(schema.gaps).tolist(), len(schema.numbers)
    fill, scalers = np.zeros(0), []
    if number:
        imputer = impute.SimpleImputer(keep_empty_features=True)
        fitted = pipeline.make_pipeline(imputer, preprocessing.StandardScaler())
        scalers.append(fitted.fit(whole[:, list(range(number))])[1])
        fill = imputer.statistics_
    if gaps:
        indicator = impute.MissingIndicator(features="all")
        fitted = pipeline.make_pipeline(indicator, preprocessing.StandardScaler())
        scalers.append(fitted.fit(whole[:, gaps])[1])
    mean = np.concatenate([np.zeros(0), *(scaler.mean_ for scaler in scalers)])
    deviation = np.concatenate([np.zeros(0), *(scaler.scale_ for scaler in scalers)])
    return Preparation(schema, fill, mean, deviation)


def prepared(preparation: Preparation, own: Columns) -> np.ndarray:
    """The features of records, [m, d] float32.

    Empty cells of numbers become the mean, and 1 in a column of their own, if the column has any; everything
    is then scaled to mean 0 and standard deviation 1. A category is 1 in its column; empty cells of texts,
    and texts that the schema does not know, are 0 in all columns. Constant columns are 0.
    """
    schema, empty = preparation.schema, np.isnan(own.numbers)
    filled = np.where(empty, preparation.fill, own.numbers)
    numbers = np.concatenate([filled, empty[:, np.asarray(schema.gaps, bool)]], axis=1)
    parts = [(numbers - preparation.mean) / preparation.deviation]
    for k, known in enumerate(schema.categories.values()):
        parts.append(own.texts[:, k, None] == np.array(known, object)[None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def features(schema: Schema, records: Sequence[Columns], train: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`prepared` records of each member, [m_i, d], by what is `learnt` from those that are trained on."""
    preparation = learnt(schema, records, train)
    return [prepared(preparation, own) for own in records]
