"""The protocols that `launch.compare` knows by name, made for the game on the measured curve."""

import functools
from collections.abc import Callable

import numpy as np

from fedgame.experiments import settings as all_settings
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, personal, rules
from fedgame.mechanisms import prices as pigou
from fedgame.protocols import afl, base, fedavg, fedbr, first_best, literal, mwfed, qffl

_INTERVAL = 10  # Δs of Section 5.2


def make(
    settings: all_settings.CompareSettings,
    game: games.Game,
    beta: float | None,
    sizes: np.ndarray,
    accuracy: np.ndarray,
) -> list[base.Protocol]:
    """The protocols that the settings ask for.

    Args:
      settings: settled.
      game: on the fitted curve.
      beta: β of FedBR-BG; None if costs have no β*.
      sizes: [k] totals at which ã was measured.
      accuracy: [seeds, k]; the literal mode sees its means alone.
    """
    capacity = np.asarray(settings.capacity)

    def play(name: str, rule: rules.Rule) -> base.Protocol:
        mechanism, dynamics = rule(game), (settings.steps, settings.step_size)
        if settings.mode == "continuous":
            return fedbr.FedBR(game, mechanism, name, *dynamics)
        interval = settings.interval or _INTERVAL
        measured = sizes, np.mean(accuracy, axis=0), interval
        return literal.Literal(game, *measured, mechanism, name, *dynamics)

    @functools.cache  # found once for all protocols that need it
    def best() -> personal.FirstBest:
        return personal.first_best(game)

    @functools.cache  # one object, so that its equilibrium is solved for once
    def personal_rates() -> budget_balanced.Refunds:
        return personal.refunds(game, best())

    makers: dict[str, Callable[[], base.Protocol]] = {
        "fedavg": lambda: fedavg.FedAvg(capacity),
        "mwfed": lambda: mwfed.MWFed(capacity, settings.mwfed_target, settings.mwfed_factor),
        "fedbr": lambda: play("FedBR", rules.none),
        "fedbr_bg": lambda: play("FedBR-BG", lambda game: budget_balanced.Refunds(beta)),
        "fedbr_falkinger": lambda: play("FedBR, β = 1 - 1/n", rules.falkinger),
        "fedbr_personal": lambda: play("FedBR, personal rates", lambda game: personal_rates()),
        "fedbr_price": lambda: play("FedBR, one price", lambda game: rules.price(game, settings.price)),
        "fedbr_prices": lambda: play("FedBR, Pigou's prices", lambda game: pigou.pigou(game, best=best())),
        "fedbr_shapley": lambda: play("FedBR, Shapley payments", rules.shapley),
        "fedbr_data_maximizing": lambda: play("FedBR, accuracy as the reward", rules.data_maximizing),
        "first_best": lambda: first_best.FirstBest(game, np.asarray(best().profile), personal_rates()),
        "afl": lambda: afl.AFL(capacity, settings.afl_rate),
        "qffl": lambda: qffl.QFFL(capacity, settings.qffl_q, settings.learning_rate),
    }
    return [makers[name]() for name in settings.protocol]
