"""What commands print of a run: Markdown tables and sentences, from the files of the run alone."""

import decimal
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fedgame.report import answers, money, tables
from fedgame.runs import sweep as sweeps
from fedgame.runs.workdir import Workdir

_BRIEF = 4  # members who are told one by one in the cell of a table
_SHOWN = 20  # agents in a printed table
_ROUGH = 0.1  # half an interval of a metric: where it is wider, what is within it says little
_FITS = 12  # fits with a line each; with a curve for each agent there may be many


def equilibrium(work: Workdir) -> str:
    """The answer, a table of the agents who contribute most, how sure that is, and what it is based on."""
    summary, rows = work.read_json("equilibrium.json"), work.read_csv("outcome.csv", text=("name",))
    answer, used = answers.equilibrium(work), money.currency(summary.get("currency", ""))
    based_on = _read(summary)
    if summary["fits"]:
        based_on.append("\n".join(_fit_of_agent(fit) for fit in summary["fits"][:_FITS]))
    if summary["exchange"]:
        based_on.append(_exchange(summary["exchange"]))
    sure = [*answer.sure, *answers.solved(summary), _total(summary)]
    blocks = [
        lines(answer.sentences),
        _contributors(rows, summary, used),
        _each(answer),
        lines(["How sure this is", *sure]),
        summary.get("conditions", ""),
        validation(work, summary.get("not_validated", "")),
        *based_on,
        *_end(answer),
    ]
    return "\n\n".join(block for block in blocks if block)


def lines(sentences: Sequence[str]) -> str:
    """Sentences, or tables, one below the other."""
    return "\n".join(sentences)


def _each(answer: answers.Answer) -> str:
    """What the answer means for each member; "" if that is not said."""
    return lines(["What each member gets, and what if she leaves", *answer.each]) if answer.each else ""


def _end(answer: answers.Answer) -> list[str]:
    """The blocks at the end of a report: what is assumed, and what words mean."""
    return [lines(["What is assumed", *answer.assumed]), words(answer)]


def words(answer: answers.Answer) -> str:
    """What the words of an answer mean, a line each."""
    told = [f"{word}: {meaning}" for word, meaning in answer.words.items()]
    return lines(["What the words mean", *told])


def _read(summary: dict[str, Any]) -> list[str]:
    """A block on what was read from files; none if nothing was, or an earlier version wrote the summary."""
    return [f"read: {'; '.join(summary['read'])}"] if summary.get("read") else []


def measurement(work: Workdir) -> str:
    """What records are worth to whom, in sentences and tables, and how sure that is."""
    found, rows = work.read_json("measure.json"), work.read_csv("worth.csv", text=("member",))
    header = ["member", "records", "to train on", "no records", "hers alone", "the others'", "everybody's"]
    cells = [
        [
            row["member"],
            f"{row['records']}",
            f"{row['trainable']}",
            *(money.number(row[name]) for name in ("nobody", "alone", "others", "all")),
        ]
        for row in rows
    ]
    metric = answers.METRICS[found["metric"]]
    blocks = [
        remarks(work),
        lines(answers.measurement(work).sentences),
        f"{metric} on each member's own held-out records, of models of these records\n"
        + tables.markdown(header, cells),
        _exchange(found["exchange"]),
        f"{found['mixtures']} mixtures × {found['splits']} splits; copy agents_template.csv and fill in "
        "costs and values for launch.equilibrium",
        validation(work),
    ]
    return "\n\n".join(block for block in blocks if block)


def remarks(work: Workdir) -> str:
    """What is odd about the data, or about what models learn from them; "" if nothing is."""
    files = ("members.json", "remarks.json", "training_remarks.json")
    there = [name for name in files if work.has(name)]
    return "\n".join(told for name in there for told in work.read_json(name)["remarks"])


def validation(work: Workdir, not_validated: str = "") -> str:
    """What was predicted of the advice beside what came of it; "" if it was not checked.

    `not_validated` is why it was not, although it should have been.
    """
    if not_validated:
        return f"--validate has nothing to check: {not_validated}"
    if not work.has("validation.json"):
        return ""
    rows = tables.by(work.read_csv("validation.csv", text=("of", "member")), "of")
    summaries = work.read_json("validation.json")
    used = _currency(work)
    return "\n\n".join(_validated(found, rows[found["of"]], used) for found in summaries)


