"""The protocols that a comparison names, and what each of them is played under."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import rules
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import base, fedbr, literal
from fedgame.runs import settings as all_settings

_INTERVAL = 10  # Δs of Section 5.2


class Contender(NamedTuple):
    """One protocol of a comparison."""

    title: str  # in tables and figures
    protocol: base.Protocol
    announced: Announcement  # of its rule, for the game on the measured curve


def chosen(settings: Any) -> dict[str, base.Protocol]:
    """The protocols that the settings name, by title; other flags are used where a text gives no option.

    Raises:
      ValueError: a text names no protocol, or two of them are the same.
    """
    flags = {
        "mwfed": {"target": settings.mwfed_target, "factor": settings.mwfed_factor},
        "afl": {"rate": settings.afl_rate},
        "qffl": {"q": settings.qffl_q},
        "fedbr": {"steps": settings.steps, "step_size": settings.step_size},
        "price": {} if settings.price is None else {"price": settings.price},
    }
    needed = {} if settings.beta is None else {"beta": {"beta": settings.beta}}  # by rules, so in titles
    found: dict[str, base.Protocol] = {}
    for text in settings.protocol:
        with all_settings.of_flag("protocol"):
            plain = registry.read("protocol", text, needed)
            protocol = registry.read("protocol", text, flags | needed)
        title = protocol.title if plain.title in found else plain.title
        if title in found:
            raise ValueError(f"--protocol names one twice: {title}")
        bg = type(protocol) is fedbr.FedBR and protocol.rule.name == "beta_star"
        if settings.beta is not None and bg:
            protocol = dataclasses.replace(protocol, rule=rules.beta.having(beta=settings.beta))
        found[title] = protocol
    return found


def make(settings: Any, game: games.Game, sizes: np.ndarray, accuracy: np.ndarray) -> list[Contender]:
    """The protocols that the settings name, and what is announced for each; once for those of equal rules.

    Args:
      settings: settled.
      game: on the fitted curve.
      sizes: [k] totals at which ã was measured.
      accuracy: [seeds, k]; the literal mode sees its means alone.

    Raises:
      ValueError: as the rules do.
    """
    announced: dict[str, Announcement] = {}
    found = []
    for title, protocol in chosen(settings).items():
        if settings.mode == "literal" and type(protocol) is fedbr.FedBR:
            measured = sizes, np.mean(accuracy, axis=0), float(settings.interval or _INTERVAL)
            protocol = literal.Literal(*measured, protocol.rule, protocol.steps, protocol.step_size)
        rule = registry.text_of(protocol.rule)
        if rule not in announced:
            best = next((one.best for one in announced.values() if one.best is not None), None)
            announced[rule] = protocol.rule.announced(game, best)
        found.append(Contender(title, protocol, announced[rule]))
    return found
