"""Where agents end up (Section 3).

dynamics      Eq. (4), best-response dynamics
solvers       equilibria by fast methods, each with its certificate
certificates  best responses f_i and the Nash gap (Definition 1, Proposition 1)
"""

from fedgame.equilibria.certificates import best_response, is_equilibrium, nash_gap
from fedgame.equilibria.solvers import Equilibrium, solve

__all__ = ["Equilibrium", "best_response", "is_equilibrium", "nash_gap", "solve"]
