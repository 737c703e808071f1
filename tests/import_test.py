"""One import gives everything, quickly: what trains loads when it is asked for."""

import subprocess
import sys

import pytest

import fedgame as fg

HEAVY = (
    "pandas",
    "flax",
    "optax",
    "orbax",
    "chex",
    "matplotlib",
    "sklearn",
    "scipy.optimize",
    "tensorflow_datasets",
)


def test_the_one_import_loads_nothing_that_trains_fits_or_draws():
    code = f"import sys, fedgame; print([x for x in {HEAVY} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", fg.__all__)
def test_every_name_is_there_and_documented(name):
    assert getattr(fg, name).__doc__
    assert name in dir(fg)


def test_a_name_that_there_is_not_is_told_with_one_that_is_near():
    with pytest.raises(AttributeError, match="fedgame has no 'Gmae'; did you mean 'Game'"):
        fg.Gmae  # noqa: B018


def test_the_same_text_works_in_python():
    payoff = fg.payoff("power(0.9, 6, exponent=0.8)")
    assert fg.registry.text_of(payoff) == "power(best=0.9, scale=6.0, exponent=0.8)"
    assert fg.registry.text_of(fg.cost("linear(rate=0.1)")) == "linear(rate=0.1)"
    assert str(fg.rule("price(price=0.004)")) == "price(price=0.004)"
    assert fg.protocol("fedbr_bg(steps=7)").title == "FedBR-BG (steps = 7)"
    assert fg.study("unequal_costs(ratios=[1, 8])").ratios == (1, 8)
