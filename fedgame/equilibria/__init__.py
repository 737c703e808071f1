"""Where agents end up (Section 3).

certificates  best responses f_i and the Nash gap (Definition 1, Proposition 1)
dynamics      Eq. (4), best-response dynamics; Theorem 3.2's step size and bound
total         payoffs of S: equilibria as roots of one equation in S
responses     best responses in turn, for payoffs of any statistic of the profile
pivoting      payoffs of effective samples: the path of a linear complementarity problem
solvers       chooses a method, certifies what it finds, and puts the status into words
implicit      the equilibrium as a differentiable function of the game
conditions    whether Theorems 3.1 and 3.2 apply to a game; λ and L on a box, by formula
"""

from fedgame.equilibria.certificates import all_best_responses, best_response, is_equilibrium, nash_gap
from fedgame.equilibria.conditions import check_conditions
from fedgame.equilibria.dynamics import iteration_bound, theorem_step
from fedgame.equilibria.solvers import Equilibrium, certified, describe, solve, solve_all

__all__ = [
    "Equilibrium",
    "all_best_responses",
    "best_response",
    "certified",
    "check_conditions",
    "describe",
    "is_equilibrium",
    "iteration_bound",
    "nash_gap",
    "solve",
    "solve_all",
    "theorem_step",
]
