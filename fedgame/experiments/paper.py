"""The paper's Table 1, what it contradicts, and how our rows compare with it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fedgame.mechanisms import welfare
from fedgame.report import text

POWERS = (0.2, 0.4, 0.6, 0.8, 1.0)
TABLE_1 = {  # as printed, on the scale without 1/n
    "mnist": {
        "FedAvg": ("48985.23", "154.99", "22.763", "8.726", "4.909"),
        "MWFed": ("51326.49", "158.92", "21.648", "8.803", "5.230"),
        "FedBR": ("53395.21", "168.85", "24.784", "9.495", "5.340"),
        "FedBR-BG": ("54589.31", "172.63", "25.340", "9.708", "5.459"),
    },
    "cifar10": {
        "FedAvg": ("42386.21", "135.92", "23.528", "8.381", "4.582"),
        "MWFed": ("48178.29", "142.91", "23.981", "8.879", "4.891"),
        "FedBR": ("58297.23", "178.32", "26.187", "9.675", "5.681"),
        "FedBR-BG": ("60385.32", "183.23", "27.958", "9.981", "5.891"),
    },
}


def printed(dataset: str, rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The paper's rows of Table 1 by protocol, as cells of a table; blank at p that it does not have.

    Args:
      dataset: "mnist" or "cifar10"; others have no rows.
      rows: of our table, which say the p.
    """
    powers, found = dict.fromkeys(row["p"] for row in rows), {}
    for protocol, numbers in TABLE_1.get(dataset, {}).items():
        cells = dict(zip(POWERS, numbers, strict=True))
        found[protocol] = [f"- in the paper: {protocol}", *(cells.get(p, "") for p in powers)]
    return found


def contradictions(dataset: str) -> dict[str, list[tuple[float, float]]]:
    """Where p ln W_p lies above its chord, for each row of Table 1, with slack for the printed digits.

    Returns:
      By protocol, such p and by how much, see `welfare.inconsistencies`.
    """
    found = {}
    for protocol, row in TABLE_1[dataset].items():
        decimals = [len(x.partition(".")[2]) for x in row]
        rounding = [0.5 * 10.0**-digits for digits in decimals]  # half a unit of the last digit
        found[protocol] = welfare.inconsistencies(POWERS, [float(x) for x in row], rounding)
    return found


def remarks(
    dataset: str, rows: Sequence[dict[str, Any]], tested: Mapping[str, str] = MappingProxyType(text.IMAGES)
) -> list[str]:
    """What the paper's rows contradict, its ordering of protocols and ours, and our rows that fall with p.

    `tested` says of both utilities on what the accuracy behind them is measured.
    """
    lines = []
    if dataset in TABLE_1:
        for protocol, points in contradictions(dataset).items():
            where = ", ".join(f"p = {p:g} (by {excess:.2g})" for p, excess in points)
            verdict = f"cannot come from any utilities: p ln W_p lies above its chord at {where}"
            if not points:
                verdict = "does not contradict itself"
            lines.append(f"the paper's row {protocol} {verdict}")
        lines.append(f"the paper's ordering: {' < '.join(TABLE_1[dataset])}, at every p")
    for kind, name in tested.items():
        mine = [row for row in rows if (row["scale"], row["utilities"]) == ("mean", kind)]
        for order, powers in _orders(mine).items():
            lines.append(f"ordering here by {name}: {order}, at p = {', '.join(f'{p:g}' for p in powers)}")
        known = [row for row in mine if row["welfare"] is not None]
        for protocol in dict.fromkeys(row["protocol"] for row in known):
            theirs = [row for row in known if row["protocol"] == protocol]
            falls = welfare.falls([row["p"] for row in theirs], [row["welfare"] for row in theirs])
            if falls:
                lines.append(f"{protocol} falls with p at {falls}, which no p-mean does")
    return ["\n".join(lines)]


def _orders(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """The orderings of protocols by welfare, ascending, as text, and the p at which each is found."""
    found: dict[str, list[float]] = {}
    for p in dict.fromkeys(row["p"] for row in rows):
        here = [row for row in rows if row["p"] == p]
        known = sorted((row for row in here if row["welfare"] is not None), key=lambda row: row["welfare"])
        text = known[0]["protocol"] if known else "none"
        for worse, better in itertools.pairwise(known):
            equal = math.isclose(worse["welfare"], better["welfare"], rel_tol=1e-9)
            text += f" {'=' if equal else '<'} {better['protocol']}"
        if len(known) < len(here):
            text += f" (undefined: {', '.join(row['protocol'] for row in here if row['welfare'] is None)})"
        found.setdefault(text, []).append(p)
    return found
