"""No command computes twice what takes a solver: calls are counted by their arguments."""

import collections
import dataclasses
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from fedgame import equilibria, games, registry
from fedgame.equilibria import certificates
from fedgame.experiments import compare, equilibrium, mechanism
from fedgame.inputs import read as inputs
from fedgame.mechanisms import design, optimum, outcomes, personal, theorem
from fedgame.runs import workdir
from fedgame.runs.experiment import Resources

NUMBERS = mechanism.Settings(
    family="power", best=(0.97,), scale=(6.0,), power=(0.8,), shift=(12.0,), cost=(0.004, 0.005, 0.012),
    capacity=(100.0,), over_beta=4, p=(1.0, 0.0),
)  # fmt: skip
LEAVES = {"fixed": (0.0, 0.0, 0.6)}  # nobody wants to bear the third agent's fixed cost, so somebody goes
# What is counted, by a name that says which functions compute the same from the same arguments.
COUNTED = [
    ("solve", equilibria.solve),
    *[("certify", x) for x in (outcomes._prove, personal._certify, theorem._certify)],
    *[("announced", outcomes._certified), ("alone", personal._alone), ("first best", optimum.first_best)],
    *[("best responses", certificates.best_response), ("largest mean", optimum.maximize_welfare)],
    ("designed", design.design_beta),  # traced, once for every time that it is compiled
]


def told(x):
    """What identifies an argument: its numbers, or its shape if it is traced."""
    if isinstance(x, jax.core.Tracer):
        return str(x.aval)
    return x if isinstance(x, str) or callable(x) else (np.shape(x), np.asarray(x, float).tobytes())


@pytest.fixture
def calls(monkeypatch):
    """Counts how often each computation is made, by name and arguments."""
    seen = collections.Counter()

    def counting(name, real):
        def counted(*args, **kwargs):
            numbers, kind = jax.tree.flatten((args, kwargs))
            inside = name != "designed" and any(isinstance(x, jax.core.Tracer) for x in numbers)
            if not inside:  # a part of a larger program is no call
                seen[name, str(kind), *map(told, numbers)] += 1
            return real(*args, **kwargs)

        return counted

    wrapped = [(real, counting(name, real)) for name, real in COUNTED]
    for module in [x for name, x in sys.modules.items() if name.split(".")[0] == "fedgame"]:
        for name, value in list(vars(module).items()):
            for real, counted in wrapped:
                if value is real:
                    monkeypatch.setattr(module, name, counted)
    return seen


CASES = {
    "none, some leave": LEAVES,
    "beta_star, equal costs": {"cost": (0.004,), "capacity": (100.0, 90.0)},
    "falkinger, nobody may leave": LEAVES | {"leave": False},
    "personal, some leave": LEAVES,
    "personal, rational": {"rational": True, "value": (5.0, 1.0, 1.0)},
    "designed": {},
    "price": {},
    "prices, some leave": LEAVES,
    "data_maximizing": {},
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_computed_twice_in_launch_mechanism(case, calls, tmp_path):
    settings = dataclasses.replace(NUMBERS, mechanism=case.split(",")[0], **CASES[case])
    mechanism.compute(mechanism.prepare(settings), workdir.Workdir(tmp_path))
    assert {name for name, *_ in calls} >= {"solve", "alone", "first best"}
    assert [key[0] for key, times in calls.items() if times > 1] == []


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(10)(images.reshape(len(images), -1))


@pytest.fixture
def as_in_launch_mechanism(monkeypatch):
    """Games on measured curves have the shapes of two agents who stay above, and so their programs."""
    fit_game = compare.fit_game

    def shaped(*args):
        game, fit = fit_game(*args)
        # Unequal, or personal rates would be 1 - 1/n too, as another mechanism that is solved for itself.
        law, value = fit.payoff, np.linspace(0.9, 1.1, game.n)
        payoff = games.PowerLaw(law.best, law.scale, law.exponent, law.shift)
        cost = registry.per_agent(game.cost, game.n)
        return game.replace(payoff=payoff, cost=cost, value=value, quality=np.ones(game.n)), fit

    monkeypatch.setattr(compare, "fit_game", shaped)


@pytest.mark.usefixtures("as_in_launch_mechanism")
def test_nothing_is_computed_twice_in_launch_compare(calls, tmp_path):
    """Three protocols need the first best, and with equal costs β* is 1 - 1/n."""
    protocols = (
        "fedbr",
        "fedbr_bg",
        "fedbr_falkinger",
        "fedbr(personal(transfers='equal'))",
        "fedbr_prices",
        "first_best",
    )
    given = {"agents": 2, "capacity": (12,), "rounds": 1, "held_out": 80, "sizes": (6, 15, 30), "steps": 5}
    given |= {"curve_seeds": 1, "seeds": 1, "protocol": protocols, "cost": (0.004,), "fit": "power"}
    task = compare.prepare(compare.Settings(**given))._replace(model=Linear())
    compare.compute(task, workdir.Workdir(tmp_path), Resources(workers=1))
    counted = collections.Counter(name for name, *_ in calls)
    assert counted["first best"] == 1
    assert counted["solve"] == 3  # none, β* and 1 - 1/n, personal rates; s* of the prices is known
    assert [key[0] for key, times in calls.items() if times > 1] == []


def test_launch_equilibrium_lists_equilibria_only_where_there_may_be_others(monkeypatch, tmp_path):
    """`solve` proves that there is only one; with clipped payoffs it finds the largest of several."""
    listed = []
    real = equilibria.solve_all
    monkeypatch.setattr(equilibria, "solve_all", lambda game: listed.append(real(game)) or listed[-1])
    names = [field.name for field in dataclasses.fields(inputs.ScenarioSettings)]
    numbers = {name: getattr(NUMBERS, name) for name in names}
    bound = {
        "family": "bound",
        "best": (0.95,),
        "difficulty": (1.0,),
        "cost": (4e-3,) * 3,
        "capacity": (5e3,),
    }
    given = {"only one": numbers, "two": bound}
    for clipped, name in enumerate(given):
        settings = equilibrium.Settings(**given[name])
        prepared, work = equilibrium.prepare(settings), workdir.Workdir(tmp_path / name)
        work.path.mkdir()
        equilibrium.compute(prepared, work)
        rows = work.read_csv("equilibria.csv")
        assert len(listed) == clipped
        found = listed[0] if clipped else real(prepared.scenario.game)
        expected = [np.asarray(one.profile).sum() for one in found]
        assert len(expected) == 1 + clipped
        np.testing.assert_allclose([float(row["contributed"]) for row in rows], expected, rtol=1e-12)


def test_what_is_not_certified_is_not_listed_among_equilibria(monkeypatch, tmp_path):
    real = equilibria.solve
    monkeypatch.setattr(equilibria, "solve", lambda game: real(game).replace(converged=False))
    names = [field.name for field in dataclasses.fields(inputs.ScenarioSettings)]
    settings = equilibrium.Settings(**{name: getattr(NUMBERS, name) for name in names})
    work = workdir.Workdir(tmp_path)
    equilibrium.compute(equilibrium.prepare(settings), work)
    assert not work.has("equilibria.csv")
    assert work.read_json("equilibrium.json")["equilibrium_totals"] == []
    assert "NO certified equilibrium" in equilibrium.show(work)
