"""Prepares MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100 for the other scripts, without TensorFlow.

  python -m launch.prepare --dataset=mnist --data_dir=DIR                   # downloads what it needs
  python -m launch.prepare --dataset=cifar10 --data_dir=DIR --raw_dir=RAW   # RAW: cifar-10-binary.tar.gz

The other scripts then take --dataset=mnist --data_dir=DIR. URLs and checksums are those that the package
tensorflow-datasets knows; downloaded files stay in DIR/downloads.
"""

from absl import flags

from fedgame.learning import preparation
from launch import running, settings_flags

DATASET = flags.DEFINE_string("dataset", None, f"what to prepare: {', '.join(preparation.NAMES)}")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "where tensorflow-datasets keeps its data; ~/tensorflow_datasets if not given"
)
RAW_DIR = flags.DEFINE_string("raw_dir", None, "folder of raw files, instead of downloading them")
URL = flags.DEFINE_string(
    "url", None, "of CIFAR's archive or of the folder of MNIST's four files, instead of the publisher's"
)
SHA256 = flags.DEFINE_list(
    "sha256",
    [],
    "checksums of other files than the publisher's, separated by commas; "
    "MNIST: training images, training labels, test images, test labels",
)


def main(argv: list[str]) -> None:
    settings_flags.start(argv)
    given = DATA_DIR.value, RAW_DIR.value, URL.value, tuple(SHA256.value)
    print(preparation.prepare(DATASET.value, *given))


if __name__ == "__main__":
    running.run(main)
