"""The answer of a run in sentences: what was found, how sure that is, what is assumed, what words mean.

From the files of the run alone. Tables and figures come after it, see `text` and `page`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from fedgame import registry
from fedgame.report import money, scales, tables
from fedgame.runs import sweep as sweeps
from fedgame.runs.workdir import Workdir

FILE = "answer.json"  # of what nobody else can say from files: studies
_PAYMENTS = "Payments: "  # begins the sentence that describes a mechanism
_BRIEF = 2  # sentences of a variant of a sweep
_NAMED = 6  # members of whom a sentence tells each one
_EACH = 12  # members of whom it is told what each one gets
_LISTED = 10  # names in a sentence
_MOST = 3  # of more members those are told who share, pay or receive the most


class Answer(NamedTuple):
    """What a run answers."""

    program: str  # such as launch.mechanism
    title: str  # the question
    sentences: list[str]  # the answer
    each: list[str]  # what it means for each member; none if they are many
    sure: list[str]  # how sure it is
    assumed: list[str]  # what it takes for granted
    words: dict[str, str]  # terms that it uses, and what they mean


METRICS = {"accuracy": "accuracy", "auc": "area under the ROC curve", "log_loss": "1 - log loss"}
WORDS = {
    "equilibrium": "what everybody shares once nobody gains by sharing more or less, as long as the others "
    "stay with what they share",
    "utility": "what the accuracy of her model is worth to a member, less what her data cost her, plus what "
    "she receives",
    "Nash gap": "the most that a member could gain by changing what she shares, alone; 0 at an equilibrium",
    "outside": "what a member has if she leaves",
    "β": "the share of her costs that everybody gets back; the others pay it in equal parts",
    "β_i": "the share of her costs that a member gets back, if it is not the same for all",
    "more than leaving": "what all together have more than if they left, less what the server pays",
    "accepts": "nobody would rather leave; some may have more without payments",
    "receives": "what a member is paid; a negative amount is what she pays",
    "p-mean": "an average of utilities: p = 1 is the ordinary one, and the smaller p is, the more those "
    "count who have the least",
    "first best": "the contributions with the largest sum of utilities, whoever makes them",
    "exchange rate": "how many of her own records one record of another member is worth to a member",
    "Σ": "the sum over all members",
}


def of(work: Workdir) -> Answer:
    """The answer of the run, or the sweep, in a directory."""
    program = about(work)["program"]
    answer = _ANSWERS.get(program)
    if answer is None or work.has(sweeps.VARIANTS):
        sentences = _of_variants(work, program) if work.has(sweeps.VARIANTS) else []
        return Answer(program, _TITLES.get(program, program), sentences, [], [], [], {})
    return answer(work)


def _of_variants(work: Workdir, program: str) -> list[str]:
    """What the first variants of a sweep answer, in a sentence or two each."""
    done = [row["variant"] for row in sweeps.variants_of(work) if row["status"] == "done"]
    sentences = []
    for name in done[:_LISTED]:
        theirs = of(Workdir(work.path / sweeps.folder_of(name))).sentences
        short = [sentence for sentence in theirs if not sentence.startswith(_PAYMENTS)]
        # The last one says who leaves, if anybody could.
        short = short[:_BRIEF] + (short[-1:] if program == "launch.mechanism" and len(short) > _BRIEF else [])
        if short:
            sentences.append(f"{name}: {' '.join(short)}")
    if sentences and len(done) > _LISTED:
        sentences.append(f"… and {len(done) - _LISTED} more variants, each with a page of its own.")
    return sentences


def about(work: Workdir) -> dict[str, Any]:
    """What `config.json` says; of a directory that no command has opened, that there are no settings."""
    if work.has("config.json"):
        found = work.read_json("config.json")
        return {"settings": found.get("config", {})} | found  # as version 0.1 called them
    return {"program": "fedgame", "settings": {}}


_TITLES = {
    "launch.agree": "What members agree on before they train",
    "launch.equilibrium": "Who shares what, if nobody pays anybody",
    "launch.mechanism": "Which payments make it better",
    "launch.measure": "What members' records are worth to each other",
    "launch.compare": "Under which protocol members have the most",
    "launch.curve": "How accuracy rises with the number of samples",
    "launch.federation": "Who gave what, and who paid whom",
    "launch.train": "How accurate the trained model is",
}


def equilibrium(work: Workdir) -> Answer:
    """Who shares what without payments, and who would rather leave."""
    summary, rows = work.read_json("equilibrium.json"), work.read_csv("outcome.csv", text=("name",))
    used, data = _written(summary)
    sentences = flat(summary)
    if not summary["converged"]:
        sentences.append(f"No equilibrium was found, so who shares what cannot be told; {_NO_EQUILIBRIUM}.")
    else:
        sentences += _what_is_shared(summary, rows)
        short = {
            row["name"]: row.get("outside", 0.0) - row["utility"] for row in rows if row["rather_leaves"]
        }
        sentences.append(_who_leaves(summary, short, "would rather leave", used))
    sure = [*certificate(summary, used), *_resampled(summary, data)]
    sure += extrapolation(summary, data)
    words = _words("equilibrium", "utility", "Nash gap", "outside", *_rates_words(summary))
    each = [_gets(row, summary, used) for row in rows] if len(rows) <= _EACH else []
    title = _TITLES["launch.equilibrium"]
    return Answer("launch.equilibrium", title, sentences, each, sure, _assumed(summary), words)


def _resampled(summary: dict[str, Any], data: str) -> list[str]:
    """The interval of what all share, from resampled games, or how to have them."""
    if "bootstrap" not in summary:
        if summary.get("largest_measured") is None:
            return []
        return ["How much of this is chance of the measurements was not looked at: --bootstrap=100 does."]
    found = summary["bootstrap"]
    games = f"{found['certified']} of {found['resamples']} resampled games have a certified equilibrium"
    if not found["certified"]:
        return [f"How sure the numbers are cannot be told: {games}."]
    # Earlier versions have the interval of S, which is the same unless data are held or differ in quality.
    low, high = (
        money.samples(found.get(f"shared_{end}", found.get(f"total_{end}"))) for end in ("low", "high")
    )
    return [
        f"Together they share {low} to {high} {data}, with {found['confidence']:.0%} confidence ({games}); "
        "intervals of what each of them shares, pays and has are of the same confidence."
    ]


def mechanism(work: Workdir) -> Answer:
    """What is recommended, who then shares and pays what, and who would leave."""
    summary = work.read_json("mechanism.json")
    rows = work.read_csv("outcome.csv", text=("name", "payment"))
    used, data = _written(summary)
    staying = [row for row in rows if row["stays"]]
    sentences = flat(summary)
    fallen_apart, compared_first = "status" not in summary, summary.get("compared") is not None
    if not compared_first:
        sentences.append(f"{_PAYMENTS}{described(summary['mechanism'])}")
    elif fallen_apart:
        sentences.append(_none_holds(summary))
    else:
        sentences.append(recommendation(summary, used))
    if fallen_apart and not compared_first:
        sentences.append("The federation falls apart: fewer than two members are left.")
    elif not fallen_apart and not summary["certified"]:
        told = "No equilibrium was found under these payments, so who would leave cannot be told"
        sentences.append(f"{told}; {_NO_EQUILIBRIUM}.")
    elif not fallen_apart:
        sentences += _what_is_shared(summary, staying)
        if not summary.get("nobody_shares") or any(float(row["payment"]) for row in staying):
            sentences += [*who_pays(staying, used), *_may_pay_or_receive(staying, used)]
        sentences += _too_small(staying, summary, used)
    sentences += _without_payments(rows, data)
    if summary["certified"] and not fallen_apart:
        sentences += _worse_off(staying, used)
    sentences += _who_left(summary, used)
    sure = [] if fallen_apart else certificate(summary, used)
    sure += _resampled(summary, data)
    sure += extrapolation(summary, data)
    told = ["more than leaving", "accepts"] if compared_first else []
    words = _words("equilibrium", "utility", "receives", *told, "β", "outside", "Nash gap", "p-mean", "Σ")
    words |= _words(
        *(["β_i"] if "β_i" in summary.get("columns", {}).values() else []), *_rates_words(summary)
    )
    each = [_gets(row, summary, used) for row in staying] if len(rows) <= _EACH else []
    each += _if_one_leaves(work, used, data)
    assumed = [*_rule_not_sum(rows), *_server_knows(summary), *_misreports(work, used), *_assumed(summary)]
    return Answer("launch.mechanism", _TITLES["launch.mechanism"], sentences, each, sure, assumed, words)


def _rule_not_sum(rows: Sequence[dict[str, Any]]) -> list[str]:
    """That payments are no fixed sums, if anybody is paid."""
    if not any(float(row["payment"]) for row in rows):
        return []
    return [
        "Payments follow a rule and are no fixed sums: these amounts are for what is shared here, and change "
        "if anybody shares more or less."
    ]


def _none_holds(summary: dict[str, Any]) -> str:
    """That under no mechanism that applies at least two members stay, as far as was looked."""
    return (
        f"Nothing is recommended: even under {tables.title(summary['mechanism'])}, of the "
        f"{summary['compared']['apply']} mechanisms that apply here that under which the fewest would rather "
        "leave, so many do, one after the other, that fewer than two are left."
    )


def measurement(work: Workdir) -> Answer:
    """What one record of each member is worth to each other one."""
    found = work.read_json("measure.json")
    rows, metric = work.read_csv("worth.csv", text=("member",)), found["metric"]
    sentences = [*worth(found["exchange"]), *_no_better(rows, metric)]
    words = _words("exchange rate")
    return Answer("launch.measure", _TITLES["launch.measure"], sentences, [], [], [], words)


def _no_better(rows: Sequence[dict[str, Any]], metric: str) -> list[str]:
    """Sentences on members for whom no model is better than none."""
    by, advice = "", ""
    if metric == "accuracy":
        by = ", by always predicting her most frequent class"
        advice = "; --metric=auc says how well records are told apart"
    return [
        f"To {row['member']} no model is worth more than none ({money.number(row['nobody'])}{by}){advice}."
        for row in rows
        if row["nobody"] is not None and row["nobody"] >= max(row["alone"] or 0.0, row["all"] or 0.0)
    ]


def comparison(work: Workdir) -> Answer:
    """Under which protocol members have the most, how much they then share, and how good the model is."""
    by_protocol = tables.by(work.read_csv("runs.csv"), "protocol")
    means = {name: tables.means(rows) for name, rows in by_protocol.items()}
    score = METRICS[about(work)["settings"].get("metric", "accuracy")]
    ranked = sorted(means, key=lambda name: -means[name]("mean_utility"))
    utility = {name: mean("mean_utility") for name, mean in means.items()}
    close = 1e-9 * max(map(abs, utility.values()))
    best = [name for name in ranked if utility[name] >= utility[ranked[0]] - close]
    most, less = (
        [_of_protocol(name, means[name], score) for name in some] for some in (best, ranked[len(best) :])
    )
    told = [f"Members have the most under {_and(most)}" + (f"; less under {_and(less)}." if less else ".")]
    told += _not_told_apart(work, ranked)
    equilibria = work.read_json("game.json")["equilibria"]
    for name, found in equilibria.items():
        if found and found.get("nobody_shares"):
            told.append(f"Under {name} {nobody_shares(found['nobody_shares'])}.")
    sure = []
    if len(next(iter(by_protocol.values()))) == 1:
        sure.append("One seed: how much of the differences is chance is not known (--seeds).")
    if any(found and not found["converged"] for found in equilibria.values()):
        sure.append("For some protocols NO certified equilibrium was found.")
    words = _words("utility", "equilibrium", "Nash gap", "β", "p-mean", "Σ")
    return Answer("launch.compare", _TITLES["launch.compare"], told, [], sure, [], words)


def _not_told_apart(work: Workdir, ranked: Sequence[str]) -> list[str]:
    """Protocols that may be as good as the first, as far as paired differences over seeds tell."""
    rows = scales.lengthened(work.read_csv("differences.csv")) if work.has("differences.csv") else []
    equal = []
    for row in rows:
        mine = row["p"] == 1 and row["scale"] == "mean" and row["utilities"] == "own"
        pair = {row["protocol"], row["minus"]}
        if mine and ranked[0] in pair and row["low"] is not None and row["low"] <= 0 <= row["high"]:
            equal += [name for name in ranked[1:] if name in pair]
    if not equal:
        return []
    return [
        f"These seeds do not tell {ranked[0]} from {_and(equal)}: the 95% interval of the difference holds 0."
    ]


def _of_protocol(name: str, mean: Callable[[str], float], score: str) -> str:
    """A protocol, with means over seeds of what comes of it; `score` is what accuracies are."""
    return (
        f"{name} (utility {money.number(mean('mean_utility'))} on average, {money.samples(mean('charged'))} "
        f"samples, {score} {mean('held_out_accuracy'):.3f})"
    )


def measured_curve(work: Workdir) -> Answer:
    """How accurate models of different numbers of samples are."""
    band = work.read_csv("band.csv")
    first, last = band[0], band[-1]
    sentences = [
        f"Accuracy rises from {first['accuracy']:.3f} with {money.samples(first['samples'])} samples to "
        f"{last['accuracy']:.3f} with {money.samples(last['samples'])}."
    ]
    if last["accuracy"] <= first["accuracy"]:
        sentences = [
            f"Accuracy does not rise: it is {first['accuracy']:.3f} with {money.samples(first['samples'])} "
            f"samples and {last['accuracy']:.3f} with {money.samples(last['samples'])}."
        ]
    return Answer("launch.curve", _TITLES["launch.curve"], sentences, [], [], [], {})


def training(work: Workdir) -> Answer:
    """How accurate the trained model is."""
    rounds = work.read_csv("rounds.csv")
    best, last = max(rounds, key=lambda row: row["accuracy"]), rounds[-1]
    sentences = [
        f"After {last['round']} rounds the accuracy on held-out data is {last['accuracy']:.3f}; the best, "
        f"{best['accuracy']:.3f}, was reached after {best['round']}."
    ]
    return Answer("launch.train", _TITLES["launch.train"], sentences, [], [], [], {})


def federation(work: Workdir) -> Answer:
    """What members of a federation gave, paid and received, and whether its ledger is consistent."""
    summary, rows = work.read_json("federation.json"), work.read_csv("settled.csv", text=("name",))
    used = money.currency(summary["currency"])
    paid = [row | {"payment": row["received"]} for row in rows]
    sentences = [
        f"All {summary['rounds']} rounds are settled."
        if summary["settled"] == summary["rounds"]
        else f"{summary['settled']} of {summary['rounds']} rounds are settled.",
        *who_shares(rows, "samples in a round"),
        *who_pays(paid, used),
        *(
            f"{called(name)} was left out of {_rounds(numbers)}, and neither paid nor received for that."
            for name, numbers in summary["left_out"].items()
        ),
    ]
    known = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    if known:
        mean = sum(known) / len(known)
        sentences.append(
            f"By their own held-out records the final model has {mean:.3f} ({METRICS[summary['metric']]}), "
            f"from {min(known):.3f} to {max(known):.3f}."
        )
    sure = summary["complaints"] or [
        f"The ledger has {summary['entries']} entries, each with a digest of the one before, and every "
        f"payment follows from them. It ends in {summary['head']}: who keeps that can tell later whether it "
        "was changed."
    ]
    assumed = [
        "Costs, values and limits are what members have declared; whether they are true nobody checks.",
        "That a member has trained on as many samples as she says cannot be seen from her update.",
    ]
    title = _TITLES["launch.federation"]
    return Answer("launch.federation", title, sentences, [], sure, assumed, _words("receives"))


def _rounds(numbers: Sequence[int]) -> str:
    """Numbers of rounds in a sentence, those that follow each other as a range."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    texts = ["-".join(map(str, part)) for part in parts]
    return f"{'round' if len(numbers) == 1 else 'rounds'} {_and(texts)}"


