"""Incentives in federated learning, after Murhekar et al. (NeurIPS 2023): `import fedgame as fg`.

games        what an agent wants
equilibria   where agents end up
mechanisms   what a server can add
learning     the model they train
protocols    who contributes what
runs         directories of runs, resumed and swept
report       what is seen of a run, from its files
inputs       people's own files
experiments  a claim, measured
results      what a command has left in a directory, as data
registry     what people name, and files of theirs that add to it
testing      whether what they add keeps its contract

`__all__` is what the reference documents. What trains, and the packages it needs, load when it is asked for.
"""

import importlib
from typing import Any

from fedgame import equilibria, games, mechanisms, registry
from fedgame.equilibria import (
    Equilibrium,
    all_best_responses,
    best_response,
    certified,
    check_conditions,
    describe,
    is_equilibrium,
    iteration_bound,
    nash_gap,
    solve,
    solve_all,
    theorem_step,
)
from fedgame.equilibria.dynamics import trace
from fedgame.equilibria.implicit import profile
from fedgame.equilibria.solvers import find
from fedgame.games import (
    Cost,
    CustomPayoff,
    EffectiveSamples,
    Game,
    GeneralizationBound,
    LinearCost,
    LinearPayoff,
    MeasuredCurve,
    OfTotal,
    OrderedCost,
    Payoff,
    PowerCost,
    PowerLaw,
    RandomCoverage,
    RandomDiscovery,
    Separable,
    TotalPayoff,
    capacity_from_bound,
    check,
    incurred_costs,
    jacobian,
    marginal_costs,
    own_gradient,
    payoff_values,
    scale_costs,
    subset,
    utilities,
)
from fedgame.games.curves import Fit, bootstrap, fit, fit_all, fits
from fedgame.games.scenarios import Scenario
from fedgame.games.scenarios import load as load_scenario
from fedgame.games.scenarios import save as save_scenario
from fedgame.mechanisms import (
    Announcement,
    Mechanism,
    Refunds,
    Rule,
    alone,
    audit,
    beta_star,
    constrained_equilibrium,
    data_maximizing,
    design_beta,
    design_rates,
    falkinger_beta,
    first_best,
    kkt_residuals,
    largest_p_mean,
    log_p_mean,
    manipulation,
    maximize_welfare,
    optimal_collaboration,
    outcome,
    p_mean,
    participation,
    personal_rates,
    price_of_stability,
    under_mechanism,
    welfare_of_rates,
    whole_units,
)
from fedgame.registry import option, register, use

__version__ = "0.2.0"
_LATER = {  # by name here: where it is, and its name there
    "AFL": ("protocols", "AFL"),
    "CNN": ("learning.models", "CNN"),
    "FedAvg": ("protocols", "FedAvg"),
    "FedBR": ("protocols", "FedBR"),
    "FirstBest": ("protocols", "FirstBest"),
    "Literal": ("protocols", "Literal"),
    "LocalTraining": ("learning.local", "LocalTraining"),
    "MWFed": ("protocols", "MWFed"),
    "Plan": ("protocols", "Plan"),
    "Protocol": ("protocols", "Protocol"),
    "QFFL": ("protocols", "QFFL"),
    "Study": ("experiments.studies", "Study"),
    "Trainer": ("learning.trainer", "Trainer"),
    "VGG11": ("learning.models", "VGG11"),
    "accuracy": ("learning.evaluation", "accuracy"),
    "always": ("protocols", "always"),
    "federated_round": ("learning.federated", "federated_round"),
    "holdings": ("learning.partitions", "holdings"),
    "initial_parameters": ("learning.models", "initial_parameters"),
    "load_images": ("learning.data", "load"),
    "load_model": ("experiments.trained", "load"),
    "measure_curve": ("learning.curve", "measure"),
    "partition": ("learning.partitions", "partition"),
    "sizes_to_measure": ("learning.curve", "grid"),
}
_ROOMS = ("experiments", "inputs", "learning", "protocols", "report", "results", "runs", "testing")


