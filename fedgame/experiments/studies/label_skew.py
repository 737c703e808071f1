"""Label skew: every agent wants accuracy on her own distribution, and has a curve of her own.

Agents hold images by a Dirichlet partition. At every total S each trains on S/n of her images, so that shares
s_i/S stay fixed and equal, and the model's accuracy on held-out images of every class is measured. Agent i's
curve is a_i(S) = Σ_k q_ik acc_k(S) with q_ik the share of class k in what she holds. The same with images
dealt i.i.d. is the curve of a server that knows nothing of skew.

That a_i depends on S alone is an assumption: where agents contribute unequally, so do their classes.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import axes
from matplotlib import figure as figures

from fedgame import mechanisms
from fedgame.experiments import plots, storage, training
from fedgame.experiments import scenario as own_scenario
from fedgame.experiments import settings as all_settings
from fedgame.experiments.studies import base, classes, rows
from fedgame.experiments.studies import settings as own_settings
from fedgame.games import costs, curves
from fedgame.games import game as games
from fedgame.learning import partitions
from fedgame.mechanisms import outcomes
from fedgame.registry import option, register

OWN, ALIKE = "own", "i.i.d."


def weighted(shares: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """a_i = Σ_k q_ik acc_k, [..., n], from shares [n, classes] and accuracies [..., classes]."""
    return np.minimum(np.asarray(accuracy) @ np.asarray(shares).T, 1.0)  # 1 may round to more


@register("label_skew")
class LabelSkew(base.Study):
    """Every agent tests on her own distribution: accuracy curves that differ between agents."""

    trains: ClassVar[bool] = True
    uses: ClassVar[tuple[str, ...]] = (*all_settings.names(all_settings.CurveSettings), "cost", "p")

    alpha: float = option("of the Dirichlet partition; the smaller, the more skewed", 0.3, above=0)

    def train(
        self,
        task: training.Task,
        work: storage.Workdir,
        workers: int | None = None,
        cache: pathlib.Path | None = None,
    ) -> str:
        return run(task, work, workers, cache)


def run(
    task: training.Task, work: storage.Workdir, workers: int | None = None, cache: pathlib.Path | None = None
) -> str:
    """Measures, fits, solves; returns the table as text.

    Writes `classes.csv` (accuracy by class of every training run), `shares.csv` (of classes in what an agent
    holds), `curve.csv` and `agents.csv` (which launch.equilibrium and launch.mechanism read), `curves.csv`,
    `by_agent.csv`, `study_label_skew.csv`, `study_label_skew.json` and `study_label_skew.png`.
    """
    alpha = own_settings.study_of(task.settings).alpha
    task = task._replace(settings=dataclasses.replace(task.settings, alpha=alpha))
    settings = task.settings
    held = {kind: classes.deal(task, kind) for kind in classes.KINDS}
    most = np.full(settings.agents, held["iid"].labels.shape[1])
    shares = partitions.holdings(held["dirichlet"].labels, most, len(task.classes)) / most[:, None]
    accuracy = classes.measure(task, work, held, task.workers(workers), cache)
    sizes = np.asarray(classes.sizes_of(settings))
    own = weighted(shares, accuracy["dirichlet"])  # [seeds, sizes, n]
    names = [f"agent {i}" for i in range(settings.agents)]
    measured = {name: own[:, :, i] for i, name in enumerate(names)}
    measured[ALIKE] = np.mean(accuracy["iid"], axis=-1)
    fitted = {name: curves.fit(settings.fit, sizes, one) for name, one in measured.items()}
    _write_curves(settings, work, shares, measured, fitted)
    payoffs = {OWN: own_scenario.payoff_of({n: fitted[n].payoff for n in names}, names)}
    payoffs[ALIKE] = fitted[ALIKE].payoff
    table, contributions = [], []
    for which, payoff in payoffs.items():
        cost = costs.LinearCost(np.broadcast_to(settings.cost, (settings.agents,)))
        game = games.check(games.Game(payoff, cost, np.asarray(settings.capacity, float)))
        # What an agent has alone is not on these curves: her model would be trained on her classes only.
        found = rows.outcomes_of(game)
        mine = rows.rows_of(game, found, float(sizes[-1]), settings.p, alone=False)
        table += [{"curves": which} | row for row in mine]
        contributions += _agent_rows(game, which, found)
    work.write_csv("by_agent.csv", contributions)
    work.write_csv("study_label_skew.csv", table)
    work.write_json("study_label_skew.json", table)
    plots.draw(work, "study_label_skew", figure, (11, 4.2))
    return text(table)


def _write_curves(
    settings: Any,
    work: storage.Workdir,
    shares: np.ndarray,
    measured: dict[str, np.ndarray],
    fitted: dict[str, curves.Fit],
) -> None:
    sizes, names = classes.sizes_of(settings), [name for name in measured if name != ALIKE]
    costs = np.broadcast_to(settings.cost, (settings.agents,))
    held = [
        {"agent": name} | {f"class {k}": float(x) for k, x in enumerate(q)}
        for name, q in zip(names, shares, strict=True)
    ]
    runs = [
        {"samples": size, "seed": seed, "agent": name, "accuracy": float(measured[name][seed, k])}
        for name in names
        for seed in range(settings.curve_seeds)
        for k, size in enumerate(sizes)
    ]
    agents = [
        {"name": name, "cost": float(cost), "capacity": tau}
        for name, cost, tau in zip(names, costs, settings.capacity, strict=True)
    ]
    drawn = {
        name: np.asarray(jax.vmap(fit.payoff.curve)(jnp.asarray(sizes, float)))
        for name, fit in fitted.items()
    }
    both = [
        {"agent": name, "samples": size, "accuracy": float(np.mean(one[:, k])), "rmse": fitted[name].rmse}
        | {"fitted": float(drawn[name][k])}
        for name, one in measured.items()
        for k, size in enumerate(sizes)
    ]
    for name, table in {"shares": held, "curve": runs, "agents": agents, "curves": both}.items():
        work.write_csv(f"{name}.csv", table)


def _agent_rows(game: games.Game, which: str, solved: dict[str, outcomes.Outcome]) -> list[dict[str, Any]]:
    """What every agent contributes and has under every mechanism, and at the first best."""
    found = []
    for name, there in solved.items():
        columns = there.equilibrium.profile, there.utilities, there.payments
        found += [
            {"curves": which, "mechanism": name, "agent": i, "contribution": float(s), "utility": float(u)}
            | {"payment": float(p)}
            for i, (s, u, p) in enumerate(zip(*columns, strict=True))
        ]
    best = np.asarray(mechanisms.first_best(game).profile)
    more = {"utility": None, "payment": None}
    return found + [
        {"curves": which, "mechanism": rows.FIRST_BEST, "agent": i, "contribution": float(s)} | more
        for i, s in enumerate(best)
    ]


def text(table: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    header = {"curves": "curves", "mechanism": "mechanism", "beta": "β (mean β_i)", "total": "S, samples"}
    header |= {"contributors": "contributors", "accuracy": "accuracy, mean"} | rows.powers_of(table)
    header |= {"share_of_first_best": "share of first best", "nash_gap": "Nash gap"}
    return rows.table(header | {"extrapolated": "S not measured"}, table)


def figure(work: storage.Workdir, fig: figures.Figure) -> None:
    """Every agent's curve; what she contributes, and what she has, by mechanism."""
    left, middle, right = fig.subplots(1, 3)
    for name, one in plots.by(work.read_csv("curves.csv"), "agent").items():
        style = {"color": "black", "linewidth": 2} if name == ALIKE else {"linewidth": 1}
        x, mean = plots.columns(one, "samples", "accuracy")
        left.plot(x, mean, marker=".", label="all alike, i.i.d." if name == ALIKE else name, **style)
    left.set(xlabel="total data S, samples", title="accuracy on her own classes", ylim=(0, 1))
    left.set_xscale("symlog", linthresh=10)
    left.set_xlim(0, None)
    left.legend(frameon=False, loc="lower right", fontsize="x-small", ncols=2)
    mine = [row for row in work.read_csv("by_agent.csv") if row["curves"] == OWN]
    _bars(middle, mine, "contribution")
    _bars(right, [row for row in mine if row["utility"]], "utility")
    middle.set_title("contribution s_i, samples")
    right.set_title("utility u_i")
    fig.legend(*middle.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)


def _bars(ax: axes.Axes, table: list[dict[str, str]], column: str) -> None:
    """A group of bars for every agent, a bar for every mechanism."""
    groups = plots.by(table, "mechanism")
    for k, (name, hers) in enumerate(groups.items()):
        agent, height = plots.columns(hers, "agent", column)
        place = agent + 0.85 * ((k + 0.5) / len(groups) - 0.5)
        ax.bar(place, height, 0.85 / len(groups), color=rows.color(name), label=rows.title(name))
    ax.set_xlabel("agent")
    ax.xaxis.get_major_locator().set_params(integer=True)
