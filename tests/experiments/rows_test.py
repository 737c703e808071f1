import jax.numpy as jnp

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
