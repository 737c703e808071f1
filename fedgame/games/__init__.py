"""What an agent wants (Section 2).

payoffs  a_i(s): the families of Section 2.1, Eqs. (1)-(3), and a measured curve ã (Section 5.1)
costs    c_i(s_i)
curves   fits of a measured curve
game     u_i = v_i a_i - c_i, own gradients ∂u_i/∂s_i, the Jacobian G of Theorem 3.2
"""

from fedgame.games.costs import LinearCost, PowerCost
from fedgame.games.game import Game, check, incurred_costs, jacobian, own_gradient, payoff_values, utilities
from fedgame.games.payoffs import (
    CustomPayoff,
    GeneralizationBound,
    LinearPayoff,
    MeasuredCurve,
    PowerLaw,
    RandomCoverage,
    RandomDiscovery,
    TotalPayoff,
)

__all__ = [
    "CustomPayoff",
    "Game",
    "GeneralizationBound",
    "LinearCost",
    "LinearPayoff",
    "MeasuredCurve",
    "PowerCost",
    "PowerLaw",
    "RandomCoverage",
    "RandomDiscovery",
    "TotalPayoff",
    "check",
    "incurred_costs",
    "jacobian",
    "own_gradient",
    "payoff_values",
    "utilities",
]
