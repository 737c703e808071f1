"""What a server can add (Section 4).

budget_balanced  M_β: payments, β* (Definition 2, Lemma 1), Falkinger's 1 - 1/n
welfare          p-means, on the scale of Section 1.1 and on that of Table 1
"""

from fedgame.mechanisms.budget_balanced import (
    falkinger_beta,
    optimal_beta,
    payments,
    under_mechanism,
    utilities,
)
from fedgame.mechanisms.welfare import log_p_mean, p_mean

__all__ = [
    "falkinger_beta",
    "log_p_mean",
    "optimal_beta",
    "p_mean",
    "payments",
    "under_mechanism",
    "utilities",
]
