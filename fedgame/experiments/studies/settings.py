"""Settings of the studies, and which study uses which."""

import dataclasses
from typing import Any

from fedgame import registry
from fedgame.experiments import settings as all_settings
from fedgame.experiments.studies import agents as agents_study
from fedgame.experiments.studies import base, misreports, rounding, unequal_costs
from fedgame.experiments.studies import costs as costs_study
from fedgame.registry import option


def _of(option: str, *studies: type[base.Study]) -> str:
    """What an option of studies is called in the help of its short flag."""
    names = ", ".join(registry.name_of(study) for study in studies)
    return f"{names}: {registry.options(studies[0])[option].metadata['help']}"


@dataclasses.dataclass(frozen=True)
class Settings(all_settings.CurveSettings):
    """Settings of `launch.study`; those of training are for --study=label_skew, the others read --curve."""

    study: str = option("what to look at", "unequal_costs", of="study", kind=str)
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
    # Options of studies, for short; not given: what the study has by default.
    ratios: tuple[float, ...] | None = option(
        _of("ratios", unequal_costs.UnequalCosts, misreports.Misreports), None, low=1, kind=float
    )
    costs: tuple[float, ...] | None = option(_of("costs", costs_study.Costs), None, above=0, kind=float)
    spread: float | None = option(_of("spread", costs_study.Costs), None, above=0, kind=float)
    draws: int | None = option(_of("draws", costs_study.Costs), None, low=1, kind=int)
    counts: tuple[int, ...] | None = option(
        _of("counts", agents_study.Agents, rounding.Rounding), None, low=2, kind=int
    )
    alpha: float | None = option(
        "label_skew: of the Dirichlet partition; the smaller, the more skewed", None, above=0, kind=float
    )
    intervals: tuple[int, ...] | None = option(_of("intervals", rounding.Rounding), None, low=1, kind=int)
    starts: int | None = option(_of("starts", rounding.Rounding), None, low=1, kind=int)
    steps: int | None = option(_of("steps", rounding.Rounding), None, low=1, kind=int)
    largest_factor: float | None = option(
        _of("largest_factor", misreports.Misreports), None, above=1, kind=float
    )


_OPTIONS = {*all_settings.names(Settings)} - {*all_settings.names(all_settings.CurveSettings)}
_OPTIONS -= {"study", "curve", "cost", "p"}


def study_of(settings: Settings) -> base.Study:
    """The study that `--study` names; other flags are used where its text gives no option.

    Raises:
      ValueError: it names none.
    """
    flags = {
        name: {option: value for option in _short(study) if (value := getattr(settings, option)) is not None}
        for name, study in base.STUDIES.items()
    }
    with all_settings.of_flag("study"):
        return registry.read("study", settings.study, flags)


def check(settings: Settings) -> None:
    """Raises a `ValueError` that names the flag: out of range, or one that the study has no use for."""
    all_settings.check(settings)
    mine = _uses(type(study_of(settings)))
    for field in dataclasses.fields(settings):
        name = field.name
        if getattr(settings, name) != field.default and name not in mine:
            users = [study for study, kind in base.STUDIES.items() if name in _uses(kind)]
            raise ValueError(
                f"--{name} has no use with --study={settings.study}, only with {', '.join(users)}"
            )
    for name in ("capacity", "cost"):
        given = getattr(settings, name) or (1,)
        if not study_of(settings).trains and len(given) > 1:
            raise ValueError(f"--{name} must be one number for --study={settings.study}, got {len(given)}")


def used(settings: Settings) -> dict[str, Any]:
    """The settings that determine the results of the study."""
    mine = _uses(type(study_of(settings)))
    found = all_settings.described(settings)
    return {name: found[name] for name in found if name in (*mine, "sha256")}


def _short(study: type[base.Study]) -> list[str]:
    """The options of a study that are flags too; others may be called as flags of something else."""
    return [name for name in registry.options(study) if name in _OPTIONS]


def _uses(study: type[base.Study]) -> tuple[str, ...]:
    own = "study", *_short(study), *study.uses
    return own if study.trains else (*own, "fit", "curve")
