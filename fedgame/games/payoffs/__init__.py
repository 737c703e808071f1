"""Payoffs a_i(s): what an agent gains from the model that everyone's data trains (Section 2.1).

Every family is a file of its own and keeps the contract of `base`. Payoffs are non-negative in the paper:
(2) and (3) are clipped at 0 unless `clip=False` asks for the raw formula.
"""

from fedgame.games.payoffs.base import PAYOFFS, Curvature, OfTotal, Payoff
from fedgame.games.payoffs.effective_samples import ALWAYS, EffectiveSamples, why_p_matrix
from fedgame.games.payoffs.functions import CustomPayoff, Separable, TotalPayoff
from fedgame.games.payoffs.generalization_bound import GeneralizationBound
from fedgame.games.payoffs.linear import LinearPayoff
from fedgame.games.payoffs.measured_curve import MeasuredCurve
from fedgame.games.payoffs.power_law import PowerLaw
from fedgame.games.payoffs.random_coverage import RandomCoverage
from fedgame.games.payoffs.random_discovery import RandomDiscovery

__all__ = [
    "ALWAYS",
    "PAYOFFS",
    "Curvature",
    "CustomPayoff",
    "EffectiveSamples",
    "GeneralizationBound",
    "LinearPayoff",
    "MeasuredCurve",
    "OfTotal",
    "Payoff",
    "PowerLaw",
    "RandomCoverage",
    "RandomDiscovery",
    "Separable",
    "TotalPayoff",
    "why_p_matrix",
]
