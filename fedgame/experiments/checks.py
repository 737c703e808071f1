"""Settings of experiments, checked together and against the data, with every default filled in."""

import dataclasses
from typing import Any

import jax
import numpy as np

from fedgame import registry
from fedgame.experiments import contenders
from fedgame.experiments import settings as all_settings
from fedgame.games import costs, payoffs
from fedgame.games import game as games
from fedgame.learning import local, models
from fedgame.mechanisms import base, refunds, rules
from fedgame.protocols import fedbr


def check(settings: all_settings.TrainingSettings) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    all_settings.check(settings)
    if settings.channels is not None and len(settings.channels) != 2:
        raise ValueError(f"--channels needs two numbers, got {len(settings.channels)}")
    cnn = isinstance(models.PRESETS[settings.model], models.CNN)
    if not cnn and (settings.channels, settings.units, settings.padding) != (None, None, "SAME"):
        raise ValueError(
            f"--channels, --units and --padding are the CNN's; --model={settings.model} has none"
        )
    for name in ("capacity", "cost", "contributions"):
        given = getattr(settings, name, None)
        if isinstance(given, tuple) and len(given) not in (1, settings.agents):
            raise ValueError(
                f"--{name} needs one number or one for each of {settings.agents} agents, got {len(given)}"
            )


def network(
    settings: all_settings.TrainingSettings, image_shape: tuple[int, ...], classes: int
) -> tuple[models.CNN | models.VGG11, local.LocalTraining]:
    """The model and the local training that the settings ask for.

    Raises:
      ValueError: images of this shape do not fit the model.
    """
    given = {"channels": settings.channels, "units": settings.units}
    changes = {name: value for name, value in given.items() if value is not None}
    preset = models.PRESETS[settings.model]
    changes |= {"padding": settings.padding} if isinstance(preset, models.CNN) else {}
    model = preset.clone(classes=classes, lowering=settings.lowering, **changes)
    jax.eval_shape(lambda: models.initial_parameters(model, jax.random.key(0), image_shape))
    training = {field: getattr(settings, field) for field in local.LocalTraining._fields}
    return model, local.LocalTraining(**training)


def settle(settings: all_settings.TrainingSettings, available: tuple[int, int]) -> Any:
    """The settings with every default filled in, checked against the size of the data.

    Args:
      settings: as given, of any of the classes here.
      available: numbers of training and test images that the data set has.

    Raises:
      ValueError: a flag out of range, or more images asked for than there are.
    """
    check(settings)
    n = settings.agents
    capacity = _each(settings.capacity or ((50,) if settings.dataset == "digits" else (100,)), n)
    settings = dataclasses.replace(settings, capacity=capacity)
    if isinstance(settings, all_settings.TrainSettings):
        return _settle_run(settings, available)
    if isinstance(settings, all_settings.CompareSettings):
        cost = settings.cost or tuple(0.5 / tau for tau in capacity)
        settings = dataclasses.replace(settings, cost=cost if isinstance(cost, str) else _each(cost, n))
        _check_protocols(settings)
    return _settle_curve(settings, available)


def _check_protocols(settings: all_settings.CompareSettings) -> None:
    """Refuses at once what costs and the number of agents do not allow, whatever the curve will be."""
    named = contenders.chosen(settings)
    for flag, protocol in (("price", "fedbr(price)"), ("beta", "fedbr_bg"), ("step_size", "fedbr")):
        if getattr(settings, flag) is not None and not _makes_a_difference(settings, flag):
            raise ValueError(f"--{flag} is that of {protocol}: no protocol of --protocol leaves it open")
    game = games.Game(None, cost_of(settings), np.asarray(settings.capacity, float))
    for title, protocol in named.items():
        try:
            protocol.rule.requires(game)
        except ValueError as error:
            more = "; or give --beta" if protocol.rule.name == "beta_star" else ""
            raise ValueError(f"--protocol, {title}: {error}{more}") from None
        if settings.mode == "literal" and type(protocol) is fedbr.FedBR:
            _check_literal(title, protocol.rule, game)


