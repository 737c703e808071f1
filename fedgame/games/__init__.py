"""What an agent wants (Section 2).

payoffs    a_i(s): payoffs of the total, Eqs. (2)-(3), a measured curve ã (Section 5.1); linear, random
           discovery, random coverage (1) (Section 2.1); separable, any
costs      c_i(s_i): linear, power, ordered selection
regression least squares, for the `fit` of payoffs
curves     fits payoffs that define `fit` to measured learning curves, and to resampled ones
exchange_rates  what one member's samples are worth to another, from models trained on mixtures of them
game       u_i = v_i a_i - c_i, own gradients ∂u_i/∂s_i, the Jacobian G of Theorem 3.2, τ_i = c_i⁻¹(A_i)
scenarios  games to and from JSON
"""

from fedgame.games.costs import COSTS, Cost, LinearCost, OrderedCost, PowerCost
from fedgame.games.game import (
    Game,
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
from fedgame.games.payoffs import (
    PAYOFFS,
    CustomPayoff,
    EffectiveSamples,
    GeneralizationBound,
    LinearPayoff,
    MeasuredCurve,
    OfTotal,
    Payoff,
    PowerLaw,
    RandomCoverage,
    RandomDiscovery,
    Separable,
    TotalPayoff,
)

__all__ = [
    "COSTS",
    "PAYOFFS",
    "Cost",
    "CustomPayoff",
    "EffectiveSamples",
    "Game",
    "GeneralizationBound",
    "LinearCost",
    "LinearPayoff",
    "MeasuredCurve",
    "OfTotal",
    "OrderedCost",
    "Payoff",
    "PowerCost",
    "PowerLaw",
    "RandomCoverage",
    "RandomDiscovery",
    "Separable",
    "TotalPayoff",
    "capacity_from_bound",
    "check",
    "incurred_costs",
    "jacobian",
    "marginal_costs",
    "own_gradient",
    "payoff_values",
    "scale_costs",
    "subset",
    "utilities",
]
