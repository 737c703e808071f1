"""How well exchange rates are found: coverage of intervals, the chosen model, level and power of the test.

  python benchmarks/exchange_rates.py                             # half an hour without `lost`
  python benchmarks/exchange_rates.py --federations 45 --most 5   # 9 minutes beside other programs

Goes on where an earlier call with the same --file was stopped.

Every federation has 3 to 8 members with 60 to 400 samples each, power laws, and 20 + 15 n random mixtures of
fractions 0, 1/16, …, 1 of everybody's samples. Accuracies have 12 splits with a standard deviation of .045
in each mixture, so that a mean has .013, and one of .03 that a split has in all mixtures of a member. The
true model is each of the three in turn: w ≡ 1; one rate for all others, uniform in [0, .7]; rates uniform in
[0, 1].

chosen     how often `choose` (3 deals) chose each model
rejected   how often the joint test rejected w ≡ 1 at 5%: its level where that is true, else its power
reported   the share of rates that have an interval; the others are indistinguishable from 0
coverage   of the 90% intervals (100 draws) that are reported, where all rates are fitted
width      mean of those; a member whose own samples turn out to be worth nearly nothing has huge rates,
           so also that of the median federation
lost       what members lose on average, in accuracy, if they contribute the first best of a fitted model
           instead of that of the true game, at costs of 0.0001 to 0.001 a sample
"""

import argparse
import csv
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from fedgame import games, mechanisms
from fedgame.games import exchange_rates

jax.config.update("jax_enable_x64", True)