def _currency(work: Workdir) -> money.Currency:
    """The currency that the settings name; not all have one."""
    return money.currency(answers.about(work)["settings"].get("currency", ""))


def _validated(found: dict[str, Any], rows: Sequence[dict[str, Any]], used: money.Currency) -> str:
    """The table of one advice, and whether it held."""
    metric, confidence = answers.METRICS[found["metric"]], f"{found['confidence']:.0%}"
    header = ["member", "shares", "predicted", f"trained [{confidence}]", "utility", "trained"]
    header += ["gain by sharing nothing", "trained", "gain by sharing all", "trained"]
    by_member = tables.by(rows, "member", "profile")
    cells = []
    for name in dict.fromkeys(row["member"] for row in rows[: 3 * _SHOWN]):
        here, nothing, everything = (by_member[name, kind][0] for kind in ("announced", "nothing", "all"))
        level = f"{here['trained']:.3f} [{here['low']:.3f}, {here['high']:.3f}]"
        cells.append(
            [
                name,
                f"{here['contribution']}",
                f"{here['predicted']:.3f}",
                level if here["holds"] else f"{level} !",
                used.amount(here["predicted_utility"]),
                used.amount(here["trained_utility"]),
                *_gain(nothing, used),
                *_gain(everything, used),
            ]
        )
    whose = f"{found['of']}: " if found["of"] else ""
    return (
        f"{whose}{metric} on the reserve, which nothing was fitted to; {found['runs']} training runs of each "
        f"profile\n{tables.markdown(header, cells)}\n"
        f"largest of these gains: {used.amount(found['predicted_nash_gap'])} predicted, "
        f"{used.amount(found['trained_nash_gap'])} trained{_rounded(found, used)}; intervals are "
        f"{confidence} for all members together, those of gains for all gains\n"
        f"{_verdict(found, rows, used)}"
    )


def _rounded(found: dict[str, Any], used: money.Currency) -> str:
    """What could be gained because the advice is rounded to whole records."""
    gap = found.get("rounded_gap")
    return "" if gap is None else f" ({used.amount(gap)} predicted by any other number of records)"


def _gain(row: dict[str, Any], used: money.Currency) -> list[str]:
    ends = f"[{used.amount(row['gain_low'])}, {used.amount(row['gain_high'])}]"
    return [used.amount(row["predicted_gain"]), f"{used.amount(row['trained_gain'])} {ends}"]


def _verdict(found: dict[str, Any], rows: Sequence[dict[str, Any]], used: money.Currency) -> str:
    """Whether the advice held, and for whom it did not."""
    if found["holds"]:
        announced = [row for row in rows if row["profile"] == "announced"]
        wide = max(announced, key=_unseen)
        if _unseen(wide) > _ROUGH:
            error = f"{_unseen(wide):.2f} in the {answers.METRICS[found['metric']]}"
            return (
                "nothing seen contradicts the advice: every prediction is within its interval, and no "
                "deviation is shown to pay; but with so few reserved records, an error of less than "
                f"{error} may not show ({wide['member']})"
            )
        interval = f"{wide['member']}, [{wide['low']:.2f}, {wide['high']:.2f}]"
        return (
            "the advice held, as far as the reserve tells: every prediction is within its interval (the "
            f"widest: {interval}), and no deviation is shown to pay"
        )
    lines = ["THE ADVICE DID NOT HOLD"]
    for row in rows:
        if row["profile"] == "announced" and not row["holds"]:
            lines.append(
                f"{row['member']} was promised {row['predicted']:.3f} and has {row['trained']:.3f} "
                f"[{row['low']:.3f}, {row['high']:.3f}]"
            )
    for one in found["deviations_that_pay"]:
        lines.append(f"{one['member']} gains {used.amount(one['gain'])} by sharing {one['profile']} instead")
    return "\n".join(lines)


def _unseen(row: dict[str, Any]) -> float:
    """Half the interval of what was trained, up to which an error is not seen; ends are cut at 0 and 1."""
    return max(row["high"] - row["trained"], row["trained"] - row["low"])


