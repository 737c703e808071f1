"""Section 5 from end to end: measure ã, play the game on it, train on what agents share, compare.

Every piece of work is a pure function of the configuration, a seed and, for training, a profile, so
pieces run in any order, are stored one by one, and are never computed twice.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from fedgame import equilibria
from fedgame.experiments import config as configs
from fedgame.experiments import plots, storage, tables
from fedgame.games import costs, curves
from fedgame.games import game as games
from fedgame.learning import curve, data, federated, layers, local, models
from fedgame.mechanisms import budget_balanced
from fedgame.protocols import base, fedavg, fedbr, mwfed


class Setting(NamedTuple):
    """What all pieces of one comparison share."""

    config: configs.Config  # settled
    model: models.CNN
    options: local.LocalTraining
    agents: data.Data  # the agents' training and test images, undealt
    server: data.Data  # the server's training and held-out images
    key: jax.Array

    def key_of(self, purpose: str, number: int) -> jax.Array:
        """A key of its own for the curve's and the protocols' repetition `number`."""
        return jax.random.fold_in(self.key, 2 * number + ("curve", "run").index(purpose))


def prepare(config: configs.Config, data_dir: str | None = None) -> Setting:
    """Settles the configuration and loads the images it needs.

    Raises:
      ValueError: a setting out of range, or more images asked for than there are.
      FileNotFoundError: the data set is not prepared under `data_dir`.
    """
    configs.check(config)
    config = configs.settle(config, data.sizes(config.dataset, data_dir))
    train, test = sum(config.capacity), config.agents * config.test_images
    drawn = data.load(
        config.dataset, train + config.server_images, test + config.held_out, config.seed, data_dir
    )
    parts = [
        tuple(
            federated.Images(part.images[span], part.labels[span])
            for part, span in zip(drawn, spans, strict=True)
        )
        for spans in ((slice(train), slice(test)), (slice(train, None), slice(test, None)))
    ]
    model = models.CNN(channels=config.channels, units=config.units, padding=config.padding)
    options = local.LocalTraining(config.batch_size, config.epochs, config.learning_rate, config.momentum)
    return Setting(
        config, model, options, data.Data(*parts[0]), data.Data(*parts[1]), jax.random.key(config.seed)
    )


def measure_curve(setting: Setting, work: storage.Workdir, workers: int) -> tuple[Any, Any]:
    """The sizes and the server's measured accuracies at them, [seeds, sizes]; writes `curve.csv`."""
    config = setting.config
    sizes = curve.grid(sum(config.capacity), config.curve_points, config.agents).tolist()
    seeds = range(config.curve_seeds)

    def measure(size: int, seed: int) -> Callable[[], Any]:
        return lambda: timed(
            lambda: {
                "accuracy": curve.measure(
                    setting.model,
                    setting.options,
                    setting.server.train,
                    setting.server.test,
                    size,
                    config.agents,
                    config.rounds,
                    setting.key_of("curve", seed),
                )
            }
        )

    pieces = {f"curve/{seed}-{size}": (size, measure(size, seed)) for seed in seeds for size in sizes}
    done = run_pieces("measuring the accuracy curve", pieces, work, workers)
    accuracy = [[done[f"curve/{seed}-{size}"]["accuracy"] for size in sizes] for seed in seeds]
    rows = [
        {"size": size, "seed": seed, "accuracy": accuracy[seed][k]}
        for seed in seeds
        for k, size in enumerate(sizes)
    ]
    work.write_csv("curve.csv", rows)
    return np.asarray(sizes), np.asarray(accuracy)


def make_game(setting: Setting, payoff: Any) -> tuple[games.Game, float]:
    """The game that ã and the costs define, and β of FedBR-BG: β* unless it is given."""
    config = setting.config
    rates = jnp.asarray(config.cost)
    game = games.check(games.Game(payoff, costs.LinearCost(rates), jnp.asarray(config.capacity)))
    beta = budget_balanced.optimal_beta(rates) if config.beta is None else config.beta
    return game, float(beta)


def fit_game(
    setting: Setting, work: storage.Workdir, sizes: np.ndarray, accuracy: np.ndarray
) -> tuple[games.Game, float, dict[str, Any]]:
    """Fits ã; writes `game.json` (fit, β, certified equilibria) and `fitted_curve.csv`."""
    fit = curves.FITS[setting.config.fit](sizes, accuracy)
    game, beta = make_game(setting, fit.payoff)
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
    summary = {
        "fit": setting.config.fit,
        "rmse": fit.rmse,
        "largest_residual": fit.largest,
        "deviation_between_seeds": spread,
        "beta": beta,
        "equilibria": certified,
        "parameters": {k: np.asarray(v).tolist() for k, v in vars(fit.payoff).items()},
    }
    work.write_json("game.json", summary)
    totals = np.linspace(0, sizes[-1], 401)
    fitted = jax.vmap(fit.payoff.curve)(totals)
    work.write_csv(
        "fitted_curve.csv",
        [{"size": s, "accuracy": a} for s, a in zip(totals.tolist(), fitted.tolist(), strict=True)],
    )
    return game, beta, summary


def protocols(config: configs.Config, game: games.Game, beta: float) -> list[base.Protocol]:
    """The four protocols of Table 1."""
    capacity = np.asarray(config.capacity)
    play = functools.partial(fedbr.protocol, game, steps=config.steps, step_size=config.step_size)
    weights = mwfed.protocol(capacity, config.mwfed_target, config.mwfed_factor)
    return [fedavg.protocol(capacity), weights, play(), play(beta)]


