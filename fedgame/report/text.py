"""What launch.equilibrium and launch.mechanism print."""

import decimal
from collections.abc import Sequence
from typing import Any

from fedgame.experiments import tables

_SHOWN = 20  # agents in a printed table


def equilibrium_text(summary: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Fits, what was found, a table of the agents who contribute most, and who drops out."""
    blocks = []
    if summary["fits"]:
        lines = [
            ("curve of " + one["agent"] if one["agent"] else "curve")
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
    return ", ".join(names[:10]) + more if names else "nobody"


def mechanism_text(
    summary: dict[str, Any], rows: Sequence[dict[str, Any]], welfare: Sequence[dict[str, Any]]
) -> str:
    """Who leaves, who pays and receives what, welfare by mechanism, and the audit."""
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
