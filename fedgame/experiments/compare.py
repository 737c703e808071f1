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

from fedgame.experiments import compare_plots, contenders, curve, jobs, storage, table1, tables, training
from fedgame.experiments.training import Task
from fedgame.games import costs, curves
from fedgame.games import game as games
from fedgame.learning import evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers
from fedgame.mechanisms import budget_balanced, outcomes, rules
from fedgame.protocols import base


class Trial(NamedTuple):
    """One protocol at one seed, after one step of its game."""

    protocol: base.Protocol
    seed: int
    step: int  # of the game; 0 where contributions are not the outcome of dynamics
    last: bool  # whether it is the last step
    profile: np.ndarray  # [n] as agents meant it in the last round, not rounded
    path: np.ndarray  # [t, n] profiles over the steps of the game
    training: dict[str, Any]  # of `train`
    ending: str = ""  # how the path ends, where there is something to tell


def fit_game(
    task: Task, sizes: np.ndarray, accuracy: np.ndarray
) -> tuple[games.Game, float | None, curves.Fit]:
    """The game on the fitted ã, and β of FedBR-BG: β* unless given, None where costs have none."""
    fit = curves.fit(task.settings.fit, sizes, accuracy)
    rates, capacity = jnp.asarray(task.settings.cost), jnp.asarray(task.settings.capacity)
    game = games.check(games.Game(fit.payoff, costs.LinearCost(rates), capacity))
    beta = task.settings.beta
    if beta is None and rules.linear_rates(game) is not None:
        beta = float(budget_balanced.beta_star(rates))
    return game, beta, fit


def describe_game(
    task: Task, work: storage.Workdir, fit: curves.Fit, protocols: list[base.Protocol], accuracy: np.ndarray
) -> dict[str, Any]:
    """How well ã fits, and certified equilibria; writes `game.json` and `fitted_curve.csv`."""
    spread = float(np.mean(np.std(accuracy, axis=0, ddof=1))) if len(accuracy) > 1 else None
    summary = {
        "fit": task.settings.fit,
        "rmse": fit.rmse,
        "largest_residual": fit.largest,
        "deviation_between_seeds": spread,
        "equilibria": _equilibria(protocols),
        "parameters": fit.parameters,
    }
    work.write_json("game.json", summary)
    totals = np.linspace(0, max(task.settings.sizes or (sum(task.settings.capacity),)), 401)
    fitted = jax.vmap(fit.payoff.curve)(totals)
    work.write_csv("fitted_curve.csv", tables.curve_rows("", totals, fitted))
    return summary


def _equilibria(protocols: list[base.Protocol]) -> dict[str, dict[str, Any] | None]:
    """By name, the certified equilibrium that each protocol aims at; None if it aims at none."""
    found, solved = {}, []  # protocols may aim at the same
    for protocol in protocols:
        if protocol.played is None:
            found[protocol.name] = None
            continue
        game, mechanism = protocol.played
        outcome = outcomes.known_or_new(game, mechanism, [one for of, one in solved if of is game])
        solved.append((game, outcome))
        there = outcome.equilibrium
        found[protocol.name] = {
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
    protocols: list[base.Protocol],
    cache: pathlib.Path | None = None,
) -> list[Trial]:
    """Plays the game from a random start for every seed, then trains on what agents contribute."""
    settings, todo, planned = task.settings, {}, []
    shared = _shared(task) if cache else {}
    with jobs.progress("best-response dynamics", len(protocols) * settings.seeds) as bar:
        for protocol in protocols:
            rule = base.identity(protocol)
            mine = uuid.uuid4().hex if rule is None else rule  # nobody else's, in this run and the next
            for seed in range(settings.seeds):
                key = task.key_of("run", seed)
                plan = protocol.start(jax.random.split(key, 5)[4])
                for step in evaluated(plan.path, settings.evaluate_every):
                    at = plan._replace(profile=plan.path[step], path=plan.path[step][None])
                    what = {"drawn": base.draw(at.profile).tolist(), "rule": mine}
                    if rule != {}:  # it may go on from the profile as it was meant
                        what["profile"] = at.profile.tolist()
                    name = f"runs/{seed}-{_short(what, protocol)}"
                    if name not in todo:
                        compute = functools.partial(train, task, protocol, at, seed, work.snapshots(name))
                        what |= shared | {"key": jax.random.key_data(key).tolist()}
                        folder = None if rule is None else cache
                        cached = functools.partial(storage.cached, folder, what, compute)
                        todo[name] = (sum(what["drawn"]), cached)
                    planned.append((protocol, seed, step, plan, rule == {}, name))
                bar.update()
    done = jobs.run("training", todo, work, workers)
    return [_trial(*about, done[name]) for *about, name in planned]


def _trial(
    protocol: base.Protocol, seed: int, step: int, plan: base.Plan, fixed: bool, result: dict[str, Any]
) -> Trial:
    """A fixed plan may share its training with another one of the same whole samples, but is itself."""
    profile = plan.path[step] if fixed else np.asarray(result["profile"])
    last = step == len(plan.path) - 1
    return Trial(protocol, seed, step, last, profile, plan.path, result, protocol.ending(plan))


def _shared(task: Task) -> dict[str, Any]:
    """All that determines a training run beside its samples, its rule and its seed."""
    found = training.fingerprint(task, [base.__name__], task.agents, task.server)
    return found | {"capacity": task.settings.capacity, "test_images": task.settings.test_images}


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
    game, beta, fit = fit_game(task, sizes, accuracy)
    protocols = contenders.make(settings, game, beta, sizes, accuracy)
    summary = describe_game(task, work, fit, protocols, accuracy)
    trials = play_and_train(task, work, workers, protocols, cache)
    with jobs.progress("tables and figures", 2) as bar:
        report = table1.write(work, game, trials, settings)
        bar.update()
        compare_plots.draw_all(work)
        bar.update()
    return tables.game_text(summary) + "\n\n" + report