def _exchange(found: dict[str, Any]) -> str:
    """How well models of what samples are worth predict held-out mixtures, and which one is used."""
    models = [name for name in found["members"][0] if name not in ("name", "noise")]
    header = ["error on held-out mixtures", *models, "noise of a measurement"]
    columns = [*models, "noise"]
    cells = [[row["name"], *(money.number(row[name]) for name in columns)] for row in found["members"]]
    chosen, p_value = found["model"], found["p_value_of_equal_rates"]
    text = tables.markdown(header, cells) + f"\nused: {chosen}"
    # Files of earlier versions do not say the metric and the best model.
    metric, best = found.get("metric", "accuracy"), found.get("best", chosen)
    if metric != "accuracy":
        text = f"what is called accuracy is the {answers.METRICS.get(metric, metric)}\n\n{text}"
    if chosen != best:
        text += f" (--rates), though held-out mixtures speak for {best}"
    if p_value < 0.05:
        text += f"; that every sample counts the same for everybody is rejected at 5% (p = {p_value:.2g})"
    else:
        text += f"; the data do not suffice to reject that every sample counts the same (p = {p_value:.2g})"
    used = [(row["name"], row[chosen], row["noise"]) for row in found["members"]]
    if rough := [name for name, error, noise in used if noise and error > 2 * noise]:
        text += (
            "\nROUGH: what is predicted for held-out mixtures is wrong by more than twice the noise of a "
            f"measurement for {answers.listed(rough)}; more rounds of training, or more records, may help"
        )
    if found["low"] is not None:
        text += _rates(found)
    if not found["without_data"]:
        text += (
            "\nno mixture has 0 samples of everybody: what members have without data is extrapolated, and so "
            "is what they gain"
        )
    if found["harmful"]:
        pairs = answers.listed([f"those of {pair['of']} for {pair['member']}" for pair in found["harmful"]])
        text += f"\nsamples that seem to do harm, here counted as worth 0: {pairs}"
    return text


def _rates(found: dict[str, Any]) -> str:
    """A table of the rates with their intervals, of the first members."""
    names = [row["name"] for row in found["members"]][: answers.RATES]
    cells = []
    for i, name in enumerate(names):
        row = [name]
        for j in range(len(names)):
            low, high = found["low"][i][j], found["high"][i][j]
            interval = f" [{low:.2g}, {high:.2g}]" if low is not None and i != j else ""
            row.append(f"{found['rates'][i][j]:.2g}{interval}")
        cells.append(row)
    header = ["own samples that one is worth to", *(f"of {name}" for name in names)]
    more = f" (the first {answers.RATES} members)" if len(found["members"]) > answers.RATES else ""
    return (
        f"\n\n{tables.markdown(header, cells)}\n90% intervals{more}; without one a rate is indistinguishable "
        "from 0; all are in exchange_rates.csv"
    )


def _fit_of_agent(fit: dict[str, Any]) -> str:
    """A line on the fit of one agent's curve, or of the curve that all share."""
    whose = f"curve of {fit['agent']}" if fit["agent"] else "curve"
    return f"{whose}: {fit['fit']} fit, {_errors(fit['rmse'], fit['largest'])}{_mark(fit['used'])}"


def _is_flat(fit: dict[str, Any]) -> bool:
    """Whether the fit that is used does not rise; those of earlier versions do not say."""
    return fit.get("used", True) and not fit.get("rises", True)


def _errors(rmse: float, largest: float) -> str:
    return f"root mean square error {rmse:.4f}, largest {largest:.4f}"


def _mark(used: bool) -> str:
    return "  <- used" if used else ""


def _total(summary: dict[str, Any]) -> str:
    """The total S, and the totals of other equilibria."""
    text = f"S = {money.number(summary['total'], 6)} samples"
    if len(summary.get("equilibrium_totals", [])) > 1:
        several = ", ".join(money.number(total, 6) for total in summary["equilibrium_totals"])
        text += f"\nevery equilibrium total: {several}"
    return text


def _contributors(rows: Sequence[dict[str, Any]], summary: dict[str, Any], used: money.Currency) -> str:
    """A table of the agents who contribute most, with intervals if games were resampled."""
    header = ["agent", "contributes", "of", answers.metric(summary), "cost", "utility", "outside"]
    if "utility_low" in rows[0]:
        header += ["contribution in", "utility in", "nothing in", "leaves in"]
    shown = _largest(rows, lambda row: row["contribution"])
    table = tables.markdown(header, [_agent_cells(row, used) for row in shown])
    if len(rows) > len(shown):
        table += f"\n… and {len(rows) - len(shown)} agents who contribute less; all are in outcome.csv"
    return table