def run_protocol(setting: Setting, protocol: base.Protocol, plan: base.Plan, seed: int) -> Any:
    """One training run as plain numbers. All protocols share data, model and start at one seed."""
    config = setting.config
    keys = jax.random.split(setting.key_of("run", seed), 5)
    train = data.deal(setting.agents.train, np.asarray(config.capacity), keys[0])
    test = data.deal(setting.agents.test, np.full(config.agents, config.test_images), keys[1])
    params = models.initial_parameters(setting.model, keys[2], train.images.shape[2:])
    outcome = base.run(
        protocol, plan, setting.model, setting.options, params, train, test, config.rounds, keys[3]
    )
    accuracy = functools.partial(federated.accuracy, setting.model, outcome.params)
    return {
        "protocol": protocol.name,
        "seed": seed,
        "beta": protocol.beta,
        "profile": outcome.plan.profile.tolist(),
        "charged": outcome.charged.tolist(),
        "path": outcome.plan.path.tolist(),
        "accuracy": accuracy(test).tolist(),
        "held_out_accuracy": float(accuracy(setting.server.test)),
    }


def train_protocols(
    setting: Setting, work: storage.Workdir, workers: int, game: games.Game, beta: float
) -> list[dict[str, Any]]:
    """Plays the game from a random start for every seed, then trains on what agents contribute."""
    contenders = protocols(setting.config, game, beta)
    pieces = {}
    with progress("best-response dynamics", len(contenders) * setting.config.seeds) as bar:
        for seed in range(setting.config.seeds):
            start_key = jax.random.split(setting.key_of("run", seed), 5)[4]
            for protocol in contenders:
                plan = protocol.start(start_key)
                job = functools.partial(run_protocol, setting, protocol, plan, seed)
                pieces[f"runs/{seed}-{protocol.name}"] = (plan.profile.sum(), functools.partial(timed, job))
                bar.update()
    return list(run_pieces("training", pieces, work, workers).values())


def compare(setting: Setting, work: storage.Workdir, workers: int | None = None) -> str:
    """The whole comparison; leaves tables and figures in the directory and returns their text.

    Args:
      setting: from `prepare`.
      work: from `storage.open_workdir`.
      workers: training runs at a time; None is one per processor on a CPU, else one.
    """
    workers = workers or (os.cpu_count() or 1 if layers.on_cpu() else 1)
    sizes, accuracy = measure_curve(setting, work, workers)
    game, beta, summary = fit_game(setting, work, sizes, accuracy)
    runs = train_protocols(setting, work, workers, game, beta)
    with progress("tables and figures", 2) as bar:
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
        bar.update()
        plots.draw_all(work)
        bar.update()
    return "\n\n".join([_fit_text(summary), tables.run_text(per_run), tables.welfare_text(welfare)])


def _fit_text(summary: dict[str, Any]) -> str:
    between = summary["deviation_between_seeds"]
    lines = [
        f"ã: {summary['fit']} fit, root mean square error {summary['rmse']:.4f}, largest "
        f"{summary['largest_residual']:.4f}"
        + (f"; one training run deviates by {between:.4f}" if between is not None else "")
    ]
    for name, e in summary["equilibria"].items():
        kind = "equilibrium" if e["converged"] else "NO equilibrium found, profile"
        lines.append(
            f"{name}: β = {e['beta']:.6g}, {kind} with Σ s = {e['total']:.2f}, Nash gap "
            f"{e['nash_gap']:.1e}" + ("" if e["unique"] else ", only Σ s is determined")
        )
    return "\n".join(lines)


def timed(compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `compute` and the seconds it took."""
    begin = time.perf_counter()
    result = compute()
    return result | {"seconds": round(time.perf_counter() - begin, 3)}


def progress(stage: str, total: float) -> tqdm.tqdm:
    """A progress bar with the name of the stage."""
    return tqdm.tqdm(
        total=total,
        desc=f"{stage:<29}",
        bar_format="{desc}{percentage:4.0f}%|{bar:30}| {elapsed}<{remaining}",
    )


def run_pieces(
    stage: str, pieces: dict[str, tuple[float, Callable[[], Any]]], work: storage.Workdir, workers: int
) -> dict[str, Any]:
    """Computes, largest first and several at a time, the pieces that are not stored yet.

    Args:
      stage: what the progress bar says.
      pieces: name -> (size, function without arguments); the bar advances by size.
      work: where they are stored.
      workers: threads. XLA leaves the interpreter lock alone while it computes.

    Returns:
      The values by name, in the order of `pieces`.
    """
    order = sorted(pieces, key=lambda name: -pieces[name][0])
    with progress(stage, sum(size + 1 for size, _ in pieces.values())) as bar, _pool(workers) as pool:
        jobs = {pool.submit(work.piece, name, pieces[name][1]): name for name in order}
        done = {}
        for job in futures.as_completed(jobs):
            done[jobs[job]] = job.result()
            bar.update(pieces[jobs[job]][0] + 1)
    return {name: done[name] for name in pieces}


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[futures.Executor]:
    """A thread pool that drops what has not begun when one piece fails or the user interrupts."""
    pool = futures.ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
