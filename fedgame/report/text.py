"""What commands print of a run: Markdown tables and sentences, from the files of the run alone."""

import decimal
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fedgame.report import tables
from fedgame.runs import sweep as sweeps
from fedgame.runs.workdir import Workdir

_SHOWN = 20  # agents in a printed table


def equilibrium(work: Workdir) -> str:
    """Fits, what was found, a table of the agents who contribute most, and who drops out."""
    summary, rows = work.read_json("equilibrium.json"), work.read_csv("outcome.csv", text=("name",))
    blocks = []
    if summary["fits"]:
        lines = [
            (f"curve of {one['agent']}" if one["agent"] else "curve")
            + f": {one['fit']} fit, root mean square error {one['rmse']:.4f}, largest {one['largest']:.4f}"
            + ("  <- used" if one["used"] else "")
            for one in summary["fits"][:12]
        ]
        blocks.append("\n".join(lines))
    total = f"S = {summary['total']:.6g} samples"
    if "bootstrap" in summary:
        b = summary["bootstrap"]
        total += f", {b['confidence']:.0%} interval [{b['total_low']:.6g}, {b['total_high']:.6g}]"
        total += f" from {b['certified']} certified of {b['resamples']} resampled games"
    if (measured := summary["largest_measured"]) and summary["total"] > measured:
        total += f"\nBEYOND THE MEASUREMENTS, which end at {measured:g} samples: an extrapolation of the fit"
    if len(summary.get("equilibrium_totals", [])) > 1:
        several = ", ".join(f"{x:.6g}" for x in summary["equilibrium_totals"])
        total += f"\nevery equilibrium total: {several}"
    blocks.append(f"{summary['status']}\n{total}")
    header = ["agent", "contributes", "of", "shares", "accuracy", "cost", "utility", "Nash gap"]
    if "bootstrap" in summary:
        header += ["contribution in", "utility in", "nothing in", "leaves in"]
    most = sorted(range(len(rows)), key=lambda i: -rows[i]["contribution"])
    shown = sorted(most[:_SHOWN])
    blocks.append(tables.markdown(header, [_agent_cells(rows[i]) for i in shown]))
    if len(rows) > len(shown):
        blocks[-1] += f"\n… and {len(rows) - len(shown)} agents who contribute less; all are in outcome.csv"
    idle = [row["name"] for row in rows if row["shares"] == "nothing"]
    leaving = [row["name"] for row in rows if row["rather_leaves"]]
    where = "" if summary["converged"] else "at this profile, which is NO certified equilibrium, "
    blocks.append(
        f"{where}shares nothing: {_listed(idle)}\n"
        f"{where}would rather leave (utility below 0): {_listed(leaving)}"
    )
    return "\n\n".join(blocks + ([summary["conditions"]] if "conditions" in summary else []))


def _agent_cells(row: dict[str, Any]) -> list[str]:
    cells = [row["name"], f"{row['contribution']:.6g}", f"{row['capacity']:.6g}", row["shares"]]
    cells += [f"{row['payoff']:.4f}", f"{row['cost']:.4g}", f"{row['utility']:.4g}", f"{row['nash_gap']:.1e}"]
    if "utility_low" in row:
        for name in ("contribution", "utility"):
            cells.append(f"[{row[name + '_low']:.4g}, {row[name + '_high']:.4g}]")
        cells += [f"{row[x]:.0%}" for x in ("shares_nothing_in", "rather_leaves_in")]
    return cells


