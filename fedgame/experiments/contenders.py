"""The protocols that a comparison names, and what each of them is played under."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from fedgame import registry
from fedgame.games import game as games
from fedgame.mechanisms import personal, rules
from fedgame.mechanisms.base import Announcement
from fedgame.protocols import base, fedbr, literal
from fedgame.runs import settings as all_settings

_INTERVAL = 10  # Δs of Section 5.2, in samples


class Contender(NamedTuple):
    """One protocol of a comparison."""

    title: str  # in tables and figures
    protocol: base.Protocol
    announced: Announcement  # what its rule announces for the game on the fitted curve


def chosen(settings: Any) -> dict[str, base.Protocol]:
    """The protocols that the settings name, by title; other flags are used for options that texts leave open.

    Raises:
      ValueError: a text names no protocol, or two of them are the same.
    """
    flags = {
        "mwfed": {"target": settings.mwfed_target, "factor": settings.mwfed_factor},
        "afl": {"rate": settings.afl_rate},
        "qffl": {"q": settings.qffl_q},
        "fedbr": {"steps": settings.steps, "step_size": settings.step_size},
    }
    if settings.price is not None:
        flags["price"] = {"price": settings.price}
    # The rule `beta` cannot be read without its rate, so the rate is in the titles too.
    rates = {} if settings.beta is None else {"beta": {"beta": settings.beta}}
    found: dict[str, base.Protocol] = {}
    for text in settings.protocol:
        with all_settings.of_flag("protocol"):
            plain = registry.read("protocol", text, rates)
            protocol = registry.read("protocol", text, flags | rates)
        title = protocol.title if plain.title in found else plain.title
        if title in found:
            raise ValueError(f"--protocol names one twice: {title}")
        is_fedbr_bg = type(protocol) is fedbr.FedBR and protocol.rule.name == "beta_star"
        if settings.beta is not None and is_fedbr_bg:
            protocol = dataclasses.replace(protocol, rule=rules.beta.having(beta=settings.beta))
        found[title] = protocol
    return found


def make(
    settings: Any, game: games.Game, sizes: np.ndarray | None = None, accuracy: np.ndarray | None = None
) -> list[Contender]:
    """The protocols that the settings name, and what is announced for each.

    Protocols with equal rules share an announcement, and all rules share the first best.

    Args:
      settings: with every default filled in.
      game: the game on the fitted curve.
      sizes: [k] totals at which ã was measured, in samples; None if it was not, and --mode=literal not asked.
      accuracy: [seeds, k]; --mode=literal reads its means over seeds instead of the fitted curve.

    Raises:
      ValueError: as the rules do.
    """
    announced: dict[str, Announcement] = {}
    found, outside = [], None
    for title, protocol in chosen(settings).items():
        if settings.mode == "literal" and type(protocol) is fedbr.FedBR:
            protocol = literal.Literal(
                sizes=sizes,
                accuracy=np.mean(accuracy, axis=0),
                interval=float(settings.interval or _INTERVAL),
                rule=protocol.rule,
                steps=protocol.steps,
                step_size=protocol.step_size,
            )
        rule = registry.text_of(protocol.rule)
        if rule not in announced:
            best = next((one.best for one in announced.values() if one.best is not None), None)
            if outside is None and protocol.rule.takes("outside"):
                outside = personal.alone(game)
            announced[rule] = protocol.rule.announced(game, best, outside)
        found.append(Contender(title, protocol, announced[rule]))
    return found
