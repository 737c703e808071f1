"""Section 5 from end to end: measure ã, play the game on it, train on what agents share, compare.

Every training run is a pure function of the settings, a seed and what agents contribute. Runs are therefore
made in any order, stored one by one, and never made twice: steps of the game, protocols and whole
comparisons (by a cache) that have the same contributions share them.
"""

import functools
import hashlib
import pathlib
import time
import uuid
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedgame.experiments import (
    checks,
    compare_plots,
    contenders,
    curve,
    jobs,
    storage,
    table1,
    tables,
    training,
)
from fedgame.experiments.contenders import Contender
from fedgame.experiments.training import Task
from fedgame.games import curves
from fedgame.games import game as games
from fedgame.learning import evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers
from fedgame.mechanisms import outcomes
from fedgame.mechanisms.base import Mechanism
from fedgame.protocols import base


class Trial(NamedTuple):
    """One protocol at one seed, after one step of its game."""

    title: str  # of the protocol
    mechanism: Mechanism  # under which costs are settled
    seed: int
    step: int  # of the game; 0 where contributions are not the outcome of dynamics
    last: bool  # whether it is the last step
    profile: np.ndarray  # [n] as agents meant it in the last round, not rounded
    path: np.ndarray  # [t, n] profiles over the steps of the game
    training: dict[str, Any]  # of `train`
    ending: str = ""  # how the path ends, where there is something to tell


def fit_game(task: Task, sizes: np.ndarray, accuracy: np.ndarray) -> tuple[games.Game, curves.Fit]:
    """The game on the fitted ã."""
    fit = curves.fit(task.settings.fit, sizes, accuracy)
    capacity = jnp.asarray(task.settings.capacity)
    return games.check(games.Game(fit.payoff, checks.cost_of(task.settings), capacity)), fit


def describe_game(
    task: Task,
    work: storage.Workdir,
    game: games.Game,
    fit: curves.Fit,
    protocols: list[Contender],
    accuracy: np.ndarray,
) -> dict[str, Any]:
    """How well ã fits, and certified equilibria; writes `game.json` and `fitted_curve.csv`."""
    spread = float(np.mean(np.std(accuracy, axis=0, ddof=1))) if len(accuracy) > 1 else None
    summary = {
        "fit": task.settings.fit,
        "rmse": fit.rmse,
        "largest_residual": fit.largest,
        "deviation_between_seeds": spread,
        "equilibria": _equilibria(game, protocols),
        "parameters": fit.parameters,
    }
    work.write_json("game.json", summary)
    totals = np.linspace(0, max(task.settings.sizes or (sum(task.settings.capacity),)), 401)
    fitted = jax.vmap(fit.payoff.curve)(totals)
    work.write_csv("fitted_curve.csv", tables.curve_rows("", totals, fitted))
    return summary


def _equilibria(game: games.Game, protocols: list[Contender]) -> dict[str, dict[str, Any] | None]:
    """By title, the certified equilibrium that each protocol aims at; None if it aims at none."""
    found: dict[str, dict[str, Any] | None] = {}
    solved: list[outcomes.Outcome] = []  # protocols may aim at the same
    for title, protocol, announced in protocols:
        if not protocol.aims:
            found[title] = None
            continue
        mechanism = announced.mechanism
        outcome = outcomes.known_or_new(game, mechanism, solved, announced.equilibrium)
        solved.append(outcome)
        there = outcome.equilibrium
        found[title] = {
            "announced": {k: np.asarray(x).tolist() for k, x in mechanism.announced(game.n).items()},
            "told": tables.told(mechanism, game.n),
            "contributed": float(jnp.sum(there.profile)),
            "total": float(tables.total(game, there.profile)),
            "unique": bool(there.unique),
            "nash_gap": float(jnp.max(there.nash_gap)),
            "converged": bool(there.converged),
            "certified_from_payments": outcome.general,
        }
    return found


def train(
    task: Task,
    protocol: base.Protocol,
    plan: base.Plan,
    seed: int,
    snapshots: trainers.Snapshots = trainers.FORGET,
) -> dict[str, Any]:
    """One training run as plain numbers. All protocols share data, model and start at one seed.

    `drawn` has a row for every round, or one if all rounds are alike.
    """
    settings, begin = task.settings, time.perf_counter()
    keys = jax.random.split(task.key_of("run", seed), 5)
    agents = partitions.partition(task.agents.train, np.asarray(settings.capacity), keys[0])
    test = partitions.partition(task.agents.test, np.full(settings.agents, settings.test_images), keys[1])
    params = jax.device_get(models.initial_parameters(task.model, keys[2], agents.images.shape[2:]))
    placed = federated.place(agents, task.mesh)
    trainer = trainers.Trainer(task.model, task.local_training, placed, keys[3], task.mesh, test)
    outcome = base.run(protocol, plan, trainer, params, settings.rounds, snapshots)
    alike = np.all(outcome.drawn == outcome.drawn[0])
    return {
        "charged": outcome.charged.tolist(),
        "profile": outcome.plan.profile.tolist(),
        "drawn": outcome.drawn[: 1 if alike else None].tolist(),
        "accuracy": trainer.accuracy(outcome.params).tolist(),
        "held_out_accuracy": float(evaluation.accuracy(task.model, outcome.params, task.server.test)),
        "seconds": round(time.perf_counter() - begin, 3),
    }