def agreement(work: Workdir) -> Answer:
    """Who has told what of her table, and what follows for all."""
    about, columns = work.read_json("agreed.json"), work.read_csv("columns.csv", text=("column", "texts"))
    records = about["records"]
    of_texts = sum(row["mean"] is None for row in columns)
    sentences = [
        f"{listed([*records])} have told what their columns are like, of {sum(records.values()):,} records.",
        f"`{about['target']}` ({_and(about['classes'])}) will be told by {len(columns)} columns, {of_texts} "
        "of them of texts. Members and the server name the folder of this by --like.",
    ]
    assumed = [
        "What members tell is true; nobody has seen their records.",
        "What members tell is not anonymous: means of few cells and rare texts are left out, but all classes "
        "are told, and with two members each learns the other's means from those of both.",
    ]
    return Answer("launch.agree", _TITLES["launch.agree"], sentences, [], [], assumed, {})


def study(work: Workdir) -> Answer:
    """What a study shows, as it said itself; earlier versions, and some studies, say nothing."""
    sentences = work.read_json(FILE)["sentences"] if work.has(FILE) else []
    told = " ".join(sentences)
    words = {word: meaning for word, meaning in WORDS.items() if word in told}
    return Answer("launch.study", "", sentences, [], [], [], words)


_ANSWERS: dict[str, Callable[[Workdir], Answer]] = {
    "launch.agree": agreement,
    "launch.compare": comparison,
    "launch.curve": measured_curve,
    "launch.equilibrium": equilibrium,
    "launch.federation": federation,
    "launch.measure": measurement,
    "launch.mechanism": mechanism,
    "launch.study": study,
    "launch.train": training,
}


