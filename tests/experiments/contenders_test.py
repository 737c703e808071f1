"""Which protocols a comparison has, what short flags make of them, and what is announced for each."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedgame import games, registry
from fedgame.experiments import compare, contenders
from fedgame.mechanisms import optimum, rules
from fedgame.protocols import fedavg, fedbr, literal

GAME = games.check(
    games.Game(games.PowerLaw(0.97, 6.0, 0.8, 12.0), games.LinearCost(jnp.array([0.004, 0.005])), [50, 60])
)
SIZES, ACCURACY = np.array([0.0, 50.0, 110.0]), np.array([[0.1, 0.6, 0.8], [0.2, 0.7, 0.8]])


def chosen(*texts, **flags):
    return contenders.chosen(compare.Settings(protocol=texts, **flags))


def made(*texts, **flags):
    return contenders.make(compare.Settings(protocol=texts, **flags), GAME, SIZES, ACCURACY)


@pytest.mark.parametrize(
    ("text", "flags", "title", "expected"),
    [
        ("fedavg", {}, "FedAvg", "fedavg"),
        ("mwfed", {}, "MWFed", "mwfed"),
        ("mwfed", {"mwfed_target": 0.8, "mwfed_factor": 2.0}, "MWFed", "mwfed(target=0.8, factor=2.0)"),
        ("mwfed(target=0.6)", {"mwfed_target": 0.8}, "MWFed (target = 0.6)", "mwfed(target=0.6)"),
        ("mwfed(factor=3)", {"mwfed_target": 0.8}, "MWFed (factor = 3.0)", "mwfed(target=0.8, factor=3.0)"),
        ("afl", {"afl_rate": 0.2}, "AFL", "afl(rate=0.2)"),
        ("qffl(q=1)", {"qffl_q": 0.2}, "q-FFL (q = 1.0)", "qffl(q=1.0)"),
        ("fedbr", {"steps": 7, "step_size": 0.5}, "FedBR", "fedbr(steps=7, step_size=0.5)"),
        ("fedbr(steps=9)", {"steps": 7}, "FedBR (steps = 9)", "fedbr(steps=9)"),
        ("fedbr_bg", {"steps": 7}, "FedBR-BG", "fedbr(rule=beta_star, steps=7)"),
        ("fedbr_bg", {"beta": 0.5}, "FedBR-BG", "fedbr(rule=beta(beta=0.5))"),
        ("fedbr(beta)", {"beta": 0.5}, "FedBR, β (beta = 0.5)", "fedbr(rule=beta(beta=0.5))"),
        ("fedbr(beta(0.25))", {"beta": 0.5}, "FedBR, β (beta = 0.25)", "fedbr(rule=beta(beta=0.25))"),
        ("fedbr_price", {"price": 0.004}, "FedBR, one price", "fedbr(rule=price(price=0.004))"),
        ("fedbr(price(2))", {"price": 4.0}, "FedBR, one price (price = 2.0)", "fedbr(rule=price(price=2.0))"),
        ("fedbr_shapley(steps=9)", {}, "FedBR, Shapley payments (steps = 9)", "fedbr(rule=shapley, steps=9)"),
        ("first_best", {"beta": 0.5}, "First best", "first_best"),
    ],
)  # fmt: skip
def test_short_flags_fill_in_what_a_text_leaves_open_and_the_text_wins(text, flags, title, expected):
    """Titles show the options of texts, so that two texts have different titles whatever the flags are."""
    ((found, protocol),) = chosen(text, **flags).items()
    assert found == title
    assert registry.text_of(protocol) == expected


def test_a_protocol_of_ones_own_that_plays_under_beta_star_is_not_what_beta_is_of():
    @registry.register("mine")
    class Mine(fedavg.FedAvg):
        rule = rules.beta_star

    @registry.register("more")
    class More(fedbr.FedBR):
        """FedBR, and more."""

    found = chosen("mine", "more(beta_star)", "fedbr_bg", beta=0.5)
    rule_of = {registry.name_of(type(one)): registry.text_of(one.rule) for one in found.values()}
    assert rule_of == {"mine": "beta_star", "more": "beta_star", "fedbr": "beta(beta=0.5)"}


def test_equal_rules_are_announced_once_and_the_first_best_is_found_once(monkeypatch):
    found, find, asked = [], optimum.first_best, []
    monkeypatch.setattr(optimum, "first_best", lambda game: found.append(1) or find(game))

    @registry.register("mine")
    def mine(game, share=registry.option("of costs", 0.5), best=None):
        asked.append((share, best is not None))
        return rules.falkinger(game)

    equal = "fedbr(personal(transfers='equal'))"  # as the first best has them
    texts = ("fedbr(mine)", "first_best", equal, "fedbr_prices", "fedbr(mine(0.5), steps=7)")
    several = made(*texts, "fedbr(mine(share=0.25))", "fedbr(prices, steps=3)")
    assert len(found) == 1
    assert asked == [(0.5, False), (0.25, True)]  # nobody has looked for it when the first is announced
    told = {one.title: one.announced for one in several}
    assert told["First best"] is told["FedBR, personal rates (transfers = 'equal')"]
    assert told["FedBR, mine"] is told["FedBR, mine (steps = 7)"]
    assert told["FedBR, mine"] is not told["FedBR, mine (share = 0.25)"]
    assert told["FedBR, Pigou's prices"] is told["FedBR, Pigou's prices (steps = 3)"]
    assert told["FedBR, Pigou's prices"].best is told["First best"].best


def test_the_literal_mode_is_of_fedbr_alone_and_keeps_titles():
    several = made("fedavg", "fedbr_bg", "fedbr(falkinger, steps=7)", mode="literal", interval=5)
    assert [one.title for one in several] == ["FedAvg", "FedBR-BG", "FedBR, β = 1 - 1/n (steps = 7)"]
    assert [type(one.protocol) for one in several] == [fedavg.FedAvg, literal.Literal, literal.Literal]
    last = several[-1].protocol
    assert (last.rule.name, last.steps, last.step_size, last.interval) == ("falkinger", 7, None, 5.0)
    np.testing.assert_array_equal(last.sizes, SIZES)
    np.testing.assert_allclose(last.accuracy, [0.15, 0.65, 0.8], rtol=1e-12)  # the mean over seeds
    assert made("fedbr", mode="literal")[0].protocol.interval == 10.0
