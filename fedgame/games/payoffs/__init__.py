"""Payoffs a_i(s): what an agent gains from the model that everyone's data trains (Section 2.1).

A family sees the other agents only through a statistic z of the profile, usually the linear one
z = A s of m numbers, so own gradients, best responses and Nash gaps cost O(n m). It is written for ONE
agent; `vmap` gives all of them:

    core_ndim               dimensions of one agent's parameters (0 for scalars, 1 for vectors)
    of_total                whether a_i depends on s only through S (m = 1); then there is `curve(S)`
    concave                 whether a_i is known to be concave in s_i, at least where it is not 0
    statistic(s)            z, from the whole profile [n]
    rest(z, own, i)         what agent i sees of the others, who contributes `own` of z herself
    value(own, rest)        a_i
    moved(z, change, i)     z after agent i has changed her contribution
    kept(keep, n)           the payoff if of n agents only `keep` are there; only where taking their
                            parameters is not enough

A parameter with `core_ndim` dimensions is shared by all agents; one more, leading, dimension of
length n makes it one per agent. Payoffs are non-negative in the paper: (2) and (3) are clipped at 0
unless `clip=False` asks for the raw formula. `limits` are what `games.check` checks, beyond numbers
that are not negative.
"""

from fedgame.games.payoffs.base import OfProfile, OfTotal
from fedgame.games.payoffs.functions import CustomPayoff, Separable, TotalPayoff
from fedgame.games.payoffs.generalization_bound import GeneralizationBound
from fedgame.games.payoffs.linear import LinearPayoff
from fedgame.games.payoffs.measured_curve import MeasuredCurve
from fedgame.games.payoffs.power_law import PowerLaw
from fedgame.games.payoffs.random_coverage import RandomCoverage
from fedgame.games.payoffs.random_discovery import RandomDiscovery

__all__ = [
    "CustomPayoff",
    "GeneralizationBound",
    "LinearPayoff",
    "MeasuredCurve",
    "OfProfile",
    "OfTotal",
    "PowerLaw",
    "RandomCoverage",
    "RandomDiscovery",
    "Separable",
    "TotalPayoff",
]