def _listed(names: list[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > 10 else ""
    return ", ".join(map(str, names[:10])) + more if names else "nobody"


def mechanism(work: Workdir) -> str:
    """Who leaves, who pays and receives what, welfare by mechanism, and the audit."""
    summary, welfare = work.read_json("mechanism.json"), work.read_csv("p_means.csv")
    rows = work.read_csv("outcome.csv", text=("name", "payment"))
    left = [f"{one['name']} (worse off by {one['worse_off_by']:.4g})" for one in summary["left"]]
    alternative = {"alone": "training alone", "nothing": "having no model"}[summary["outside"]]
    if summary["certified"]:
        first = f"mechanism: {summary['mechanism']}; {summary['stay']} of {summary['agents']} agents stay\n"
    else:
        first = (
            f"mechanism: {summary['mechanism']}; NO certified equilibrium of the {summary['stay']} agents "
            "who are there, so who of them would leave cannot be told; the profile shown is none\n"
        )
    first += f"left, as {alternative} is better for them: {_listed(left)}"
    blocks = [first]
    if "status" not in summary:
        blocks[0] += "\nthe federation falls apart: fewer than two agents are left"
    else:
        blocks[0] += f"\n{summary['status']}"
        if tied := summary.get("splits"):
            blocks[0] += (
                f"\ns* is an equilibrium; agents {_listed(tied)} are indifferent how they split what they "
                "contribute together, and utilities are equal at this split only"
            )
        staying = [row for row in rows if row["stays"]]
        most = sorted(staying, key=lambda row: -abs(row["exact_payment"]))[:_SHOWN]
        header = ["agent", "contributes", "of", "accuracy", "cost", *summary["columns"].values()]
        header += ["receives", "utility", "outside", "no payments", "Nash gap"]
        body = [_payment_cells(row, list(summary["columns"])) for row in staying if row in most]
        blocks.append(tables.markdown(header, body))
        if len(staying) > len(most):
            blocks[-1] += f"\n… and {len(staying) - len(most)} agents with smaller payments, in outcome.csv"
        total = sum(decimal.Decimal(row["payment"]) for row in rows)
        blocks[-1] += f"\npayments in units of {summary['unit']:g}; their sum: {total}"
    powers = [name for name in welfare[0] if name.startswith("p=")]
    body = []
    for row in welfare:
        doubt = ", NO certified equilibrium" if row["certified"] is False else ""
        means = ["undefined" if row[p] is None else f"{row[p]:.5g}" for p in powers]
        body.append([tables.title(row["mechanism"]) + doubt, *means])
    table = tables.markdown(["welfare (1/n Σ u^p)^(1/p)", *powers], body)
    return "\n\n".join([*blocks, table, *summary["audit"]])


def _payment_cells(row: dict[str, Any], announced: list[str]) -> list[str]:
    cells = [row["name"], f"{row['contribution']:.6g}", f"{row['capacity']:.6g}", f"{row['payoff']:.4f}"]
    cells += [f"{row['cost']:.4g}", *(_announced_cell(name, row[name]) for name in announced), row["payment"]]
    numbers = (row[name] for name in ("utility", "outside", "without_payments"))
    cells += ["no equilibrium" if x is None else f"{x:.4g}" for x in numbers]
    return [*cells, f"{row['nash_gap']:.1e}"]


def _announced_cell(name: str, x: float) -> str:
    return f"{x:.4f}" if name == "rate" else f"{x:.4g}"


def training(work: Workdir) -> str:
    """Who holds what, and the accuracies of one training run."""
    return tables.first_agents(work.read_texts("holdings.csv")) + "\n\n" + rounds(work.read_csv("rounds.csv"))


def rounds(rows: Sequence[dict[str, Any]]) -> str:
    """The best and the last accuracy of a training run."""
    best, last = max(rows, key=lambda row: row["accuracy"]), rows[-1]
    return (
        f"accuracy on held-out images: {last['accuracy']:.4f} after {last['round']} rounds; "
        f"the best, {best['accuracy']:.4f}, after {best['round']}"
    )


def curve(work: Workdir) -> str:
    """The measured accuracy of every size, and how well every family fits."""
    return band(work.read_csv("band.csv")) + "\n\n" + fits(work.read_json("fits.json"))


def band(rows: Sequence[dict[str, Any]]) -> str:
    """The measured accuracies of every size over seeds, as Markdown."""
    body = [
        [
            str(row["samples"]),
            f"{row['accuracy']:.4f}",
            "" if row["deviation"] is None else f"{row['deviation']:.4f}",
            f"{row['low']:.4f}",
            f"{row['high']:.4f}",
        ]
        for row in rows
    ]
    return tables.markdown(["S", "accuracy, mean", "deviation of a run", "lowest", "highest"], body)


def fits(fits: Sequence[dict[str, Any]]) -> str:
    """The error of every fit, a line each."""
    return "\n".join(
        f"{fit['fit']} fit: root mean square error {fit['rmse']:.4f}, largest {fit['largest_residual']:.4f}"
        + ("  <- used" if fit["used"] else "")
        for fit in fits
    )


def game(summary: dict[str, Any]) -> str:
    """The fit of ã and the equilibria on it, a line each."""
    between = summary["deviation_between_seeds"]
    lines = [
        f"ã: {summary['fit']} fit, root mean square error {summary['rmse']:.4f}, largest "
        f"{summary['largest_residual']:.4f}"
        + (f"; one training run deviates by {between:.4f}" if between is not None else "")
    ]
    for name, e in summary["equilibria"].items():
        if e is None:
            lines.append(f"{name}: aims at no equilibrium")
            continue
        said = f"{e['told']}, " if e["told"] else ""
        kind = "equilibrium" if e["converged"] else "NO equilibrium found, profile"
        lines.append(
            f"{name}: {said}{kind} with Σ s = {e['contributed']:.2f}, Nash gap {e['nash_gap']:.1e}"
            + ("" if e["unique"] else ", only Σ s is determined")
        )
    return "\n".join(lines)


def trials(rows: Sequence[dict[str, Any]]) -> str:
    """The means over seeds as Markdown; the Nash gap is the largest over seeds."""
    header = [
        "protocol",
        "announced",
        "Σ samples",
        "accuracy, held out",
        "mean utility",
        "by held out",
        "Nash gap",
        "Nash gap, whole samples",
        "Σ payments",
    ]
    body = []
    for name, mine in tables.by(rows, "protocol").items():
        mean = tables.means(mine)
        body.append(
            [
                name,
                mine[0]["announced"] or "",
                f"{mean('charged'):.1f}",
                f"{mean('held_out_accuracy'):.3f}",
                f"{mean('mean_utility'):.4f}",
                f"{mean('held_out_mean_utility'):.4f}",
                f"{max(row['nash_gap'] for row in mine):.1e}",
                f"{max(row['nash_gap_charged'] for row in mine):.1e}",
                f"{max((row['sum_of_payments'] for row in mine), key=abs):.1e}",
            ]
        )
    return tables.markdown(header, body)


def table1(rows: Sequence[dict[str, Any]], printed: Mapping[str, list[str]] = MappingProxyType({})) -> str:
    """Table 1 as Markdown on both scales, and what is undefined.

    Args:
      rows: of `table1.csv`.
      printed: by protocol, a row of the paper's table to stand below ours, on the paper's scale.
    """
    powers = list(dict.fromkeys(row["p"] for row in rows))
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    cells = {(row["utilities"], row["scale"], row["protocol"], row["p"]): p_mean(row) for row in rows}
    titles = {
        ("own", "mean"): "p-mean welfare (1/n Σ u^p)^(1/p), mean ± standard error over seeds",
        ("held_out", "mean"): "the same, utilities by the accuracy on the server's held-out images",
        ("own", "sum"): "p-mean welfare (Σ u^p)^(1/p), the scale of the paper's Table 1",
    }
    blocks = []
    for (kind, scale), title in titles.items():
        body = []
        for name in protocols:
            body.append([name, *(cells[kind, scale, name, p] for p in powers)])
            if scale == "sum" and name in printed:
                body.append(printed[name])
        header = ["protocol", *(f"p = {p:g}" for p in powers)]
        blocks.append(f"{title}\n\n" + tables.markdown(header, body))
    return "\n\n".join(blocks + _undefined(rows))


def _undefined(rows: Sequence[dict[str, Any]]) -> list[str]:
    powers: dict[tuple[str, str], dict[str, None]] = {}
    for row in (row for row in rows if row["undefined"]):
        who = f"{row['protocol']} by {row['utilities'].replace('_', ' ')} images"
        powers.setdefault((who, row["undefined"]), {})[f"{row['p']:g}"] = None
    alike: dict[tuple[str, str], list[str]] = {}
    for (who, reason), at in powers.items():
        alike.setdefault((reason, ", ".join(at)), []).append(who)
    lines = [f"{'; '.join(who)}, {reason} (p = {at})" for (reason, at), who in alike.items()]
    return ["undefined:\n" + "\n".join(lines)] if lines else []


def p_mean(row: dict[str, Any]) -> str:
    """A p-mean with its standard error."""
    if row["welfare"] is None:
        return "undefined"
    error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2g}"
    return f"{row['welfare']:.5g}{error}"


def differences(rows: Sequence[dict[str, Any]]) -> str:
    """Paired differences of normalised p-means as Markdown, both kinds of utilities."""
    blocks = []
    for kind, title in (("own", "own test images"), ("held_out", "held-out images")):
        mine = [row for row in rows if (row["utilities"], row["scale"]) == (kind, "mean")]
        powers = list(dict.fromkeys(row["p"] for row in mine))
        pairs: dict[str, list[str]] = {}
        for row in mine:
            pairs.setdefault(f"{row['protocol']} - {row['minus']}", []).append(_interval(row))
        header = ["difference", *(f"p = {p:g}" for p in powers)]
        head = f"paired differences over seeds [{tables.CONFIDENCE:.0%} interval], utilities by {title}\n\n"
        blocks.append(head + tables.markdown(header, [[name, *row] for name, row in pairs.items()]))
    return "\n\n".join(blocks)


def _interval(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return "undefined"
    ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['difference']:+.4f}{ends}"


def seconds(rows: Sequence[dict[str, Any]]) -> str:
    """How long each protocol trained, one line."""
    total: dict[str, float] = {}
    for row in rows:
        total[row["protocol"]] = total.get(row["protocol"], 0.0) + row["seconds"]
    return "seconds of training: " + ", ".join(f"{name} {x:.1f}" for name, x in total.items())


def sweep(work: Workdir, table: Callable[[Workdir], str] | None = None) -> str:
    """A table of what came of the variants, and which of them failed.

    Args:
      work: the directory of a sweep.
      table: of the variants that are done; None: all their headlines.
    """
    variants, blocks = sweeps.variants_of(work), []
    if work.has(sweeps.HEADLINES):
        blocks.append((table or headlines)(work))
    if bad := sweeps.failed(work):
        lines = [f"{row['variant']}: {row['message']}" for row in bad]
        blocks.append(f"{len(bad)} of {len(variants)} variants failed\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def headlines(work: Workdir) -> str:
    """What came of every variant of a sweep, the swept settings first, as Markdown."""
    shown = sweeps.settings_of(work)
    rows = work.read_csv(sweeps.HEADLINES, text=tuple(shown))
    others = {name: name.replace("_", " ") for name in rows[0] if name not in ("variant", *shown)}
    return tables.table({column: f"--{name}" for column, name in shown.items()} | others, rows)


def comparisons(work: Workdir) -> str:
    """One row per variant and protocol of a sweep of comparisons, as Markdown: means over seeds."""
    shown = sweeps.settings_of(work)
    rows = work.read_csv(sweeps.HEADLINES, text=("variant", *shown))
    powers = sorted({row["p"] for row in rows})
    header = [f"--{name}" for name in shown.values()]
    header += ["protocol", "mean utility", "Σ samples", *(f"p = {p:g}" for p in powers)]
    body = []
    for mine in tables.by(rows, "variant", "protocol").values():
        first, means = mine[0], {row["p"]: p_mean(row) for row in mine}
        cells = [first[name] for name in shown] + [first["protocol"]]
        cells += [f"{first['mean_utility']:.4f}", f"{first['charged']:.1f}"]
        body.append(cells + [means.get(p, "") for p in powers])  # some variants may have another p
    title = "variants of the sweep; p-mean welfare (1/n Σ u^p)^(1/p), mean ± standard error over seeds"
    return f"{title}\n\n" + tables.markdown(header, body)