def _largest(rows: Sequence[dict[str, Any]], size: Callable[[dict], float]) -> list[dict[str, Any]]:
    """The rows of largest size, at most `_SHOWN`, in the order in which they stand."""
    descending = sorted(range(len(rows)), key=lambda i: -size(rows[i]))
    return [rows[i] for i in sorted(descending[:_SHOWN])]


def _agent_cells(row: dict[str, Any], used: money.Currency) -> list[str]:
    outside = row.get("outside")  # earlier versions do not say it
    cells = [
        row["name"],
        money.samples(row["contribution"]),
        money.samples(row["capacity"]),
        f"{row['payoff']:.4f}",
        used.amount(row["cost"]),
        used.amount(row["utility"]),
        "-" if outside is None else used.amount(outside),
    ]
    if "utility_low" in row:
        cells += [
            _between(row, "contribution", money.samples),
            _between(row, "utility", used.amount),
            f"{row['shares_nothing_in']:.0%}",
            f"{row['rather_leaves_in']:.0%}",
        ]
    return cells


def mechanism(work: Workdir) -> str:
    """The answer, mechanisms side by side, who pays and receives what, welfare, and how sure that is."""
    summary = work.read_json("mechanism.json")
    answer, used = answers.mechanism(work), money.currency(summary.get("currency", ""))
    rows = work.read_csv("outcome.csv", text=("name", "payment"))
    here = "status" in summary  # else the federation falls apart
    others = _do_not_apply(work) if work.has("mechanisms.csv") else []
    how = answers.solved(summary) if here else []
    sure = [*answer.sure, *how, *_ties(summary), *summary["audit"], *_surplus(summary, used)]
    blocks = [
        lines(answer.sentences),
        *([tables.markdown(*compared(work, used))] if work.has("mechanisms.csv") else []),
        _payments(summary, rows, used) if here else _fallen_apart(rows, used),
        _each(answer),
        _welfare(work.read_csv("p_means.csv"), used),
        lines(["How sure this is", *sure]),
        validation(work, summary.get("not_validated", "")),
        lines(others),
        *_read(summary),
        _exchange(summary["exchange"]) if summary["exchange"] else "",
        *_end(answer),
    ]
    return "\n\n".join(block for block in blocks if block)


def compared(work: Workdir, used: money.Currency) -> tables.Table:
    """The mechanisms that apply, side by side."""
    by_member = tables.by(work.read_csv("mechanisms_by_member.csv", text=("mechanism", "name")), "mechanism")
    header = ["mechanism", "shares", "pays", "would leave", "more than leaving", "Σ utility", "worst off"]
    header += ["server knows", "a false report gains"]
    applying = [row for row in answers.compared(work) if row["applies"]]
    return tables.Table(
        header, [_candidate_cells(row, by_member[row["mechanism"]], used) for row in applying]
    )


def _do_not_apply(work: Workdir) -> list[str]:
    """Why other mechanisms do not apply, a line each."""
    return [
        f"{tables.title(row['mechanism'])} does not apply: {row['why_not']}"
        for row in answers.compared(work)
        if not row["applies"]
    ]


def _candidate_cells(
    row: dict[str, Any], members: Sequence[dict[str, Any]], used: money.Currency
) -> list[str]:
    """The cells of one mechanism, see `compared`."""
    sharers = [one for one in members if not answers.shares_nothing(one)]
    sharing = [(answers.called(one["name"]), money.samples(one["contribution"])) for one in sharers]
    cent = 0.5 * used.smallest if used.code else 0.0
    payers = [one for one in members if one["payment"] < -cent]
    paying = [(answers.called(one["name"]), used.amount(-one["payment"])) for one in payers]
    most = used.amount(max((-one["payment"] for one in payers), default=0.0))
    leaving = [one["name"] for one in members if one["rather_leaves"]]
    doubt = "" if row["certified"] else ", NO certified equilibrium"
    gain, by = row.get("misreport_gain"), row.get("misreport_by")
    false = "not looked for"
    if gain is not None:
        false = f"{used.amount(gain)} ({answers.called(by)})" if gain else "nothing"
        if untold := row.get("misreports_untold"):
            false += f", {untold} not told"
    return [
        ("→ " if row["chosen"] else "") + tables.title(row["mechanism"]) + doubt,
        _brief(sharing, f"{money.samples(row['contributed'])} in all"),
        _brief(paying, f"at most {most}"),
        answers.listed(leaving) if len(leaving) <= _BRIEF else f"{len(leaving)} of {len(members)}",
        used.amount(row["surplus"]),
        used.amount(row["sum_of_utilities"]),
        f"{answers.called(row['worst_off'])} ({used.amount(row['worst_off_utility'])})",
        row["server_knows"] or "nothing",
        false,
    ]