def _makes_a_difference(settings: all_settings.CompareSettings, flag: str) -> bool:
    """Whether one of the protocols would be another without the flag."""
    try:
        without = contenders.chosen(dataclasses.replace(settings, **{flag: None}))
    except ValueError:
        return True  # it needs the flag
    now = contenders.chosen(settings)
    return [*map(registry.text_of, now.values())] != [*map(registry.text_of, without.values())]


def _check_literal(title: str, rule: base.Rule, game: games.Game) -> None:
    if rule.announces is not None and not issubclass(rule.announces, refunds.Refunds):
        raise ValueError(f"--mode=literal is printed for refunds of costs only, not for {title}")
    if rules.linear_rates(game) is None:
        raise ValueError("--cost: --mode=literal divides by costs: they must be linear and above 0")


def cost_of(settings: all_settings.CompareSettings) -> costs.Cost:
    """The cost of settled settings.

    Raises:
      ValueError: a text names no cost, or not one of so many agents.
    """
    if not isinstance(settings.cost, str):
        return costs.LinearCost(np.asarray(settings.cost))
    with all_settings.of_flag("cost"):
        cost, capacity = registry.read("cost", settings.cost), np.asarray(settings.capacity, float)
        return games.check(games.Game(payoffs.PowerLaw(1.0, 1.0, 1.0), cost, capacity)).cost


def images(settings: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Numbers of training and test images of the agents and of the server, once settled."""
    if isinstance(settings, all_settings.TrainSettings):
        return (sum(settings.capacity), 0), (0, settings.held_out)
    server = settings.server_images, settings.held_out
    if isinstance(settings, all_settings.CompareSettings):
        return (sum(settings.capacity), settings.agents * settings.test_images), server
    return (0, 0), server


def _settle_run(
    settings: all_settings.TrainSettings, available: tuple[int, int]
) -> all_settings.TrainSettings:
    shared = _each(settings.contributions or settings.capacity, settings.agents)
    for i, (s, tau) in enumerate(zip(shared, settings.capacity, strict=True)):
        if s > tau:
            raise ValueError(f"--contributions: agent {i} has {tau} images (--capacity), not {s}")
    needed, held_out = sum(settings.capacity), settings.held_out or min(1000, available[1])
    if needed > available[0] or held_out > available[1]:
        raise ValueError(
            f"--capacity, --held_out: {needed} training and {held_out} test images are asked for; "
            f"{settings.dataset} has {available[0]} and {available[1]}"
        )
    return dataclasses.replace(settings, contributions=shared, held_out=held_out)


def _settle_curve(
    settings: all_settings.CurveSettings, available: tuple[int, int]
) -> all_settings.CurveSettings:
    n, (taken, _) = settings.agents, images(settings)
    left, left_test = available[0] - taken[0], available[1] - taken[1]
    if settings.sizes and settings.interval:
        raise ValueError("--sizes and --interval exclude each other")
    largest = max(settings.sizes or (sum(settings.capacity),))
    few = settings.sizes and len(set(settings.sizes)) < 3
    if few or largest < 3 * (settings.interval or 0):
        raise ValueError("--sizes, --interval: a curve needs at least three sizes above 0")
    simulated = n * -(-largest // n)  # the server measures ã with as many, equally large, agents
    if (settings.server_images or simulated) > left or (settings.server_images or left) < simulated:
        raise ValueError(
            f"--capacity={max(settings.capacity)}, --server_images={settings.server_images}: {n} agents need "
            f"{taken[0]} training images and the server at least {simulated} of its own; "
            f"{settings.dataset} has {available[0]}"
        )
    if (settings.held_out or 1) > left_test:
        test_images = getattr(settings, "test_images", 0)
        raise ValueError(
            f"--test_images={test_images}, --held_out={settings.held_out}: {n} agents need {taken[1]} test "
            f"images and the server at least one; {settings.dataset} has {available[1]}"
        )
    return dataclasses.replace(
        settings,
        server_images=settings.server_images or min(2 * simulated, left),
        held_out=settings.held_out or min(1000, left_test),
    )


def _each(given: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    return given * (n // len(given))