def evaluated(path: np.ndarray, every: int) -> list[int]:
    """The steps of the game after which a model is trained: every so many, and the last; [0] without any."""
    last = len(path) - 1
    return [*range(every, last, every), last]


def play_and_train(
    task: Task,
    work: storage.Workdir,
    workers: int,
    game: games.Game,
    protocols: list[Contender],
    cache: pathlib.Path | None = None,
) -> list[Trial]:
    """Plays the game from a random start for every seed, then trains on what agents contribute."""
    settings, todo, planned = task.settings, {}, []
    shared = _shared(task) if cache else {}
    with jobs.progress("best-response dynamics", len(protocols) * settings.seeds) as bar:
        for contender in protocols:
            protocol = contender.protocol
            rule = base.identity(protocol)
            mine = uuid.uuid4().hex if rule is None else rule  # nobody else's, in this run and the next
            for seed in range(settings.seeds):
                key = task.key_of("run", seed)
                plan = protocol.start(game, contender.announced, jax.random.split(key, 5)[4])
                for step in evaluated(plan.path, settings.evaluate_every):
                    at = plan._replace(profile=plan.path[step], path=plan.path[step][None])
                    what = {"drawn": base.draw(at.profile).tolist(), "rule": mine}
                    if rule != {}:  # it may go on from the profile as it was meant, and what it remembers
                        what |= {"profile": at.profile.tolist(), "memory": _digest(at.memory)}
                    name = f"runs/{seed}-{_short(what, protocol)}"
                    if name not in todo:
                        compute = functools.partial(train, task, protocol, at, seed, work.snapshots(name))
                        what |= shared | {"key": jax.random.key_data(key).tolist()}
                        folder = None if rule is None else cache
                        cached = functools.partial(storage.cached, folder, what, compute)
                        todo[name] = (sum(what["drawn"]), cached)
                    planned.append((contender, seed, step, plan, rule == {}, name))
                bar.update()
    done = jobs.run("training", todo, work, workers)
    return [_trial(*about, done[name]) for *about, name in planned]


def _trial(
    contender: Contender, seed: int, step: int, plan: base.Plan, fixed: bool, result: dict[str, Any]
) -> Trial:
    """A fixed plan may share its training with another one of the same whole samples, but is itself."""
    profile = plan.path[step] if fixed else np.asarray(result["profile"])
    last = step == len(plan.path) - 1
    mechanism, ending = contender.announced.mechanism, contender.protocol.ending(plan)
    return Trial(contender.title, mechanism, seed, step, last, profile, plan.path, result, ending)


def _shared(task: Task) -> dict[str, Any]:
    """All that determines a training run beside its samples, its rule and its seed."""
    found = training.fingerprint(task, [base.__name__], task.agents, task.server)
    return found | {"capacity": task.settings.capacity, "test_images": task.settings.test_images}


def _digest(memory: Any) -> str:
    """Equal for equal arrays in equal places only."""
    leaves, structure = jax.tree.flatten(memory)
    found = hashlib.sha256(str(structure).encode())
    for leaf in map(np.asarray, leaves):
        found.update(str((leaf.shape, leaf.dtype)).encode() + leaf.tobytes())
    return found.hexdigest()


def _short(what: dict[str, Any], protocol: base.Protocol) -> str:
    """A name for a training run that is the same for the same contributions and rule of training."""
    digest = hashlib.sha256(storage.to_json(what).encode()).hexdigest()[:8]
    rule = type(protocol).__name__ if what["rule"] else "average"
    return f"{rule}-{sum(what['drawn'])}-{digest}"


def compare(
    task: Task, work: storage.Workdir, workers: int | None = None, cache: pathlib.Path | None = None
) -> str:
    """The whole comparison; leaves tables and figures in the directory and returns their text.

    Args:
      task: from `training.prepare`.
      work: from `storage.open_workdir`.
      workers: training runs at a time; None is one per processor on a CPU, else one.
      cache: directory of measured accuracies and trained runs that other comparisons may share.
    """
    settings, workers = task.settings, task.workers(workers)
    sizes, accuracy = curve.measure(task, work, workers, cache)
    game, fit = fit_game(task, sizes, accuracy)
    protocols = contenders.make(settings, game, sizes, accuracy)
    summary = describe_game(task, work, game, fit, protocols, accuracy)
    trials = play_and_train(task, work, workers, game, protocols, cache)
    with jobs.progress("tables and figures", 2) as bar:
        report = table1.write(work, game, trials, settings)
        bar.update()
        compare_plots.draw_all(work)
        bar.update()
    return tables.game_text(summary) + "\n\n" + report