def _brief(amounts: Sequence[tuple[str, str]], otherwise: str) -> str:
    """Names with amounts, in a cell: of a few each one, of more how many."""
    if not amounts:
        return "nobody"
    if len(amounts) <= _BRIEF:
        return ", ".join(f"{name} {amount}" for name, amount in amounts)
    return f"{len(amounts)}, {otherwise}"


def _ties(summary: dict[str, Any]) -> list[str]:
    """A sentence on who is indifferent, under Pigou's prices."""
    if not (tied := summary.get("splits")):
        return []
    return [
        f"s* is an equilibrium; {answers.listed(tied)} are indifferent how they split what they "
        "contribute together, and utilities are equal at this split only"
    ]


def _surplus(summary: dict[str, Any], used: money.Currency) -> list[str]:
    """What is missing to leave everybody what she has outside, and who could do better; [] if nothing is."""
    if "coalition" not in summary:
        return []
    text = (
        f"All together have {used.amount(-summary['surplus'])} less than outside, even at the first best: no "
        "balanced mechanism keeps everybody"
    )
    best = summary["coalition"]
    if best is None:
        return [f"{text}; coalitions are not looked for among so many."]
    how = "of all coalitions" if best["exhaustive"] else "of those looked at, as members leave one at a time,"
    if not best["members"]:
        return [f"{text}; {how} none has more than its members have outside."]
    who = answers.listed(best["members"])
    return [f"{text}; {how} that of {who} has the largest surplus, {used.amount(best['surplus'])}."]


def _fallen_apart(rows: Sequence[dict[str, Any]], used: money.Currency) -> str:
    """What everybody has outside, and had when all took part."""
    header = ["agent", "outside", "with everybody", "no payments"]
    columns = ("outside", "with_everybody", "without_payments")
    cells = [
        [row["name"], *("-" if row[name] is None else used.amount(row[name]) for name in columns)]
        for row in rows[:_SHOWN]
    ]
    more = f"\n… and {len(rows) - _SHOWN} more, in outcome.csv" if len(rows) > _SHOWN else ""
    return tables.markdown(header, cells) + more


def _payments(summary: dict[str, Any], rows: Sequence[dict[str, Any]], used: money.Currency) -> str:
    """A table of the agents with the largest payments, of those who stay, and the sum of all payments."""
    announced = summary["columns"]
    header = ["agent", "contributes", "of", answers.metric(summary), "cost", *announced.values()]
    header += ["receives", "utility", "outside", "no payments"]
    if "utility_low" in rows[0]:
        header += ["contribution in", "payment in", "utility in", "leaves in"]
    staying = [row for row in rows if row["stays"]]
    shown = _largest(staying, lambda row: abs(row["exact_payment"]))
    per_sample = summary.get("per_sample", ["price"])  # earlier versions do not say it
    text = tables.markdown(header, [_payment_cells(row, list(announced), per_sample, used) for row in shown])
    if len(staying) > len(shown):
        text += f"\n… and {len(staying) - len(shown)} agents with smaller payments, in outcome.csv"
    total = sum(decimal.Decimal(row["payment"]) for row in rows)
    return f"{text}\nNegative amounts are paid. In units of {summary['unit']:g}; their sum: {total}"


def _welfare(rows: Sequence[dict[str, Any]], used: money.Currency) -> str:
    """A table of p-means by mechanism."""
    powers = [name for name in rows[0] if name.startswith("p=")]
    body = []
    for row in rows:
        doubt = ", NO certified equilibrium" if row["certified"] is False else ""
        means = ["undefined" if row[p] is None else used.amount(row[p], 5) for p in powers]
        body.append([tables.title(row["mechanism"]) + doubt, *means])
    return tables.markdown(["welfare (1/n Σ u^p)^(1/p)", *powers], body)


