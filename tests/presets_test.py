"""Presets say how they are run, and are settings that the scripts take."""

import dataclasses
import pathlib

import pytest

from fedgame.experiments import compare, studies
from fedgame.runs import settings as all_settings

PRESETS = sorted((pathlib.Path(__file__).parent.parent / "launch" / "presets").glob("*.flags"))
AVAILABLE = {"mnist": (60_000, 10_000), "cifar10": (50_000, 10_000)}  # images for training and for tests


def lines(preset, start):
    return [line for line in preset.read_text(encoding="utf-8").splitlines() if line.startswith(start)]


def value(field, text):
    kind = field.metadata["kind"]
    kind = str if kind is pathlib.Path else kind  # settings hold paths as texts
    return tuple(kind(x) for x in text.split(",")) if "tuple" in str(field.type) else kind(text)


def read(preset, settings):
    fields = {field.name: field for field in dataclasses.fields(settings)}
    given = dict(line.removeprefix("--").split("=", 1) for line in lines(preset, "--"))
    return settings(**{name: value(fields[name], text) for name, text in given.items()})


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_a_preset_is_settings_that_its_script_takes(preset):
    comments = lines(preset, "#")
    command = f"--flagfile=launch/presets/{preset.name}"
    assert command in comments[0]
    assert len(comments) > 1
    if "launch.compare" in comments[0]:
        given = read(preset, compare.Settings)
        settled, _ = compare.settle(given, AVAILABLE[given.dataset])
        assert settled.capacity == (100,) * given.agents
        assert set(settled.cost) == {0.005}
        assert settled.test_images == 10
    else:
        study = studies.STUDIES[preset.stem]
        given = read(preset, studies.experiment_of(study).settings)
        assert type(studies.base.study_of(given)) is study
        all_settings.check(given)


def test_the_presets_of_table_1_are_the_papers_settings():
    mnist, cifar = (
        read(next(p for p in PRESETS if p.stem == name), compare.Settings) for name in ("mnist", "cifar10")
    )
    assert (mnist.agents, cifar.agents, mnist.model, cifar.model) == (10, 100, "cnn", "vgg11")
    for preset in (mnist, cifar):
        assert (preset.rounds, preset.steps, preset.learning_rate, preset.momentum) == (50, 100, 0.01, 0.9)
        assert preset.p == (0.2, 0.4, 0.6, 0.8, 1.0)
        assert preset.seeds >= 5
    assert (cifar.evaluate_every, mnist.evaluate_every) == (1, 25)
