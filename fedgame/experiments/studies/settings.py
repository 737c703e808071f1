"""Settings of the studies, and which study uses which."""

import dataclasses
from typing import Any

from fedgame.experiments import settings as all_settings
from fedgame.registry import option

_SHARED = ("agents", "capacity", "fit", "curve")
_TRAINING = tuple(field.name for field in dataclasses.fields(all_settings.CurveSettings))
USED = {  # by study, the settings that determine its results
    "unequal_costs": (*_SHARED, "cost", "ratios", "p"),
    "costs": (*_SHARED, "seed", "costs", "spread", "draws", "p"),
    "agents": ("capacity", "fit", "curve", "cost", "counts"),
    "label_skew": (*_TRAINING, "alpha", "cost", "p"),
    "rounding": ("capacity", "fit", "curve", "seed", "cost", "counts", "intervals", "starts", "steps"),
    "misreports": (*_SHARED, "cost", "ratios", "largest_factor"),
}


@dataclasses.dataclass(frozen=True)
class Settings(all_settings.CurveSettings):
    """Settings of `launch.study`; those of training are for --study=label_skew, the others read --curve."""

    study: str = option("what to look at", "unequal_costs", choices=tuple(USED))
    curve: str = option("CSV file of a measured curve: samples, accuracy", "examples/mnist_curve.csv")
    cost: tuple[float, ...] = option(
        "c, cost per sample, or the geometric mean of unequal ones; label_skew: one number or one per agent",
        (0.005,),
        above=0,
        kind=float,
    )
    p: tuple[float, ...] = option(
        "of the p-means of utilities", (1.0, 0.2, 0.0, float("-inf")), high=1, kind=float, infinite=True
    )
    ratios: tuple[float, ...] = option(
        "unequal_costs, misreports: largest cost divided by the smallest, costs being spaced geometrically",
        (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        low=1,
        kind=float,
    )
    costs: tuple[float, ...] = option(
        "costs: costs per sample to go through",
        (0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05),
        above=0,
        kind=float,
    )
    spread: float = option("costs: standard deviation of the logarithm of unequal costs", 1.0, above=0)
    draws: int = option("costs: draws of unequal costs", 20, low=1)
    counts: tuple[int, ...] = option(
        "agents, rounding: numbers of agents to go through; rounding prints every Δs for the first alone",
        (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000),
        low=2,
        kind=int,
    )
    alpha: float = option(
        "label_skew: of the Dirichlet partition; the smaller, the more skewed", 0.3, above=0
    )
    intervals: tuple[int, ...] = option("rounding: Δs, samples", (2, 5, 10, 20), low=1, kind=int)
    starts: int = option("rounding: random starts", 20, low=1)
    steps: int = option("rounding: H, steps of the dynamics", 100, low=1)
    largest_factor: float = option(
        "misreports: an agent may claim up to so many times her cost, or as small a part of it", 10.0, above=1
    )


def check(settings: Settings) -> None:
    """Raises a `ValueError` that names the flag: out of range, or one that the study has no use for."""
    all_settings.check(settings)
    for field in dataclasses.fields(settings):
        name = field.name
        if getattr(settings, name) != field.default and name not in ("study", *USED[settings.study]):
            users = [study for study, used in USED.items() if name in used]
            raise ValueError(
                f"--{name} has no use with --study={settings.study}, only with {', '.join(users)}"
            )
    for name in ("capacity", "cost"):
        given = getattr(settings, name) or (1,)
        if settings.study != "label_skew" and len(given) > 1:
            raise ValueError(f"--{name} must be one number for --study={settings.study}, got {len(given)}")


def used(settings: Settings) -> dict[str, Any]:
    """The settings that determine the results of the study."""
    return {name: getattr(settings, name) for name in ("study", *USED[settings.study])}
