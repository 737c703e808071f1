"""Which file of a run's directory is what: one sentence for each, which `README.md` in the directory repeats.

A name may have *, and ends with / if it is a folder, which is described as a whole. Files of one name have
one schema, whichever command writes them. Samples are counted one by one, accuracies and other metrics lie
in [0, 1]; payoffs, costs, payments and utilities are in the currency of the game.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

README = "README.md"
UNKNOWN = "not described"  # the sentence of a file of which nothing is known

DESCRIPTIONS = {
    README: "Which file is what, and what made them.",
    "report.html": "The answer as a page for a browser.",
    "answer.json": "What a study shows, in sentences.",
    "report.txt": "What was printed: sentences and tables.",
    "SHA256SUMS": "Digests of what the run has written: `sha256sum -c SHA256SUMS` finds what has changed.",
    # Of every run, and of sweeps.
    "config.json": "The program, all settings with every default filled in, and versions of packages.",
    "remarks.json": "What is odd about the data, but allowed, in sentences.",
    "training_remarks.json": "Says that models are not seen to do better than guessing the commonest class.",
    "jobs/": "What finished training runs found, one JSON file for each: --resume does not make them again.",
    "checkpoints/": "The state of unfinished training runs, from which --resume goes on.",
    "timings.csv": "Seconds that each training run took when it was made: `job`, `seconds`.",
    "tensorboard/": "Accuracy by round for TensorBoard (`tensorboard --logdir=tensorboard`).",
    "variants/": "The run of each variant of the sweep, in a directory of its own.",
    "variants.csv": "One row per variant of the sweep: its settings, `status`, the `message` of a failure, "
    "`seconds`.",
    "headlines.csv": "What came of each variant that is done, behind the swept settings.",
    "sweep.png": "The headlines over the swept setting.",
    # Of games: launch.equilibrium, launch.mechanism.
    "outcome.csv": "One row per participant: `contribution` and `capacity` in samples, what she gets from "
    "the model (`payoff`), `cost` and `utility`, what she would gain by deviating (`nash_gap`); under "
    "payments, `payment` as it is announced and `exact_payment` before rounding (received, or paid if "
    "negative), and utilities `outside`, `without_payments` and `with_everybody`.",
    "outcome.json": "The rows of outcome.csv.",
    "equilibrium.json": "Status, certificate and totals of the equilibrium, and how well the curve fits.",
    "equilibria.csv": "One row per certified equilibrium: `total` is S in samples, `contributed` the sum of "
    "contributions.",
    "equilibrium.png": "The curve with the equilibrium, and what participants contribute.",
    "fitted_curve.csv": "The curve of the game: `accuracy` at a total of `samples`, between `low` and "
    "`high`; an empty `agent` stands for everybody.",
    "curve.csv": "Measured accuracies: a row per total of `samples` and training run. --curve reads it.",
    "scenario.json": "The game, which --scenario and `fedgame.load_scenario` read.",
    "exchange_rates.csv": "How many of her own samples one of `of` is worth to `member` (`rate`), with an "
    "interval from `low` to `high` if it was measured. --exchange_rates reads it.",
    "exchange_fits.json": "Curves and rates fitted to the mixtures and to resampled ones, for commands with "
    "--measurements.",
    "exchange_rates.png": "The exchange rates, by pair of members.",
    "announced.json": "What each participant is told: the numbers of the mechanism, such as `rate`, the "
    "share of her costs that she gets back, `transfer`, what she is paid beside whatever she does, or "
    "`price`, of a sample; her payment follows from them and from what all share.",
    "mechanism.json": "Who stays, what the mechanism reaches, and its certificate.",
    "mechanisms.csv": "All mechanisms side by side, if none was named: whether each `applies` (else "
    "`why_not`) and was `chosen`, what members have together (`sum_of_utilities`) and by how much that is "
    "more than outside, less what the server pays (`surplus`), who would leave, what a false report of "
    "costs gains.",
    "mechanisms_by_member.csv": "What each member shares, receives and has under each of these mechanisms, "
    "with everybody taking part.",
    "without_each.csv": "What the others share (`contributed`) and lose together if one more member leaves.",
    "p_means.csv": "p-means of utilities, (1/n Σ u^p)^(1/p), by `mechanism`; one column per p, empty where a "
    "negative utility leaves it undefined.",
    "over_beta.csv": "One row per rate `beta` at which costs are refunded, with everybody taking part: "
    "`total` is S in samples, `rather_leave` counts participants, one column per p-mean.",
    "over_beta_contributions.csv": "What participants contribute, in samples, and receive at each `beta`; "
    "those with an empty `name` are all others together.",
    "marks.csv": "Rates `beta` that are marked in the figure.",
    "mechanism.png": "What each participant shares, and pays or receives.",
    "over_beta.png": "Contributions and p-means over the rate at which costs are refunded.",
    "validation.csv": "What was predicted and what training found, one row per profile of contributions and "
    "`member`.",
    "validation.json": "Whether the advice holds, in numbers.",
    # Of training: launch.train, launch.curve, launch.measure.
    "members.json": "The members, how many records each has, the metric, and what is odd about their data.",
    "holdings.csv": "One row per agent: samples that she `holds` and `contributes`, and those of each class.",
    "holdings.png": "What agents hold, by class.",
    "rounds.csv": "`accuracy` after each evaluated `round`, on what is held out; the mean over members.",
    "rounds_by_member.csv": "`accuracy` after each evaluated `round` on what each `member` holds out.",
    "rounds.png": "The accuracy over rounds.",
    "model/": "The parameters of the model, written by orbax; `fedgame.load_model` reads them.",
    "model.json": "The network, its classes and how records become inputs; `fedgame.load_model` reads it.",
    "fitted_curves.csv": "Every family's fitted accuracy at totals of `samples`.",
    "fits.json": "Errors and parameters of every family's fit.",
    "band.csv": "One row per total of `samples`: mean, standard `deviation` and range of the accuracy over "
    "`seeds`.",
    "curve.png": "The accuracy curve, measured and fitted.",
    "design.json": "How many mixtures of members' records were trained on.",
    "mixtures.csv": "How many `samples` each `member` gives to each `mixture`.",
    "measurements.csv": "The metric (`accuracy`) on what each `member` holds out, by `mixture` and `split`. "
    "--measurements reads it.",
    "worth.csv": "One row per member: her records, and the metric with nobody's, hers alone, the others' and "
    "everybody's.",
    "measure.json": "Exchange rates, with the tests behind them, and the members' curves.",
    "agents_template.csv": "A table for --agents: fill in costs and values.",
    # Of launch.compare.
    "game.json": "The fit of the curve, and the certified equilibrium that each protocol aims at.",
    "runs.csv": "One row per protocol and seed: samples meant (`contributed`) and drawn (`charged`), "
    "accuracies, mean utilities, `sum_of_payments`, Nash gaps as meant and as drawn.",
    "steps.csv": "As runs.csv, after every evaluated step of the game.",
    "utilities.csv": "One row per protocol, seed and agent: `contribution` as meant and samples `charged`, "
    "`accuracy` on her own test images, `cost`, `payment`, `utility`, and `held_out_utility`, by the "
    "server's held-out images.",
    "welfare.csv": "p-means of utilities, one row per protocol, seed and p: `welfare` is (1/n Σ u^p)^(1/p), "
    "`welfare_sum` has no 1/n, `held_out_…` are of utilities by held-out images; `…_undefined` says why one "
    "is empty.",
    "table1.csv": "Means of welfare.csv over seeds, one row per protocol and p, with standard errors "
    "(`…_error`).",
    "table1.json": "The rows of table1.csv.",
    "differences.csv": "Paired differences over seeds of the p-means of `protocol` and those of `minus`: "
    "`…_difference`, in an interval of 95% from `…_low` to `…_high`.",
    "contributions.csv": "What agents meant to contribute at every step of the game, in samples.",
    "drawn.csv": "Samples that agents trained on in every round, of protocols whose rounds differ.",
    "seconds.csv": "Seconds of training by protocol, seed and step.",
    "members.csv": "One row per protocol and member: samples, and the metric as predicted, as trained on "
    "what is held out, and on the reserve; means over seeds.",
    "contributions.png": "What agents contribute over the steps of the game.",
    "welfare.png": "p-means by protocol, and paired differences.",
    "models/": "The final model of each protocol and seed; models.csv says which folder `fedgame.load_model` "
    "reads.",
    "models.csv": "The `folder` of the final model of each protocol and seed.",
    # Of launch.federation.
    "federation/": "The ledger, which `launch.ledger` shows and verifies, and logs of server and members.",
    "ledger.csv": "Every entry of the ledger: `amount` is what the `member` receives, in the currency of "
    "costs, `units` the same in smallest units; the server has no name.",
    "settled.csv": "One row per member: her `contribution` as agreed, the mean of her `samples` over the "
    "`rounds` that count, her `cost`, what she `received`, the accuracy `expected` by the announced payoff, "
    "and the metric of the final model (`accuracy`).",
    "federation.json": "What was agreed and settled, and whether the ledger is consistent.",
    "statements/": "What each member gave, paid and received, and why, as a text for her.",
    # Of launch.agree.
    "agreed.json": "The column of the class, the classes, and how many records each member has.",
    "columns.csv": "One row per column: `mean` and `deviation`, by which numbers are scaled, whether cells "
    "are empty (`has_gaps`), and the `texts` that occur in it.",
    # Of launch.study.
    "study_*.csv": "The study's table: one row per mechanism and value of what is varied; `total` is in "
    "samples.",
    "study_*.json": "The rows of the study's table.",
    "study_*.png": "The study's figure.",
    "classes.csv": "Accuracy by class of every training run, by partition, seed and total of `samples`.",
    "shares.csv": "The share of each class in what an agent holds.",
    "agents.csv": "Name, cost per sample and capacity of each agent. --agents reads it.",
    "curves.csv": "Every agent's curve: mean `accuracy` as measured, and as `fitted`.",
    "by_agent.csv": "What every agent contributes and has under every mechanism.",
}


def described(name: str) -> str:
    """The sentence on a file, or on a folder, whose name then ends with /; `UNKNOWN` if there is none."""
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name]
    if name.endswith(".svg"):
        return described(f"{name.removesuffix('.svg')}.png")
    return next((text for known, text in DESCRIPTIONS.items() if fnmatch.fnmatchcase(name, known)), UNKNOWN)


def readme(about: dict[str, Any], names: Iterable[str]) -> str:
    """The text of `README.md`: what made the run, and a line for every file and folder.

    Args:
      about: what `config.json` says.
      names: paths of files below the directory.
    """
    listed = {"".join(name.partition("/")[:2]) for name in names}  # of what is in a folder, the folder
    command = about.get("command", "")
    by = f"`{command}`" if command else about["program"]
    version = about.get("versions", {}).get("fedgame", "")
    lines = [f"- `{name}`: {described(name)}" for name in _in_order(listed | {README, "SHA256SUMS"})]
    return "\n".join(
        [
            f"# What {about['program']} has left here",
            "",
            f"Made by {by}" + (f", fedgame {version}." if version else "."),
            "`fedgame.results.load(FOLDER)` reads the tables; samples are counted one by one, accuracies and "
            "other metrics lie in [0, 1], and payoffs, costs, payments and utilities have one currency.",
            "",
            *lines,
            "",
        ]
    )


def _in_order(names: set[str]) -> Sequence[str]:
    """The names in the order of `DESCRIPTIONS`, those that are not there last."""
    places = {name: place for place, name in enumerate(DESCRIPTIONS)}

    def place(name: str) -> tuple[int, str]:
        return next(
            (places[known] for known in places if fnmatch.fnmatchcase(name, known)), len(places)
        ), name

    return sorted(names, key=place)