SPLITS, NOISE, OF_SPLIT = 12, 0.045, 0.03
FRACTIONS = np.array([0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
COLUMNS = ("seed", "members", "true", "chosen", "p_value", "rates", "reported", "covered", "width", "lost")


def true_rates(rng: np.random.Generator, model: str, n: int) -> np.ndarray:
    """Rates [n, n] of a federation in which a model is true."""
    rates = {
        "total alone": np.ones((n, n)),
        "one rate": np.repeat(rng.uniform(0, 0.7, (n, 1)), n, axis=1),
        "exchange rates": rng.uniform(0, 1, (n, n)),
    }[model]
    np.fill_diagonal(rates, 1.0)
    return rates


def federation(
    rng: np.random.Generator, n: int, rates: np.ndarray
) -> tuple[exchange_rates.Mixtures, games.Game]:
    """What is measured in a federation of n members with true rates [n, n], and its true game."""
    capacity = np.round(np.exp(rng.uniform(np.log(60), np.log(400), n)))
    fractions = np.unique(rng.choice(FRACTIONS, (60 + 45 * n, n)), axis=0)
    samples = np.round(rng.permutation(fractions)[: 20 + 15 * n] * capacity)
    at_0, gap = rng.uniform(0.4, 0.6, n), rng.uniform(0.2, 0.4, n)
    exponent, shift = rng.uniform(0.5, 1.5, n), rng.uniform(20, 100, n)
    exact = at_0 + gap * (1 - (1 + samples @ rates.T / shift) ** -exponent)
    of_split = OF_SPLIT * rng.normal(size=(1, SPLITS, n))
    noisy = exact[:, None] + of_split + NOISE * rng.normal(size=(len(samples), SPLITS, n))
    members = tuple(f"member {i + 1}" for i in range(n))
    curve = games.PowerLaw(at_0 + gap, gap * shift**exponent, exponent, shift, clip=False)
    cost = games.LinearCost(10 ** rng.uniform(-4, -3, n))
    game = games.check(games.Game(games.EffectiveSamples(curve, rates), cost, capacity))
    return exchange_rates.Mixtures(members, samples, np.clip(noisy, 0, 1)), game


def lost(mixtures: exchange_rates.Mixtures, game: games.Game) -> list[float]:
    """What members lose on average by the first best of each fitted model, in accuracy; see the docstring."""
    best, found = mechanisms.first_best(game).welfare, []
    for model in exchange_rates.MODELS:
        fitted = exchange_rates.fit(mixtures, model)
        curve = jax.tree.map(lambda *x: jnp.stack(x), *fitted.curves)
        believed = games.check(game.replace(payoff=games.EffectiveSamples(curve, fitted.rates)))
        there = games.utilities(game, mechanisms.first_best(believed).profile)
        found.append(float(best - jnp.sum(there)) / game.n)
    return found


def row(seed: int, most: int) -> dict[str, object]:
    """Everything about one federation."""
    rng = np.random.default_rng([18, seed])
    true, n = exchange_rates.MODELS[seed % 3], int(rng.integers(3, most + 1))
    rates = true_rates(rng, true, n)
    mixtures, game = federation(rng, n, rates)
    found: dict[str, object] = {"seed": seed, "members": n, "true": true}
    found["chosen"] = exchange_rates.choose(mixtures, deals=3).model
    found["p_value"] = exchange_rates.all_rates_one(mixtures).p_value
    found["lost"] = " ".join(f"{x:.6g}" for x in lost(mixtures, game))
    if true == "exchange rates":
        fitted = exchange_rates.fit(mixtures)
        low, high = exchange_rates.intervals(mixtures, fitted, draws=100)
        there = ~np.isnan(low) & ~np.eye(n, dtype=bool)
        found["rates"], found["reported"] = n * (n - 1), int(np.sum(there))
        found["covered"] = int(np.sum((low <= rates)[there] & (rates <= high)[there]))
        found["width"] = float(np.sum((high - low)[there]))
    return found


def show(rows: list[dict[str, str]]) -> None:
    """Prints the table of all federations."""
    print(
        "true model      federations   chosen: total alone   one rate   exchange rates   rejected"
        "   lost: total alone   one rate   exchange rates   chosen"
    )
    for model in exchange_rates.MODELS:
        mine = [row for row in rows if row["true"] == model]
        if not mine:
            continue
        chosen = [np.mean([row["chosen"] == other for row in mine]) for other in exchange_rates.MODELS]
        rejected = np.mean([float(row["p_value"]) < 0.05 for row in mine])
        losses = np.array([[float(x) for x in row["lost"].split()] for row in mine])
        of_chosen = [exchange_rates.MODELS.index(row["chosen"]) for row in mine]
        lost_by = [*losses.mean(axis=0), losses[np.arange(len(mine)), of_chosen].mean()]
        print(
            f"{model:<14} {len(mine):>12} {chosen[0]:>21.0%} {chosen[1]:>10.0%} {chosen[2]:>16.0%} "
            f"{rejected:>10.1%}"
            f"{lost_by[0]:>20.4f} {lost_by[1]:>10.4f} {lost_by[2]:>16.4f} {lost_by[3]:>8.4f}"
        )
    fitted = [row for row in rows if row["rates"] and int(row["reported"])]
    if fitted:
        rates, reported, covered, width = (np.array([float(row[x]) for row in fitted]) for x in COLUMNS[5:9])
        print(
            f"{rates.sum():.0f} rates, {reported.sum() / rates.sum():.0%} reported; 90% intervals cover "
            f"{covered.sum() / reported.sum():.1%}; mean width {width.sum() / reported.sum():.2f}, "
            f"in the median federation {np.median(width / reported):.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--federations", type=int, default=200)
    parser.add_argument("--most", type=int, default=8, help="members of a federation, at least 3")
    parser.add_argument("--file", default="results/exchange_rates.csv", help="one row per federation")
    settings = parser.parse_args()
    path = pathlib.Path(settings.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        done = {int(row["seed"]) for row in csv.DictReader(file)}
    for seed in range(settings.federations):
        if seed not in done:
            found = row(seed, settings.most)
            with path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(found)
    with path.open(encoding="utf-8") as file:
        show([row for row in csv.DictReader(file) if int(row["seed"]) < settings.federations])


if __name__ == "__main__":
    main()
