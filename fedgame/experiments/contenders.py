"""The protocols that `launch.compare` knows by name, made for the game on the measured curve."""

from collections.abc import Callable

import numpy as np

from fedgame.experiments import config as configs
from fedgame.games import game as games
from fedgame.mechanisms import budget_balanced, rules
from fedgame.protocols import afl, base, fedavg, fedbr, first_best, literal, mwfed, qffl

_INTERVAL = 10  # Δs of Section 5.2


def make(
    config: configs.Config, game: games.Game, beta: float | None, sizes: np.ndarray, accuracy: np.ndarray
) -> list[base.Protocol]:
    """The protocols that the settings ask for.

    Args:
      config: settled.
      game: on the fitted curve.
      beta: β of FedBR-BG; None if costs have no β*.
      sizes: [k] totals at which ã was measured.
      accuracy: [seeds, k]; the literal mode sees its means alone.
    """
    capacity = np.asarray(config.capacity)

    def play(name: str, rule: rules.Rule) -> base.Protocol:
        options = {
            "mechanism": rule(game),
            "name": name,
            "steps": config.steps,
            "step_size": config.step_size,
        }
        if config.mode == "continuous":
            return fedbr.protocol(game, **options)
        interval = config.interval or _INTERVAL
        return literal.protocol(game, sizes, np.mean(accuracy, axis=0), interval, **options)

    makers: dict[str, Callable[[], base.Protocol]] = {
        "fedavg": lambda: fedavg.protocol(capacity),
        "mwfed": lambda: mwfed.protocol(capacity, config.mwfed_target, config.mwfed_factor),
        "fedbr": lambda: play("FedBR", rules.none),
        "fedbr_bg": lambda: play("FedBR-BG", lambda game: budget_balanced.Refunds(beta)),
        "fedbr_falkinger": lambda: play("FedBR, β = 1 - 1/n", rules.falkinger),
        "fedbr_personal": lambda: play("FedBR, personal rates", rules.personal),
        "first_best": lambda: first_best.protocol(game),
        "afl": lambda: afl.protocol(capacity, config.afl_rate),
        "qffl": lambda: qffl.protocol(capacity, config.qffl_q, config.learning_rate),
    }
    return [makers[name]() for name in config.protocol]
