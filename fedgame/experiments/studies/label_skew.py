"""Label skew: every agent wants accuracy on her own distribution, and has a curve of her own.

Agents hold images by a Dirichlet partition. At every total S each trains on S/n of her images, so that shares
s_i/S stay fixed and equal, and the model's accuracy on held-out images of every class is measured. Agent i's
curve is a_i(S) = Σ_k q_ik acc_k(S) with q_ik the share of class k in what she holds. The same with images
dealt i.i.d. is the curve of a server that knows nothing of skew.

That a_i depends on S alone is an assumption: where agents contribute unequally, so do their classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from fedgame import mechanisms
from fedgame.experiments import curve
from fedgame.experiments import rows as all_rows
from fedgame.experiments import task as tasks
from fedgame.experiments.studies import base, rows
from fedgame.experiments.task import Task
from fedgame.games import costs, curves
from fedgame.games import game as games
from fedgame.inputs import read as inputs
from fedgame.learning import evaluation, federated, models, partitions
from fedgame.learning import trainer as trainers
from fedgame.mechanisms import outcomes
from fedgame.registry import option, register
from fedgame.report import figures, tables, text
from fedgame.runs.experiment import Resources
from fedgame.runs.workdir import Workdir

if TYPE_CHECKING:
    from matplotlib import axes, figure


OWN, ALIKE = "own", "i.i.d."  # the game on every agent's own curve, and on the one of images dealt i.i.d.
KINDS = ("dirichlet", "iid")  # of partitions
_GROUP = 0.85  # width of an agent's group of bars; the rest is the gap between groups


def weighted(shares: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """a_i = Σ_k q_ik acc_k, [..., n], from shares [n, classes] and accuracies [..., classes]."""
    return np.minimum(np.asarray(accuracy) @ np.asarray(shares).T, 1.0)  # 1 may round to more


@register("label_skew")
class LabelSkew(base.Study):
    """Every agent tests on her own distribution: accuracy curves that differ between agents."""

    trains: ClassVar[bool] = True
    size: ClassVar[tuple[float, float]] = (11, 4.2)

    alpha: float = option("of the Dirichlet partition; the smaller, the more skewed", 0.3, above=0)

    def train(self, task: Task, work: Workdir, resources: Resources) -> list[dict[str, Any]]:
        """Measures accuracy by class, fits every agent's curve, and solves the games on them.

        Writes `classes.csv` (accuracy by class of every training run), `shares.csv` (of classes in what an
        agent holds), `curve.csv` and `agents.csv` (which launch.equilibrium and launch.mechanism read),
        `curves.csv` and `by_agent.csv`.
        """
        settings = task.settings
        held = {kind: deal(task, kind, self.alpha) for kind in KINDS}
        most = np.full(settings.agents, held["iid"].labels.shape[1])
        shares = partitions.holdings(held["dirichlet"].labels, most, len(task.classes)) / most[:, None]
        accuracy = measure(task, work, held, self.alpha, resources)
        sizes = np.asarray(curve.sizes_of(settings))
        own = weighted(shares, accuracy["dirichlet"])  # [seeds, sizes, n]
        names = [f"agent {i}" for i in range(settings.agents)]
        measured = {name: own[:, :, i] for i, name in enumerate(names)}
        measured[ALIKE] = np.mean(accuracy["iid"], axis=-1)
        fitted = {name: curves.fit(settings.fit, sizes, one) for name, one in measured.items()}
        _write_curves(settings, work, shares, measured, fitted)
        cost = costs.LinearCost(np.broadcast_to(settings.cost, (settings.agents,)))
        payoffs = {
            OWN: inputs.payoff_of({name: fitted[name].payoff for name in names}, names),
            ALIKE: fitted[ALIKE].payoff,
        }
        table, contributions = [], []
        for which, payoff in payoffs.items():
            game = games.check(games.Game(payoff, cost, np.asarray(settings.capacity, float)))
            # What an agent has alone is not on these curves: her model would be trained on her classes only.
            found = rows.outcomes_of(game)
            mine = rows.rows_of(game, found, float(sizes[-1]), settings.p, alone=False)
            table += [{"curves": which} | row for row in mine]
            contributions += _agent_rows(game, which, found)
        work.write_csv("by_agent.csv", contributions)
        return table

    def show(self, work: Workdir) -> str:
        name = base.file_of(LabelSkew)
        figures.draw(work, name, draw, self.size)
        return self.tell(work, work.read_csv(f"{name}.csv"), text.remarks(work))

    def text(self, table: Sequence[dict[str, Any]]) -> str:
        header = {
            "curves": "curves",
            "mechanism": "mechanism",
            "beta": "β (mean β_i)",
            "total": "S, samples",
            "contributors": "contributors",
            "accuracy": "accuracy, mean",
            **rows.powers_of(table),
            "share_of_first_best": "share of first best",
            "nash_gap": "Nash gap",
            "extrapolated": "S not measured",
        }
        return tables.table(header, table)


def deal(task: Task, kind: str, alpha: float) -> federated.Images:
    """What agents hold, the same for all seeds: [n, m, ...], with n m at least the largest total."""
    settings = task.settings
    each = math.ceil(curve.largest_of(settings) / settings.agents)
    key = jax.random.fold_in(task.key, KINDS.index(kind))
    return partitions.partition(task.server.train, np.full(settings.agents, each), key, kind, alpha)


def by_class(images: federated.Images, classes: int) -> federated.Images:
    """The same number m of images of every class, [classes, m, ...]: as many as there are of the rarest.

    Raises:
      ValueError: there is no image of some class.
    """
    labels = np.asarray(images.labels)
    m = int(np.min(np.bincount(labels, minlength=classes)))
    if m == 0:
        raise ValueError(f"--held_out={len(labels)}: held-out images lack a class; ask for more of them")
    chosen = np.stack([np.flatnonzero(labels == k)[:m] for k in range(classes)])
    return federated.Images(images.images[chosen], images.labels[chosen])


def measure(
    task: Task, work: Workdir, held: dict[str, federated.Images], alpha: float, resources: Resources
) -> dict[str, np.ndarray]:
    """Measures the accuracy of every class at every total; writes `classes.csv`.

    Args:
      task: images, network and settings.
      work: where finished runs are kept.
      held: what agents hold, by kind of partition, from `deal`.
      alpha: of the Dirichlet partition.
      resources: number of runs at a time, and a cache.

    Returns:
      By kind of partition, accuracies [seeds, sizes, classes].
    """
    settings, sizes = task.settings, curve.sizes_of(task.settings)
    test = by_class(task.server.test, len(task.classes))

    def train(one: curve.Measurement, key: jax.Array, snapshots: trainers.Snapshots) -> list[float]:
        return _train(task, held[one.about["kind"]], test, one.size, key, snapshots)

    runs = [
        curve.Measurement(f"{kind}/{seed}-{size}", seed, size, {"kind": kind})
        for kind in KINDS
        for seed in range(settings.curve_seeds)
        for size in sizes
    ]
    fingerprint = tasks.fingerprint(task, [__name__], task.server) if resources.cache else {}
    fingerprint |= {"alpha": alpha, "sizes": sizes}
    found = curve.accuracies("measuring accuracy by class", runs, train, fingerprint, task, work, resources)
    table = [
        {"partition": one.about["kind"], "seed": one.seed, "samples": one.size, "class": k, "accuracy": x}
        for one, accuracy in zip(runs, found, strict=True)
        for k, x in enumerate(accuracy)
    ]
    work.write_csv("classes.csv", table)
    by_kind = np.reshape(found, (len(KINDS), settings.curve_seeds, len(sizes), len(task.classes)))
    return dict(zip(KINDS, by_kind, strict=True))


def _train(
    task: Task,
    held: federated.Images,
    test: federated.Images,
    total: int,
    key: jax.Array,
    snapshots: trainers.Snapshots,
) -> list[float]:
    """Accuracy of every class after training on `total` images, the same number from each agent.

    The images depend on the key. Under the same key, those of a smaller total are among those of a larger.
    """
    settings = task.settings
    order_key, init_key, train_key = jax.random.split(key, 3)
    n, most = held.labels.shape
    order = np.asarray(jax.vmap(lambda k: jax.random.permutation(k, most))(jax.random.split(order_key, n)))
    agent = np.arange(n)[:, None]
    agents = federated.place(
        federated.Images(held.images[agent, order], held.labels[agent, order]), task.mesh
    )
    drawn = np.full(n, total // n, np.int32)
    drawn[: total % n] += 1  # the remainder goes to the first agents
    params = jax.device_get(models.initial_parameters(task.model, init_key, held.images.shape[2:]))
    trainer = trainers.Trainer(task.model, task.local_training, agents, train_key, task.mesh)

    def step(params: Any, number: int) -> Any:
        return trainer.average(params, drawn, number)

    params = trainers.run(step, params, settings.rounds if total else 0, snapshots)
    return np.asarray(evaluation.accuracy(task.model, federated.local_copy(params), test), float).tolist()


def _write_curves(
    settings: Any,
    work: Workdir,
    shares: np.ndarray,
    measured: dict[str, np.ndarray],
    fitted: dict[str, curves.Fit],
) -> None:
    """Writes what agents hold, and their curves as measured and as fitted.

    Args:
      settings: with every default filled in.
      work: the directory.
      shares: [n, classes], of the classes in what each agent holds.
      measured: accuracies [seeds, sizes] by agent, and those of images dealt i.i.d. under `ALIKE`.
      fitted: by the same names.
    """
    sizes, names = curve.sizes_of(settings), [name for name in measured if name != ALIKE]
    costs = np.broadcast_to(settings.cost, (settings.agents,))
    held = [
        {"agent": name} | {f"class {k}": float(share) for k, share in enumerate(hers)}
        for name, hers in zip(names, shares, strict=True)
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
        name: np.asarray(curves.values(fit.payoff, np.asarray(sizes, float))) for name, fit in fitted.items()
    }
    both = [
        {
            "agent": name,
            "samples": size,
            "accuracy": float(np.mean(one[:, k])),
            "rmse": fitted[name].rmse,
            "fitted": float(drawn[name][k]),
        }
        for name, one in measured.items()
        for k, size in enumerate(sizes)
    ]
    work.write_csv("shares.csv", held)
    work.write_csv("curve.csv", runs)
    work.write_csv("agents.csv", agents)
    work.write_csv("curves.csv", both)


def _agent_rows(game: games.Game, which: str, solved: dict[str, outcomes.Outcome]) -> list[dict[str, Any]]:
    """What every agent contributes and has under every mechanism, and at the first best."""
    found = []
    for name, there in solved.items():
        columns = {
            "contribution": there.equilibrium.profile,
            "utility": there.utilities,
            "payment": there.payments,
        }
        for i, row in enumerate(all_rows.of_columns(columns, game.n)):
            found.append({"curves": which, "mechanism": name, "agent": i, **row})
    best = all_rows.of_columns({"contribution": mechanisms.first_best(game).profile}, game.n)
    for i, row in enumerate(best):
        named = {"curves": which, "mechanism": tables.FIRST_BEST, "agent": i}
        found.append(named | row | {"utility": None, "payment": None})
    return found


def draw(work: Workdir, fig: figure.Figure) -> None:
    """Draws every agent's curve; what she contributes, and what she has, by mechanism."""
    left, middle, right = fig.subplots(1, 3)
    for name, one in tables.by(work.read_csv("curves.csv"), "agent").items():
        style = {"color": "black", "linewidth": 2} if name == ALIKE else {"linewidth": 1}
        x, mean = tables.columns(one, "samples", "accuracy")
        left.plot(x, mean, marker=".", label="all alike, i.i.d." if name == ALIKE else name, **style)
    left.set(xlabel="total data S, samples", title="accuracy on her own classes", ylim=(0, 1))
    left.set_xscale("symlog", linthresh=10)
    left.set_xlim(0, None)
    left.legend(frameon=False, loc="lower right", fontsize="x-small", ncols=2)
    mine = [row for row in work.read_csv("by_agent.csv") if row["curves"] == OWN]
    _bars(middle, mine, "contribution")
    _bars(right, [row for row in mine if row["utility"] is not None], "utility")
    middle.set_title("contribution s_i, samples")
    right.set_title("utility u_i")
    fig.legend(*middle.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)


def _bars(ax: axes.Axes, table: list[dict[str, Any]], column: str) -> None:
    """Draws a group of bars for every agent, with a bar for every mechanism."""
    groups = tables.by(table, "mechanism")
    color = figures.colors(groups)
    for k, (name, hers) in enumerate(groups.items()):
        agent, height = tables.columns(hers, "agent", column)
        middle = agent + _GROUP * ((k + 0.5) / len(groups) - 0.5)
        ax.bar(middle, height, _GROUP / len(groups), color=color[name], label=tables.title(name))
    ax.set_xlabel("agent")
    ax.xaxis.get_major_locator().set_params(integer=True)