def payoff(text: str) -> Payoff:
    """The payoff that a text names, for example `power(best=0.97, scale=6, exponent=0.8, shift=12)`.

    Errors, of this and of the four that follow: as `registry.read`.
    """
    return registry.read("payoff", text)


def cost(text: str) -> Cost:
    """The cost that a text names, for example `power(rate=[0.001, 0.002], exponent=1.5)`."""
    return registry.read("cost", text)


def rule(text: str) -> Rule:
    """The rule that a text names, for example `price(price=0.004)`; called with a game it announces."""
    return registry.read("rule", text)


def protocol(text: str) -> "protocols.Protocol":  # noqa: F821, it loads here
    """The protocol that a text names, for example `fedbr(price(price=0.004), steps=50)`."""
    importlib.import_module("fedgame.protocols")
    return registry.read("protocol", text)


def study(text: str) -> "experiments.studies.Study":  # noqa: F821, it loads here
    """The study that a text names, for example `unequal_costs(ratios=[1, 8])`."""
    importlib.import_module("fedgame.experiments.studies")
    return registry.read("study", text)


def __getattr__(name: str) -> Any:
    """What loads when it is asked for (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f"fedgame.{name}")
    if name not in _LATER:
        raise AttributeError(f"fedgame has no {name!r}{registry.near(name, __all__)}")
    module, attribute = _LATER[name]
    return getattr(importlib.import_module(f"fedgame.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AFL",
    "CNN",
    "QFFL",
    "VGG11",
    "Announcement",
    "Cost",
    "CustomPayoff",
    "EffectiveSamples",
    "Equilibrium",
    "FedAvg",
    "FedBR",
    "FirstBest",
    "Fit",
    "Game",
    "GeneralizationBound",
    "LinearCost",
    "LinearPayoff",
    "Literal",
    "LocalTraining",
    "MWFed",
    "MeasuredCurve",
    "Mechanism",
    "OfTotal",
    "OrderedCost",
    "Payoff",
    "Plan",
    "PowerCost",
    "PowerLaw",
    "Protocol",
    "RandomCoverage",
    "RandomDiscovery",
    "Refunds",
    "Rule",
    "Scenario",
    "Separable",
    "Study",
    "TotalPayoff",
    "Trainer",
    "accuracy",
    "all_best_responses",
    "alone",
    "always",
    "audit",
    "best_response",
    "beta_star",
    "bootstrap",
    "capacity_from_bound",
    "certified",
    "check",
    "check_conditions",
    "constrained_equilibrium",
    "cost",
    "data_maximizing",
    "describe",
    "design_beta",
    "design_rates",
    "equilibria",
    "experiments",
    "falkinger_beta",
    "federated_round",
    "find",
    "first_best",
    "fit",
    "fit_all",
    "fits",
    "games",
    "holdings",
    "incurred_costs",
    "initial_parameters",
    "is_equilibrium",
    "iteration_bound",
    "jacobian",
    "kkt_residuals",
    "largest_p_mean",
    "learning",
    "load_images",
    "load_model",
    "load_scenario",
    "log_p_mean",
    "manipulation",
    "marginal_costs",
    "maximize_welfare",
    "measure_curve",
    "mechanisms",
    "nash_gap",
    "optimal_collaboration",
    "option",
    "outcome",
    "own_gradient",
    "p_mean",
    "participation",
    "partition",
    "payoff",
    "payoff_values",
    "personal_rates",
    "price_of_stability",
    "profile",
    "protocol",
    "protocols",
    "register",
    "registry",
    "results",
    "rule",
    "save_scenario",
    "scale_costs",
    "sizes_to_measure",
    "solve",
    "solve_all",
    "study",
    "subset",
    "testing",
    "theorem_step",
    "trace",
    "under_mechanism",
    "use",
    "utilities",
    "welfare_of_rates",
    "whole_units",
]