_ALONE = "by sharing more or less, alone"
_HOW = re.compile(r" \(([^()]+, \d+ steps, largest Nash gap [^()]+)\)")  # in the status of an equilibrium
_NO_EQUILIBRIUM = "what is shown is NO certified equilibrium"


def _what_is_shared(summary: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences on who shares what at an equilibrium, or why nobody does."""
    used, data = _written(summary)
    if why := summary.get("nobody_shares"):
        return [_sentence(nobody_shares(why, used, data))]
    return who_shares(rows, data, trainable(summary))


def trainable(summary: dict[str, Any]) -> set[str]:
    """The members whose capacity is what can be trained on, less than they own; earlier versions say none."""
    return {one["name"] for one in summary.get("trainable", [])}


def _written(summary: dict[str, Any]) -> tuple[money.Currency, str]:
    """The currency of a summary, and what data are counted in; earlier versions do not say either."""
    return money.currency(summary.get("currency", "")), summary.get("data", "samples")


def who_shares(
    rows: Sequence[dict[str, Any]], data: str, trainable: Collection[str] = frozenset()
) -> list[str]:
    """Sentences on what members share.

    Args:
      rows: of the members.
      data: what is counted, samples or records.
      trainable: the members whose capacity is not all they own, but all that can be trained on.
    """
    sharing = [row for row in rows if not shares_nothing(row)]
    idle = [called(row["name"]) for row in rows if shares_nothing(row)]
    if not sharing:
        return ["Nobody shares anything."]
    total = money.samples(sum(row["contribution"] for row in sharing))
    if len(rows) > _NAMED:
        most = sorted(sharing, key=lambda row: -row["contribution"])[:_MOST]
        parts = [f"{called(row['name'])} ({_of_capacity(row, trainable)})" for row in most]
        if len(sharing) == 1:
            one = _shared(sharing[0], trainable, f" {data}")
            return [f"Only {one}; the other {len(idle)} members share nothing."]
        who = "All" if not idle else f"{len(sharing)} of"
        text = f"{who} {len(rows)} members share {total} {data} together, most of all {_and(parts)}."
        return [text] if not idle else [text, f"Nothing is shared by {listed(idle)}."]
    parts = [_shared(row, trainable, f" {data}" if row is sharing[0] else "") for row in sharing]
    text = f"{_and(parts)}, {total} {data} together" if len(sharing) > 1 else f"Only {parts[0]}"
    if idle:
        text += f"; {_and(idle)} {'shares' if len(idle) == 1 else 'share'} nothing"
    return [f"{text}."]


def shares_nothing(row: dict[str, Any]) -> bool:
    """Whether a member shares nothing, up to rounding: as `break_even.nothing`."""
    return row["contribution"] <= min(1e-9 * row["capacity"], 1.0)


def _shared(row: dict[str, Any], trainable: Collection[str], data: str) -> str:
    """What one member shares, and of how much, `data` being the word for it, with a space in front, or ""."""
    amount = _of_capacity(row, trainable, data)
    return f"{called(row['name'])} shares {amount}" if data else f"{called(row['name'])} {amount}"


def _of_capacity(row: dict[str, Any], trainable: Collection[str], data: str = "") -> str:
    """What one member shares, and of how much; see `who_shares` and `_shared`."""
    s, capacity = money.samples(row["contribution"]), money.samples(row["capacity"])
    if row["contribution"] < row["capacity"] * (1 - 1e-9):
        return f"{s} of {capacity}{data}"
    return f"all {s}{data} that can be trained on" if row["name"] in trainable else f"all her {s}{data}"


def who_pays(rows: Sequence[dict[str, Any]], used: money.Currency) -> list[str]:
    """Sentences on who pays and who receives what, of those who stay."""
    largest_first = sorted(rows, key=lambda row: -abs(float(row["payment"])))
    paying = [row for row in largest_first if float(row["payment"]) < 0]
    receiving = [row for row in largest_first if float(row["payment"]) > 0]
    if not paying and not receiving:
        return ["Nobody pays anything."]
    parts = []
    for some, one, several in ((receiving, "receives", "receive"), (paying, "pays", "pay")):
        if some:
            parts.append(_amounts(some, one, several, used))
    return ["; ".join(parts) + "."]


def _may_pay_or_receive(rows: Sequence[dict[str, Any]], used: money.Currency) -> list[str]:
    """Of whose payment the interval has both signs, as far as money goes."""
    cent = 0.5 * used.smallest if used.code else 0.0
    known = [row for row in rows if row.get("payment_low") is not None]
    both = [row for row in known if row["payment_low"] < -cent and row["payment_high"] > cent]
    if not both:
        return []
    if len(both) > _MOST:
        return [f"Whether she receives or pays is not certain for {len(both)} of {len(rows)} members."]
    parts = []
    for row in both:
        paying, receiving = used.amount(-row["payment_low"]), used.amount(row["payment_high"])
        told = f"is not certain: from paying {paying} to receiving {receiving}"
        parts.append(f"{called(row['name'])} receives or pays {told}")
    return [f"Whether {'; whether '.join(parts)}."]


def _amounts(rows: Sequence[dict[str, Any]], one: str, several: str, used: money.Currency) -> str:
    """What those members pay, or receive, the largest amounts first."""
    names, amounts = [called(row["name"]) for row in rows], [abs(float(row["payment"])) for row in rows]
    texts = [used.amount(amount) for amount in amounts]
    if len(names) <= _NAMED:
        rest = [f"{name} {text}" for name, text in zip(names[1:], texts[1:], strict=True)]
        return _and([f"{names[0]} {one} {texts[0]}", *rest])
    total = used.amount(sum(amounts))
    most = [f"{name} ({text})" for name, text in zip(names[:_MOST], texts[:_MOST], strict=True)]
    return f"{len(names)} members {several} {total} together, most of all {_and(most)}"


def _too_small(rows: Sequence[dict[str, Any]], summary: dict[str, Any], used: money.Currency) -> list[str]:
    """A remark if payments are so small that all are rounded to 0."""
    most = max(abs(row["exact_payment"]) for row in rows)
    rounding = 1e-9 * max(abs(row["utility"]) + row["cost"] for row in rows)
    if most <= rounding or any(float(row["payment"]) for row in rows):
        return []
    return [
        f"Payments of at most {used.rate(most)} are rounded to 0: less than half of the smallest that can be "
        f"paid, {used.rate(summary['unit'])} (--unit)."
    ]


def _worse_off(rows: Sequence[dict[str, Any]], used: money.Currency) -> list[str]:
    """Who of those who stay had more without payments, and how much."""
    short = {}
    for i, row in enumerate(rows):
        before = row["without_payments"]
        if before is not None and before - row["utility"] > 1e-6 * max(abs(row["utility"]), abs(before)):
            short[i] = before - row["utility"]
    if not short:
        return []
    most = sorted(short, key=lambda i: -short[i])[:_MOST]
    parts = [f"{called(rows[i]['name'])} ({used.amount(short[i])} less)" for i in most]
    who = _and(parts) if len(short) <= _MOST else f"{len(short)} members, most of all {_and(parts)}"
    return [f"Payments leave less than there was without to {who}."]


def _without_payments(rows: Sequence[dict[str, Any]], data: str) -> list[str]:
    """What would be shared without payments, if that is known and anybody is paid."""
    known = all(row.get("contribution_without_payments") is not None for row in rows)
    if not known or not any(float(row["payment"]) for row in rows):
        return []
    before = [row | {"contribution": row["contribution_without_payments"]} for row in rows]
    sharing = [called(row["name"]) for row in before if not shares_nothing(row)]
    if not sharing:
        return ["Without payments nobody would share anything."]
    total = money.samples(sum(row["contribution"] for row in before))
    who = f"nobody but {sharing[0]} would share anything: " if len(sharing) == 1 else "they would share "
    return [f"Without payments {who}{total} {data}{'' if len(sharing) == 1 else ' together'}."]


def _who_left(summary: dict[str, Any], used: money.Currency) -> list[str]:
    """Who left, or would if she may not (--noleave)."""
    if not summary["certified"]:
        return []
    left = {one["name"]: one["worse_off_by"] for one in summary["left"]}
    would = {one["name"]: one["worse_off_by"] for one in summary.get("rather_leave", [])}
    if would:
        return [
            _who_leaves(summary, would, "would rather leave", used)
            + " All are taken to stay in spite of that (--noleave)."
        ]
    return [_who_leaves(summary, left, "leaves" if len(left) == 1 else "leave", used)]


ALTERNATIVES = {  # by what members have outside
    "alone": "training alone",
    "own_records": "a model of all her own records",
    "nothing": "having no model",
    "given": "what she has outside",
}


def _who_leaves(summary: dict[str, Any], short: dict[str, float], leave: str, used: money.Currency) -> str:
    """Who leaves, or would, and how much better off she is then."""
    alternative = ALTERNATIVES[summary["outside"]] if "outside" in summary else "having no model"
    if not short:
        return f"Nobody would rather leave: for nobody is {alternative} better."
    if len(short) == 1:
        ((name, more),) = short.items()
        return f"{called(name)} {leave}: {alternative} is better for her by {used.amount(more)}."
    most = sorted(short, key=lambda name: -short[name])[:_NAMED]
    parts = [f"{called(name)} ({used.amount(short[name])})" for name in most]
    who = f"{len(short)} members {leave}"
    which = "for" if len(short) <= _NAMED else "most of all for"
    return f"{who}: {alternative} is better, {which} {_and(parts)}."


def _gets(row: dict[str, Any], summary: dict[str, Any], used: money.Currency) -> str:
    """What one member has, and why: what her model is worth, what she spends, pays or receives."""
    payment = float(row.get("payment", 0.0))
    worth = row["utility"] + row["cost"] - row.get("exact_payment", 0.0)
    parts = [f"her model ({metric(summary)} {row['payoff']:.3f}) is worth {used.amount(worth)} to her"]
    if row["cost"]:
        parts.append(f"her data cost her {used.amount(row['cost'])}")
    if payment:
        pays = f"she {'receives' if payment > 0 else 'pays'} {used.amount(abs(payment))}"
        parts.append(pays + _payment_interval(row, used))
    text = f"{called(row['name'])}: {_and(parts)}, which leaves her {used.amount(row['utility'])}"
    if row.get("utility_low") is not None:
        text += f" ({used.amount(row['utility_low'])} to {used.amount(row['utility_high'])})"
    if row.get("outside") is None:  # earlier versions do not say it
        return f"{text}."
    gained = row["utility"] - row["outside"]
    by = "" if summary["outside"] == "given" else "by "
    alternative = by + ALTERNATIVES[summary["outside"]]
    if abs(gained) <= 1e-9 * max(abs(row["utility"]), abs(row["outside"])):
        return f"{text}, as much as {alternative}."
    sure = ""
    if row.get("gain_low") is not None:
        ends = (row["gain_low"], row["gain_high"]) if gained >= 0 else (-row["gain_high"], -row["gain_low"])
        sure = f" ({used.amount(ends[0])} to {used.amount(ends[1])})"
    return f"{text}, {used.amount(abs(gained))}{sure} {'more' if gained >= 0 else 'less'} than {alternative}."


def metric(summary: dict[str, Any]) -> str:
    """What the accuracies of a game are: accuracies, unless its members' models were measured by others."""
    return METRICS[(summary.get("exchange") or {}).get("metric", "accuracy")]


def _payment_interval(row: dict[str, Any], used: money.Currency) -> str:
    """What a member receives, or pays, in resampled games; "" if there are none."""
    if row.get("payment_low") is None:
        return ""
    low, high, payment = row["payment_low"], row["payment_high"], float(row["payment"])
    if min(low * payment, high * payment) >= 0:
        least, most = sorted((abs(low), abs(high)))
        return f" ({used.amount(least)} to {used.amount(most)})"
    most = [f"pay up to {used.amount(-low)}"] if low < 0 else []
    most += [f"receive up to {used.amount(high)}"] if high > 0 else []
    return f" (she may {' or '.join(most)})"


def _if_one_leaves(work: Workdir, used: money.Currency, data: str) -> list[str]:
    """What becomes of the others if one more member leaves, the most painful first."""
    rows = work.read_csv("without_each.csv", text=("name",)) if work.has("without_each.csv") else []
    known = sorted((row for row in rows if row["certified"]), key=lambda row: -row["others_lose"])
    sentences, same = [], []
    for row in known:
        lost = row["others_lose"]
        if not lost:
            same.append(called(row["name"]))
            continue
        change = f"lose {used.amount(lost)}" if lost >= 0 else f"gain {used.amount(-lost)}"
        sentences.append(
            f"If {called(row['name'])} left, the others would {change} together, and share "
            f"{money.samples(row['contributed'])} {data}."
        )
    if same:
        sentences.append(f"Nothing would change for the others if one of these left: {', '.join(same)}.")
    return sentences


_REVEALED = {  # by what a rule must know
    "payoffs": "what accuracy is worth to them",
    "costs": "what their data cost them",
}


def _server_knows(summary: dict[str, Any]) -> list[str]:
    """What members must reveal."""
    rule = _rule(summary["mechanism"])
    if rule is None:
        return []
    if not rule.must_know:
        return ["Members need not reveal anything but what they share."]
    theirs = " and ".join(_REVEALED[one] for one in rule.must_know)
    told = [f"Members must tell the server {theirs}, beside what they share."]
    if "payoffs" in rule.must_know:
        told.append(
            "What accuracy is worth to them is taken as they say; what a false claim of that gains is not "
            "looked for."
        )
    return told


def recommendation(summary: dict[str, Any], used: money.Currency) -> str:
    """Which mechanism is recommended, and why."""
    found = summary["compared"]
    more = found["surplus"]
    brings = f"all together have {used.amount(abs(more))} {'more' if more >= 0 else 'LESS'} than if they left"
    if found["rather_leave"]:
        accepted = (
            f"None of the {found['apply']} that apply here is accepted by everybody; of those under which "
            f"the fewest would rather leave ({found['rather_leave']}) it is the simplest"
        )
    else:
        accepted = f"Of the {found['apply']} that apply here it is the simplest that everybody accepts and"
    text = (
        f"Recommended: {described(summary['mechanism'])} {accepted} that brings within {found['nearly']:.0%} "
        f"of the most that such a mechanism brings: with everybody there, {brings}."
    )
    simpler = [_lacks(one, found, used) for one in found["simpler"]]
    return f"{text} Simpler ones: {'; '.join(simpler)}." if simpler else text


def _lacks(one: dict[str, Any], found: dict[str, Any], used: money.Currency) -> str:
    """What a simpler mechanism lacks."""
    name = tables.title(one["mechanism"])
    if one["rather_leave"] > found["rather_leave"]:
        who = "1 member" if one["rather_leave"] == 1 else f"{one['rather_leave']} members"
        return f"under {name} {who} would rather leave"
    return f"{name} brings {used.amount(found['surplus'] - one['surplus'])} less"


def _rule(mechanism: str) -> Any:
    """The rule of this text; None if it comes from a file that is not imported here (--use)."""
    try:
        return registry.read("rule", mechanism)
    except (ValueError, FileNotFoundError):
        return None


def described(mechanism: str) -> str:
    """A mechanism by its title, and what it does: the first sentence of its documentation."""
    rule = _rule(mechanism)
    first, _, _ = registry.documentation(rule).partition("\n") if rule is not None else ("", "", "")
    title = tables.title(mechanism)
    return f"{title}, {first[0].lower()}{first[1:]}" if first else f"{title}."


def flat(summary: dict[str, Any]) -> list[str]:
    """A warning if a curve that is used does not rise; earlier versions do not say."""
    whose = summary.get("flat", [])
    return [is_flat("" if whose == [""] else f" of {listed(whose)}") + "."] if whose else []


def is_flat(whose: str = "") -> str:
    """The remark on measurements that say nothing, `whose` they are."""
    return (
        f"FLAT: the measured accuracies{whose} do not rise with the samples by more than they scatter, so "
        "nothing can be said about who shares"
    )


def certificate(summary: dict[str, Any], used: money.Currency) -> list[str]:
    """What was checked of the equilibrium, in plain words; `solved` says how it was found."""
    lines = [_sentence(_HOW.sub("", summary["status"]))]
    if summary["converged"]:
        gap = summary["nash_gap"]
        if used.code and gap < used.smallest:
            lines.append(f"Checked: nobody gains {used.exact(used.smallest)} or more {_ALONE}.")
        else:
            lines.append(f"Checked: nobody gains more than {used.amount(gap)} {_ALONE}.")
    return lines


def solved(summary: dict[str, Any]) -> list[str]:
    """How the equilibrium was found, and the largest Nash gap."""
    how = _HOW.search(summary["status"])
    return [] if how is None else [f"Solved by: {how[1]}"]


def extrapolation(summary: dict[str, Any], data: str) -> list[str]:
    """A warning if the answer is about more data than were measured."""
    lines = []
    measured = summary.get("largest_measured")
    if names := summary.get("extrapolated"):
        told = f"effective {data} of {listed(names)} are more than were measured"
        lines.append(f"BEYOND THE MEASUREMENTS: {told}.")
    elif measured and summary["of_total"] and summary["total"] > measured:
        told = f"which end at {measured:g} {data}: an extrapolation of the fit"
        lines.append(f"BEYOND THE MEASUREMENTS, {told}.")
    if more := summary.get("unmeasured"):
        those = [
            f"{called(one['name'])} ({money.samples(one['capacity'])}, measured up to "
            f"{money.samples(one['measured'])})"
            for one in more[:_MOST]
        ]
        who = _and(those) if len(more) <= _MOST else f"{', '.join(those)} and {len(more) - _MOST} more"
        lines.append(
            f"Capacities beyond what was measured: {who}; what {data} beyond that bring is an extrapolation."
        )
    return lines


def _assumed(summary: dict[str, Any]) -> list[str]:
    """What the answer takes for granted."""
    used, data = _written(summary)
    lines = [_sentence(summary["samples"])] if summary.get("samples") else []
    if counted := summary.get("trainable"):
        those = [
            f"{one['capacity']:,.0f} of the {one['owned']:,} of {called(one['name'])}"
            for one in counted[:_NAMED]
        ]
        those += ["…"] if len(counted) > _NAMED else []
        lines.append(
            f"Only {data} that can be trained on count, {', '.join(those)}: the others are reserved, or held "
            "out to measure on."
        )
    lines += _if_she_leaves(summary, data)
    if used.code and summary.get("values") == [1.0, 1.0]:
        lines.append(f"Accuracy 1 is taken to be worth {used.amount(1.0)} to everybody (column `value`).")
    lines.append("Everything counts once: what is shared, what it costs, what it is worth, what is paid.")
    lines.append("Everybody decides alone; that groups could act together is not considered.")
    return lines


def _if_she_leaves(summary: dict[str, Any], data: str) -> list[str]:
    """What members are taken to have without the others."""
    outside, own = summary.get("outside"), summary.get("own")
    one = data.removesuffix("s")
    if outside == "alone" and own != "always":
        always = ", or --own=always if she always can" if own else ""
        return [
            f"Who leaves is taken to train alone on as many {data} as pay for her, each at what sharing a "
            f"{one} costs her.",
            f"If she can use her own at no cost, say so by --outside=own_records{always}: she may then "
            "rather leave.",
        ]
    if outside == "own_records" and own == "contributed":
        return [
            "Who leaves is taken to train on all records that she owns, at no cost, who takes part only on "
            "what she shares: --own=always lets her use her own in both cases."
        ]
    return []


def _misreports(work: Workdir, used: money.Currency) -> list[str]:
    """What a misreport of costs would gain under the mechanism that was chosen, if that was looked for."""
    summary = work.read_json("mechanism.json")
    rows = compared(work) if work.has("mechanisms.csv") else []
    chosen = [row for row in rows if row["chosen"]]
    if not chosen:
        rule = _rule(summary["mechanism"])
        known = rule is None or "costs" in rule.must_know
        return [_NOT_LOOKED_FOR] if known else []
    if "costs" not in chosen[0]["server_knows"]:
        return ["Payments do not depend on what members say about their costs."]
    if chosen[0].get("misreport_gain") is None:
        return [_NOT_LOOKED_FOR]
    untold = chosen[0].get("misreports_untold") or 0
    tried = ", ".join(f"{factor:g}" for factor in summary["compared"].get("reports", []))  # of the true cost
    but = f" (what {untold} of the reports lead to cannot be told)" if untold else ""
    if not chosen[0]["misreport_gain"]:
        return [
            f"Costs are taken as members report them; no false report that was tried ({tried} times the true "
            f"cost) gains anything{but}."
        ]
    gain, factor = used.amount(chosen[0]["misreport_gain"]), chosen[0]["misreport_factor"]
    return [
        f"Costs are taken as members report them: {called(chosen[0]['misreport_by'])} would gain {gain} by "
        f"reporting {factor:g} times hers (tried: {tried}){but}."
    ]


_NOT_LOOKED_FOR = "Costs are taken as members report them; what a false report gains was not looked for."
_TEXTS = ("mechanism", "server_knows", "why_not", "worst_off", "misreport_by")  # columns of mechanisms.csv


def compared(work: Workdir) -> list[dict[str, Any]]:
    """The rows of `mechanisms.csv`."""
    return work.read_csv("mechanisms.csv", text=_TEXTS)


def nobody_shares(found: dict[str, Any], used: money.Currency = money.PLAIN, data: str = "samples") -> str:
    """For whom sharing is nearest to worth it, and from which cost or value on it would be."""
    one = data.removesuffix("s")
    if found["agent"] is None:
        return f"nobody shares: sharing {data} brings nobody anything herself"
    who, value = called(found["agent"]), found["break_even_value"]
    after = "with payments, " if found["payments"] else ""
    average = f" on average over {money.samples(found['samples'])}" if found["samples"] else ""
    brings = used.rate(found["brings"])
    if value is not None:  # the accuracy alone, no payments for samples
        accuracy = money.number(found["brings"] / found["value"])
        brings = f"{accuracy} of accuracy, worth {brings}{average} (`value`: {used.amount(found['value'])})"
    text = (
        f"nobody shares: {after}a {one} costs {who} {used.rate(found['cost'])} and brings her at most "
        f"{brings}; it would pay at a cost below {used.rate(found['break_even_cost'])}"
    )
    return text if value is None else f"{text}, or a `value` above {used.amount(value)}"


def worth(found: dict[str, Any]) -> list[str]:
    """Sentences on what one record of others is worth to each member, for the first members."""
    if found["model"] == "total alone":
        told = "Held-out mixtures are predicted best if every record is worth the same to everybody"
        if found["p_value_of_equal_rates"] >= 0.05:
            return [f"{told}."]
        return [f"{told}; that it is so is rejected at 5%, so measure more mixtures or splits."]
    names = [row["name"] for row in found["members"]]
    shown = range(min(len(names), RATES))
    if found["model"] == "one rate":
        return [
            f"To {names[i]} one record of any other member is worth {_rate(found, i, (i + 1) % len(names))}."
            for i in shown
        ]
    sentences = []
    for i in shown:
        first, *rest = [j for j in shown if j != i]
        parts = [f"one record of {names[first]} is worth {_rate(found, i, first)}"]
        parts += [f"one of {names[j]} {_rate(found, i, j, '')}" for j in rest]
        sentences.append(f"To {names[i]} {_and(parts)}.")
    return sentences


RATES = 8  # members whose exchange rates are printed


def _rate(found: dict[str, Any], i: int, j: int, of_what: str = " of her own") -> str:
    """w_ij with its interval, as it stands in a sentence."""
    rate, low, high = (found[name][i][j] for name in ("rates", "low", "high"))
    if not rate:
        return "nothing"
    doubt = "(0 is possible too)" if low is None else f"[{low:.2g}, {high:.2g}]"
    return f"{rate:.2g}{of_what} {doubt}"


def listed(names: list[str]) -> str:
    """Names as they stand in a sentence, the first of many."""
    if not names:
        return "nobody"
    text = ", ".join(map(called, names[:_LISTED]))
    return f"{text}, … ({len(names)} in all)" if len(names) > _LISTED else text


def called(name: Any) -> str:
    """What a member is called in a sentence; those without a name have numbers."""
    text = str(name)
    if text.isdigit():
        return f"agent {text}"
    return f"“{text}”" if "," in text else text  # or it would read as two names


def _and(parts: Sequence[str]) -> str:
    """Parts of a sentence: a, b and c."""
    *first, last = map(str, parts)
    return f"{', '.join(first)} and {last}" if first else last


def _sentence(text: str) -> str:
    """A text that does not begin with a name, with a capital letter and a full stop."""
    capital = text[:1].upper() + text[1:]
    return capital if capital.endswith((".", "!", "?")) else f"{capital}."


def _rates_words(summary: dict[str, Any]) -> tuple[str, ...]:
    return ("exchange rate",) if summary.get("exchange") else ()


def _words(*names: str) -> dict[str, str]:
    return {name: WORDS[name] for name in names}
