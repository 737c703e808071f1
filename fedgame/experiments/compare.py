"""Section 5 from end to end: measure ã, play the game on it, train on what agents share, compare.

Every piece of work is a pure function of the configuration, a seed and, for training, a profile, so
pieces run in any order, are stored one by one, and are never computed twice.
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import equilibria
from fedgame.experiments import accuracy as accuracies
from fedgame.experiments import config as configs
from fedgame.experiments import pieces, plots, storage, tables
from fedgame.experiments.training import Setting
from fedgame.games import costs, curves
from fedgame.games import game as games
from fedgame.learning import evaluation, federated, models, partitions
from fedgame.mechanisms import budget_balanced
from fedgame.protocols import base, fedavg, fedbr, mwfed


def fit_game(
    setting: Setting, work: storage.Workdir, sizes: np.ndarray, accuracy: np.ndarray
) -> tuple[games.Game, float, dict[str, Any]]:
    """Fits ã and makes the game on it; β is β* unless given.

    Writes `game.json` (fit, β, certified equilibria) and `fitted_curve.csv`.
    """
    fit = curves.FITS[setting.config.fit](sizes, accuracy)
    rates, capacity = jnp.asarray(setting.config.cost), jnp.asarray(setting.config.capacity)
    game = games.check(games.Game(fit.payoff, costs.LinearCost(rates), capacity))
    beta = setting.config.beta
    beta = float(budget_balanced.optimal_beta(rates)) if beta is None else beta
    summary = describe_game(fit, game, beta, accuracy) | {"fit": setting.config.fit}
    work.write_json("game.json", summary)
    totals = np.linspace(0, sizes[-1], 401)
    fitted = jax.vmap(fit.payoff.curve)(totals)
    rows = [{"size": s, "accuracy": a} for s, a in zip(totals.tolist(), fitted.tolist(), strict=True)]
    work.write_csv("fitted_curve.csv", rows)
    return game, beta, summary


def describe_game(fit: curves.Fit, game: games.Game, beta: float, accuracy: np.ndarray) -> dict[str, Any]:
    """How well ã fits, and the certified equilibria with and without payments."""
    certified = {}
    for name, b in (("FedBR", 0.0), ("FedBR-BG", beta)):
        found = jax.jit(equilibria.solve)(budget_balanced.under_mechanism(game, b))
        certified[name] = {
            "beta": b,
            "total": float(jnp.sum(found.profile)),
            "unique": bool(found.unique),
            "nash_gap": float(jnp.max(found.nash_gap)),
            "converged": bool(found.converged),
        }
    spread = float(np.mean(np.std(accuracy, axis=0, ddof=1))) if len(accuracy) > 1 else None
    return {
        "rmse": fit.rmse,
        "largest_residual": fit.largest,
        "deviation_between_seeds": spread,
        "beta": beta,
        "equilibria": certified,
        "parameters": {k: np.asarray(v).tolist() for k, v in vars(fit.payoff).items()},
    }


def protocols(config: configs.Config, game: games.Game, beta: float) -> list[base.Protocol]:
    """The four protocols of Table 1."""
    capacity = np.asarray(config.capacity)
    play = functools.partial(fedbr.protocol, game, steps=config.steps, step_size=config.step_size)
    weights = mwfed.protocol(capacity, config.mwfed_target, config.mwfed_factor)
    return [fedavg.protocol(capacity), weights, play(), play(beta)]


def run_protocol(
    setting: Setting,
    protocol: base.Protocol,
    plan: base.Plan,
    seed: int,
    snapshots: federated.Snapshots = federated.FORGET,
) -> Any:
    """One training run as plain numbers. All protocols share data, model and start at one seed."""
    config = setting.config
    keys = jax.random.split(setting.key_of("run", seed), 5)
    train = partitions.partition(setting.agents.train, np.asarray(config.capacity), keys[0])
    test = partitions.partition(setting.agents.test, np.full(config.agents, config.test_images), keys[1])
    params = jax.device_get(models.initial_parameters(setting.model, keys[2], train.images.shape[2:]))
    placed = federated.place(train, setting.mesh)
    learning = base.Learning(setting.model, setting.options, placed, test, keys[3], setting.mesh)
    outcome = base.run(protocol, plan, learning, params, config.rounds, snapshots)
    return {
        "protocol": protocol.name,
        "seed": seed,
        "beta": float(protocol.mechanism.rates),
        "profile": outcome.plan.profile.tolist(),
        "charged": outcome.charged.tolist(),
        "path": outcome.plan.path.tolist(),
        "accuracy": learning.accuracy(outcome.params).tolist(),
        "held_out_accuracy": float(evaluation.accuracy(setting.model, outcome.params, setting.server.test)),
    }


def train_protocols(
    setting: Setting, work: storage.Workdir, workers: int, game: games.Game, beta: float
) -> list[dict[str, Any]]:
    """Plays the game from a random start for every seed, then trains on what agents contribute."""
    contenders = protocols(setting.config, game, beta)
    jobs = {}
    with pieces.progress("best-response dynamics", len(contenders) * setting.config.seeds) as bar:
        for seed in range(setting.config.seeds):
            start_key = jax.random.split(setting.key_of("run", seed), 5)[4]
            for protocol in contenders:
                plan = protocol.start(start_key)
                name = f"runs/{seed}-{protocol.name}"
                snapshots = work.snapshots(name)
                job = functools.partial(run_protocol, setting, protocol, plan, seed, snapshots)
                jobs[name] = (plan.profile.sum(), job)
                bar.update()
    return list(pieces.run("training", jobs, work, workers).values())


def compare(
    setting: Setting, work: storage.Workdir, workers: int | None = None, cache: pathlib.Path | None = None
) -> str:
    """The whole comparison; leaves tables and figures in the directory and returns their text.

    Args:
      setting: from `training.prepare`.
      work: from `storage.open_workdir`.
      workers: training runs at a time; None is one per processor on a CPU, else one.
      cache: directory of measured accuracies that other runs may share.
    """
    workers = setting.workers(workers)
    sizes, accuracy = accuracies.measure(setting, work, workers, cache)
    game, beta, summary = fit_game(setting, work, sizes, accuracy)
    runs = train_protocols(setting, work, workers, game, beta)
    with pieces.progress("tables and figures", 2) as bar:
        agents = tables.agent_rows(game, runs)
        per_run = tables.run_rows(game, runs, agents)
        welfare = tables.welfare_rows(agents, setting.config.p)
        path = [
            {"protocol": run["protocol"], "seed": run["seed"], "step": t, "agent": i, "contribution": s}
            for run in runs
            for t, row in enumerate(run["path"])
            for i, s in enumerate(row)
        ]
        named = {"agents": agents, "runs": per_run, "table1": welfare, "contributions": path}
        for name, rows in named.items():
            work.write_csv(f"{name}.csv", rows)
        work.write_json("table1.json", welfare)
        work.write_csv("timings.csv", work.timings())
        bar.update()
        plots.draw_all(work)
        bar.update()
    return "\n\n".join([tables.game_text(summary), tables.run_text(per_run), tables.welfare_text(welfare)])
