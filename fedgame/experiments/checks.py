"""Settings of experiments, checked together and against the data, with every default filled in."""

import dataclasses
from typing import Any

import jax

from fedgame.experiments import config as configs
from fedgame.experiments import settings
from fedgame.learning import local, models
from fedgame.mechanisms import base as mechanisms


def check(config: configs.Training) -> None:
    """Raises a `ValueError` that names the flag, its value and what is allowed."""
    settings.check(config)
    if config.channels is not None and len(config.channels) != 2:
        raise ValueError(f"--channels needs two numbers, got {len(config.channels)}")
    cnn = isinstance(models.PRESETS[config.model], models.CNN)
    if not cnn and (config.channels, config.units, config.padding) != (None, None, "SAME"):
        raise ValueError(f"--channels, --units and --padding are the CNN's; --model={config.model} has none")
    for name in ("capacity", "cost", "contributions"):
        given = getattr(config, name, None)
        if given is not None and len(given) not in (1, config.agents):
            raise ValueError(
                f"--{name} needs one number or one for each of {config.agents} agents, got {len(given)}"
            )


def network(
    config: configs.Training, image_shape: tuple[int, ...], classes: int
) -> tuple[models.CNN | models.VGG11, local.LocalTraining]:
    """The model and the local training that the settings ask for.

    Raises:
      ValueError: images of this shape do not fit the model.
    """
    given = {"channels": config.channels, "units": config.units}
    changes = {name: value for name, value in given.items() if value is not None}
    preset = models.PRESETS[config.model]
    changes |= {"padding": config.padding} if isinstance(preset, models.CNN) else {}
    model = preset.clone(classes=classes, lowering=config.lowering, **changes)
    jax.eval_shape(lambda: models.initial_parameters(model, jax.random.key(0), image_shape))
    options = {field: getattr(config, field) for field in local.LocalTraining._fields}
    return model, local.LocalTraining(**options)


def settle(config: configs.Training, available: tuple[int, int]) -> Any:
    """The configuration with every default filled in, checked against the size of the data.

    Args:
      config: as given, of any of the classes here.
      available: numbers of training and test images that the data set has.

    Raises:
      ValueError: a flag out of range, or more images asked for than there are.
    """
    check(config)
    n = config.agents
    capacity = _each(config.capacity or ((50,) if config.dataset == "digits" else (100,)), n)
    config = dataclasses.replace(config, capacity=capacity)
    if isinstance(config, configs.Run):
        return _settle_run(config, available)
    if isinstance(config, configs.Config):
        cost = _each(config.cost or tuple(0.5 / tau for tau in capacity), n)
        _check_protocols(config, min(cost))
        config = dataclasses.replace(config, cost=cost)
    return _settle_curve(config, available)


def _check_protocols(config: configs.Config, cheapest: float) -> None:
    if len(set(config.protocol)) < len(config.protocol):
        raise ValueError(f"--protocol names one twice: {','.join(config.protocol)}")
    if config.price is not None and "fedbr_price" not in config.protocol:
        raise ValueError("--price is that of fedbr_price, which --protocol does not name")
    for name in (name for name in configs.NO_REFUNDS if name in config.protocol):
        if config.mode == "literal":
            raise ValueError(f"--mode=literal is printed for refunds of costs only, not for {name}")
        if config.agents > mechanisms.MOST:
            raise ValueError(f"--agents: {name} is solved for up to {mechanisms.MOST}, got {config.agents}")
    if cheapest > 0:
        return
    if "fedbr_data_maximizing" in config.protocol:
        raise ValueError("--cost: accuracy as the reward (fedbr_data_maximizing) needs every cost above 0")
    if config.beta is None and "fedbr_bg" in config.protocol:
        raise ValueError("--cost: β* of Definition 2 needs every cost above 0; or give --beta")
    if config.mode == "literal" and any(name.startswith("fedbr") for name in config.protocol):
        raise ValueError("--cost: --mode=literal divides by costs and needs every one above 0")


def images(config: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Numbers of training and test images of the agents and of the server, once settled."""
    if isinstance(config, configs.Run):
        return (sum(config.capacity), 0), (0, config.held_out)
    server = config.server_images, config.held_out
    if isinstance(config, configs.Config):
        return (sum(config.capacity), config.agents * config.test_images), server
    return (0, 0), server


def _settle_run(config: configs.Run, available: tuple[int, int]) -> configs.Run:
    shared = _each(config.contributions or config.capacity, config.agents)
    for i, (s, tau) in enumerate(zip(shared, config.capacity, strict=True)):
        if s > tau:
            raise ValueError(f"--contributions: agent {i} has {tau} images (--capacity), not {s}")
    needed, held_out = sum(config.capacity), config.held_out or min(1000, available[1])
    if needed > available[0] or held_out > available[1]:
        raise ValueError(
            f"--capacity, --held_out: {needed} training and {held_out} test images are asked for; "
            f"{config.dataset} has {available[0]} and {available[1]}"
        )
    return dataclasses.replace(config, contributions=shared, held_out=held_out)


def _settle_curve(config: configs.Curve, available: tuple[int, int]) -> configs.Curve:
    n, (taken, _) = config.agents, images(config)
    left, left_test = available[0] - taken[0], available[1] - taken[1]
    if config.sizes and config.interval:
        raise ValueError("--sizes and --interval exclude each other")
    largest = max(config.sizes or (sum(config.capacity),))
    few = config.sizes and len(set(config.sizes)) < 3
    if few or largest < 3 * (config.interval or 0):
        raise ValueError("--sizes, --interval: a curve needs at least three sizes above 0")
    simulated = n * -(-largest // n)  # the server measures ã with as many, equally large, agents
    if (config.server_images or simulated) > left or (config.server_images or left) < simulated:
        raise ValueError(
            f"--capacity={max(config.capacity)}, --server_images={config.server_images}: {n} agents need "
            f"{taken[0]} training images and the server at least {simulated} of its own; "
            f"{config.dataset} has {available[0]}"
        )
    if (config.held_out or 1) > left_test:
        test_images = getattr(config, "test_images", 0)
        raise ValueError(
            f"--test_images={test_images}, --held_out={config.held_out}: {n} agents need {taken[1]} test "
            f"images and the server at least one; {config.dataset} has {available[1]}"
        )
    return dataclasses.replace(
        config,
        server_images=config.server_images or min(2 * simulated, left),
        held_out=config.held_out or min(1000, left_test),
    )


def _each(given: tuple[Any, ...], n: int) -> tuple[Any, ...]:
    return given * (n // len(given))