def _payment_cells(
    row: dict[str, Any], announced: list[str], per_sample: Collection[str], used: money.Currency
) -> list[str]:
    """The cells of one agent; `announced` are the columns of what she is told, some currency per sample."""
    cells = [
        row["name"],
        money.samples(row["contribution"]),
        money.samples(row["capacity"]),
        f"{row['payoff']:.4f}",
        used.amount(row["cost"]),
    ]
    for name in announced:
        cells.append(used.rate(row[name]) if name in per_sample else money.number(row[name]))
    cells.append(used.exact(float(row["payment"])) if used.code else row["payment"])
    for name in ("utility", "outside", "without_payments"):
        cells.append("no equilibrium" if row[name] is None else used.amount(row[name]))
    if row.get("utility_low") is not None:
        cells += [
            _between(row, "contribution", money.samples),
            _between(row, "payment", used.amount),
            _between(row, "utility", used.amount),
            f"{row['rather_leaves_in']:.0%}",
        ]
    return cells


def _between(row: dict[str, Any], name: str, written: Callable[[float], str]) -> str:
    """The interval of a column, as a cell."""
    return f"[{written(row[f'{name}_low'])}, {written(row[f'{name}_high'])}]"


def training(work: Workdir) -> str:
    """Who holds what, and the accuracies of one training run."""
    blocks, rows = [tables.first_agents(work.read_texts("holdings.csv"))], work.read_csv("rounds.csv")
    if not work.has("members.json"):
        return "\n\n".join(block for block in [remarks(work), *blocks, rounds(rows)] if block)
    metric = answers.METRICS[work.read_json("members.json")["metric"]]
    blocks.append(rounds(rows, f"{metric} on held-out records"))
    last = list(tables.by(work.read_csv("rounds_by_member.csv", text=("member",)), "round").values())[-1]
    header = {"member": "member", "accuracy": "on what she holds out, after the last round"}
    blocks.append("the mean over members; each of them:\n" + tables.table(header, last))
    return "\n\n".join(block for block in [remarks(work), *blocks] if block)


def federation(work: Workdir) -> str:
    """Who gave what, paid and received, and whether the ledger is consistent."""
    answer, summary = answers.federation(work), work.read_json("federation.json")
    used = money.currency(summary["currency"])
    header = ["member", "agreed", "of", "rounds", "cost", "receives", "expected"]
    header.append(answers.METRICS[summary["metric"]])
    cells = [
        [
            answers.called(row["name"]),
            money.samples(row["contribution"]),
            money.samples(row["capacity"]),
            str(row["rounds"]),
            used.amount(row["cost"]),
            used.exact(row["received"]),
            money.number(row["expected"]),
            money.number(row["accuracy"]),
        ]
        for row in work.read_csv("settled.csv", text=("name",))
    ]
    sure = lines(["How sure this is", *answer.sure])
    return "\n\n".join([lines(answer.sentences), tables.markdown(header, cells), sure, *_end(answer)])


def agreement(work: Workdir) -> str:
    """Who has told what of her table, and the columns that all have."""
    answer = answers.agreement(work)
    header = ["column", "mean", "deviation", "has gaps", "texts"]
    cells = [
        [
            row["column"],
            *("" if row[name] is None else money.number(row[name]) for name in ("mean", "deviation")),
            {None: "", True: "yes", False: "no"}[row["has_gaps"]],
            row["texts"],
        ]
        for row in work.read_csv("columns.csv", text=("column", "texts"))
    ]
    assumed = lines(["What is assumed", *answer.assumed])
    blocks = [lines(answer.sentences), remarks(work), tables.markdown(header, cells), assumed]
    return "\n\n".join(block for block in blocks if block)


def rounds(rows: Sequence[dict[str, Any]], what: str = "accuracy on held-out images") -> str:
    """The last and the best accuracy of a training run, or `what` it is."""
    best, last = max(rows, key=lambda row: row["accuracy"]), rows[-1]
    return (
        f"{what}: {last['accuracy']:.4f} after {last['round']} rounds; the best, {best['accuracy']:.4f}, "
        f"after {best['round']}"
    )


def curve(work: Workdir) -> str:
    """The measured accuracies, and how well every family fits."""
    blocks = [
        remarks(work),
        lines(answers.measured_curve(work).sentences),
        band(work.read_csv("band.csv")),
        fits(work.read_json("fits.json")),
    ]
    return "\n\n".join(block for block in blocks if block)


