"""The first best: what a server would decide if it could, as the measure of everything else.

Agents contribute the profile with the largest Σ u_i, and costs are settled with the payments of personal
rates (`mechanisms.personal`), whose transfers make all utilities equal. So every p-mean with p ≤ 1 is at
its bound, (max Σ u_j)/n, as long as accuracies are those of ã.
"""

import numpy as np

from fedgame.games import game as games
from fedgame.mechanisms import personal
from fedgame.protocols import base


def protocol(game: games.Game) -> base.Protocol:
    """The first best of the game on ã; nobody decides anything, so nothing depends on the key.

    Errors as `mechanisms.personal.personal_rates`; one agent alone needs no payments.
    """
    if game.n > 1:
        found = personal.personal_rates(game)
        mechanism = found.mechanism
    else:
        found, mechanism = personal.first_best(game), base.NO_PAYMENTS
    profile = np.asarray(found.profile)
    return base.Protocol("First best", lambda key: base.Plan(profile, profile[None]), mechanism=mechanism)
