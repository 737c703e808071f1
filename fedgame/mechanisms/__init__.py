"""What a server can add (Section 4), audited, and what does better.

base             the contract of a mechanism: payments, and what a game is under them
refunds          refunds of costs: M_β, β* (Definition 2, Lemma 1), Falkinger's 1 - 1/n, whole currency units
welfare          p-means, on the scale of Section 1.1 and on that of Table 1; rows that contradict themselves
budgets          the general model u_i(b_i, S) of Section 4, program (5)
optimum          the first best, and the largest W_p under M_β: programs (7), (19), with duals and a bound
theorem          Theorem 4.1 on your game: KKT (20)-(26) at the equilibrium, and a verdict
personal         personal rates whose equilibrium is the utilitarian optimum
price, prices    one price per sample for all; Pigou's prices, one for each
shapley          Shapley payments
design           rates by gradient ascent through the equilibrium
rules            from a game to what a server announces, by name
outcomes         who would rather leave, and who is left
coalitions       which members could keep everybody who belongs to them
misreports       what misreporting a cost gains (Remark 2)
choice           which mechanism to choose: those that apply, and the simplest of the nearly best
baselines        Karimireddy et al. 2022: accuracy as the reward for data
constrained      Blum et al. 2021: the least data that reaches a target
"""

from fedgame.mechanisms.base import RULES, Announcement, Mechanism, Rule
from fedgame.mechanisms.baselines import data_maximizing
from fedgame.mechanisms.constrained import constrained_equilibrium, optimal_collaboration, price_of_stability
from fedgame.mechanisms.design import design_beta, design_rates, welfare_of_rates
from fedgame.mechanisms.misreports import manipulation
from fedgame.mechanisms.optimum import first_best, largest_p_mean, maximize_welfare
from fedgame.mechanisms.outcomes import Outcome, outcome, participation
from fedgame.mechanisms.personal import alone, personal_rates
from fedgame.mechanisms.refunds import (
    Refunds,
    beta_star,
    falkinger_beta,
    payments,
    under_mechanism,
    utilities,
    whole_units,
)
from fedgame.mechanisms.rules import announced
from fedgame.mechanisms.theorem import audit, kkt_residuals
from fedgame.mechanisms.welfare import log_p_mean, p_mean

__all__ = [
    "RULES",
    "Announcement",
    "Mechanism",
    "Outcome",
    "Refunds",
    "Rule",
    "alone",
    "announced",
    "audit",
    "beta_star",
    "constrained_equilibrium",
    "data_maximizing",
    "design_beta",
    "design_rates",
    "falkinger_beta",
    "first_best",
    "kkt_residuals",
    "largest_p_mean",
    "log_p_mean",
    "manipulation",
    "maximize_welfare",
    "optimal_collaboration",
    "outcome",
    "p_mean",
    "participation",
    "payments",
    "personal_rates",
    "price_of_stability",
    "under_mechanism",
    "utilities",
    "welfare_of_rates",
    "whole_units",
]