def band(rows: Sequence[dict[str, Any]]) -> str:
    """For every size, mean, deviation and range of the accuracies over seeds, as Markdown."""
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
    """The error of every fit, a line each, and a remark if the one that is used does not rise."""
    lines = [
        f"{fit['fit']} fit: {_errors(fit['rmse'], fit['largest_residual'])}{_mark(fit['used'])}"
        for fit in fits
    ]
    if any(_is_flat(fit) for fit in fits):
        lines.append(answers.is_flat())
    return "\n".join(lines)


def game(summary: dict[str, Any]) -> str:
    """The fit of ã, or the exchange rates, and the equilibria on it, a line each."""
    if "exchange" in summary:
        lines = [_exchange(summary["exchange"]), ""]
    else:
        first = f"ã: {summary['fit']} fit, {_errors(summary['rmse'], summary['largest_residual'])}"
        between = summary["deviation_between_seeds"]
        if between is not None:
            first += f"; the standard deviation between training runs is {between:.4f}"
        lines = [first]
        if _is_flat(summary):
            lines.append(answers.is_flat())
    for protocol, found in summary["equilibria"].items():
        if found is None:
            lines.append(f"{protocol}: aims at no equilibrium")
            continue
        told = f"{found['told']}, " if found["told"] else ""
        kind = "equilibrium" if found["converged"] else "NO equilibrium found, profile"
        line = f"{protocol}: {told}{kind} with Σ s = {found['contributed']:.2f}"
        line += f", Nash gap {found['nash_gap']:.1e}"
        lines.append(line if found["unique"] else f"{line}; only the sum is unique, not who shares how much")
        if why := found.get("nobody_shares"):  # files of earlier versions do not say it
            lines.append(f"{protocol}: {answers.nobody_shares(why)}")
    return "\n".join(lines)


def by_member(rows: Sequence[dict[str, Any]]) -> str:
    """What each member contributes under each protocol, and what was predicted and trained for her."""
    header = {
        "protocol": "protocol",
        "member": "member",
        "contribution": "records",
        "predicted": "predicted",
        "held_out": "trained, held out",
        "reserve": "trained, reserve",
    }
    return tables.table(header, rows)


def trials(rows: Sequence[dict[str, Any]]) -> str:
    """One row per protocol as Markdown, means over seeds."""
    header = [
        "protocol",
        "announced",
        "Σ samples",
        "accuracy, held out",
        "mean utility",
        "mean utility, held out",
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
                _utility(mean("mean_utility")),
                _utility(mean("held_out_mean_utility")),
            ]
        )
    return tables.markdown(header, body)


def _utility(x: float) -> str:
    return f"{x:.4f}" if abs(x) < 100 else money.number(x, 5)


def certificates(rows: Sequence[dict[str, Any]]) -> str:
    """The largest Nash gap over seeds, also of the rounded contributions, and the sum of payments."""
    header = ["protocol", "Nash gap", "Nash gap, whole samples", "Σ payments"]
    body = []
    for name, mine in tables.by(rows, "protocol").items():
        body.append(
            [
                name,
                f"{max(row['nash_gap'] for row in mine):.1e}",
                f"{max(row['nash_gap_charged'] for row in mine):.1e}",
                f"{max((row['sum_of_payments'] for row in mine), key=abs):.1e}",
            ]
        )
    return tables.markdown(header, body)


IMAGES = {"own": "own test images", "held_out": "the server's held-out images"}
RECORDS = {"own": "what each member holds out", "held_out": "each member's reserve"}


