import jax.numpy as jnp
import numpy as np
import pytest

from fedgame.experiments import rows
from fedgame.mechanisms import price, refunds, shapley


def test_what_is_announced_is_told_in_a_few_characters():
    for mechanism, words in (
        (refunds.Refunds(0.5), "β = 0.5"),
        (refunds.Refunds(jnp.asarray([0.25, 0.5])), "β_i = 0.25 to 0.5"),
        (price.Price(0.125), "price = 0.125"),
        (shapley.Shapley(), ""),
    ):
        assert rows.told(mechanism, 2) == words


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"mean_utility": np.inf}, "^mean utility is inf, not a finite number, though all inputs are: "),
        ({"total": 1.0, "payoff": np.array([1.0, np.nan])}, "^payoff of agent b is nan, not a finite number"),
        ({"total": 1.0, "payoff": np.array([1.0, 2.0])}, None),
    ],
)
def test_results_that_are_not_finite_are_refused_by_name(found, message):
    if message is None:
        rows.check_finite(found, ["a", "b"])
        return
    with pytest.raises(FloatingPointError, match=message):
        rows.check_finite(found, ["a", "b"])
