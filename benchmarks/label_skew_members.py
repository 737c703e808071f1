"""Five members with MNIST digits of their own, dealt by label skew: measured, advised, and checked.

  python benchmarks/label_skew_members.py --data_dir DIR     # 13 minutes on two cores

300 images each, classes by Dirichlet's distribution with α = 0.3, logistic regression. Writes
results/skewed/members (one .npz each) and agents.csv (0.0002 to 0.0006 of accuracy an image, invented), and
does with them what `make hospitals` and benchmarks/advice.py do with four hospitals.
"""

import argparse
import pathlib

import advice
import jax
import numpy as np

from fedgame.experiments import measure
from fedgame.learning import data, members, partitions
from fedgame.runs import experiment

MEMBERS, IMAGES, ALPHA = 5, 300, 0.3
ROOT = pathlib.Path("results/skewed")


def deal(data_dir):
    """Writes the members' images."""
    pool = data.load("mnist", MEMBERS * IMAGES, 1, 0, data_dir).train
    dealt = partitions.partition(pool, np.full(MEMBERS, IMAGES), jax.random.key(0), "dirichlet", ALPHA)
    folder = ROOT / "members"
    folder.mkdir(parents=True, exist_ok=True)
    for i, (images, labels) in enumerate(zip(dealt.images, dealt.labels, strict=True)):
        pixels = np.rint(images * 255).astype(np.uint8)
        np.savez_compressed(folder / f"member {i + 1}.npz", images=pixels, labels=labels)
        print(f"member {i + 1} has of 0 to 9: {np.bincount(labels, minlength=10).tolist()}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="where tensorflow-datasets keeps MNIST")
    deal(parser.parse_args().data_dir)
    settings = measure.Settings(
        federation=str(ROOT / "members"), model="linear", learning_rate=0.5, validate=True
    )
    print(experiment.run(measure.EXPERIMENT, settings, str(ROOT / "measure")))
    task = measure.prepare(settings)
    most = members.trainable(task.own.federation, task.own.shares)
    rows = ["name,cost,capacity,value"]
    for i, (name, capacity) in enumerate(zip(task.own.federation.names, most, strict=True)):
        rows.append(f"{name},{0.0002 + 0.0001 * i:.4f},{capacity},1")
    (ROOT / "agents.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    advice.show(str(ROOT / "measure"), str(ROOT / "agents.csv"))


if __name__ == "__main__":
    main()