def table1(
    rows: Sequence[dict[str, Any]],
    printed: Mapping[str, list[str]] = MappingProxyType({}),
    tested: Mapping[str, str] = MappingProxyType(IMAGES),
) -> str:
    """Table 1 as Markdown on both scales, and what is undefined.

    Args:
      rows: of `table1.csv`.
      printed: by protocol, a row of the paper's table to stand below ours, on the paper's scale.
      tested: IMAGES, or RECORDS of members with data of their own.
    """
    powers = list(dict.fromkeys(row["p"] for row in rows))
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    cells = {(row["utilities"], row["scale"], row["protocol"], row["p"]): p_mean(row) for row in rows}
    titles = {
        ("own", "mean"): "p-mean welfare (1/n Σ u^p)^(1/p), mean ± standard error over seeds",
        ("held_out", "mean"): "the same, utilities by the accuracy on " + tested["held_out"],
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
    """A block with a line for each reason why p-means are undefined, at which p and whose; [] if none is."""
    powers: dict[tuple[str, str], list[str]] = {}  # by protocol and reason
    for row in rows:
        if row["undefined"]:
            protocol = f"{row['protocol']} by {row['utilities'].replace('_', ' ')} images"
            at = powers.setdefault((protocol, row["undefined"]), [])
            if f"{row['p']:g}" not in at:
                at.append(f"{row['p']:g}")
    protocols: dict[tuple[str, str], list[str]] = {}  # by reason and p
    for (protocol, reason), at in powers.items():
        protocols.setdefault((reason, ", ".join(at)), []).append(protocol)
    if not protocols:
        return []
    lines = [f"{'; '.join(who)}, {reason} (p = {at})" for (reason, at), who in protocols.items()]
    return ["undefined:\n" + "\n".join(lines)]


def p_mean(row: dict[str, Any]) -> str:
    """A p-mean with its standard error."""
    if row["welfare"] is None:
        return "undefined"
    error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2g}"
    return f"{row['welfare']:.5g}{error}"


def differences(rows: Sequence[dict[str, Any]], tested: Mapping[str, str] = MappingProxyType(IMAGES)) -> str:
    """Paired differences of normalised p-means as Markdown, of both utilities; `tested` as of `table1`."""
    blocks = []
    for kind, title in tested.items():
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
    """A paired difference with its interval."""
    if row["difference"] is None:
        return "undefined"
    ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['difference']:+.4f}{ends}"


def seconds(rows: Sequence[dict[str, Any]]) -> str:
    """The seconds that each protocol trained, in one line."""
    total: dict[str, float] = {}
    for row in rows:
        total[row["protocol"]] = total.get(row["protocol"], 0.0) + row["seconds"]
    return "seconds of training: " + ", ".join(f"{name} {x:.1f}" for name, x in total.items())


def sweep(work: Workdir, table: Callable[[Workdir], str] | None = None) -> str:
    """A table of the variants that are done, and the messages of those that failed.

    Args:
      work: the directory of a sweep.
      table: makes the table from the directory; None: `headlines`.
    """
    variants, blocks = sweeps.variants_of(work), [lines(answers.of(work).sentences)]
    if work.has(sweeps.HEADLINES):
        blocks.append((table or headlines)(work))
    if bad := sweeps.failed(work):
        failures = [f"{row['variant']}: {row['message']}" for row in bad]
        blocks.append(f"{len(bad)} of {len(variants)} variants failed\n" + "\n".join(failures))
    return "\n\n".join(block for block in blocks if block)


def headlines(work: Workdir) -> str:
    """The headlines of every variant of a sweep, with the swept settings as first columns, as Markdown."""
    swept = sweeps.settings_of(work)
    rows = work.read_csv(sweeps.HEADLINES, text=tuple(swept))
    header = {column: f"--{name}" for column, name in swept.items()}
    for column in rows[0]:
        if column != "variant" and column not in swept:
            header[column] = column.replace("_", " ")
    return tables.table(header, rows)


def comparisons(work: Workdir) -> str:
    """One row per variant and protocol of a sweep of comparisons, as Markdown: means over seeds."""
    swept = sweeps.settings_of(work)
    rows = work.read_csv(sweeps.HEADLINES, text=("variant", *swept))
    powers = sorted({row["p"] for row in rows})
    header = [f"--{name}" for name in swept.values()]
    header += ["protocol", "mean utility", "Σ samples", *(f"p = {p:g}" for p in powers)]
    body = []
    for mine in tables.by(rows, "variant", "protocol").values():
        first, means = mine[0], {row["p"]: p_mean(row) for row in mine}
        cells = [*(first[column] for column in swept), first["protocol"]]
        cells += [f"{first['mean_utility']:.4f}", f"{first['charged']:.1f}"]
        cells += [means.get(p, "") for p in powers]  # variants may differ in their p
        body.append(cells)
    title = "variants of the sweep; p-mean welfare (1/n Σ u^p)^(1/p), mean ± standard error over seeds"
    return f"{title}\n\n" + tables.markdown(header, body)
