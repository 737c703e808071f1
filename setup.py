"""Packaging of fedgame; `pip install -e .` or `pip install ".[test]"`."""

import pathlib
import re

import setuptools

ABOUT = pathlib.Path("fedgame/__init__.py").read_text(encoding="utf-8")  # to import it would need jax

setuptools.setup(
    name="fedgame",
    version=re.search(r'^__version__ = "(.*)"$', ABOUT, re.MULTILINE)[1],
    description="Incentives in federated learning: equilibria, mechanisms and the models they train.",
    long_description=pathlib.Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["fedgame*", "launch*"]),
    package_data={"fedgame.report": ["page.html"], "launch": ["presets/*.flags"]},
    install_requires=[  # the lowest versions are those of `make test-oldest`
        "absl-py>=1.4.0",
        "babel>=2.14.0",  # currencies: symbols and smallest units
        "chex>=0.1.90",
        "filelock>=3.13.1",  # one process in a directory of results
        "flax>=0.11.0",
        "importlib_resources>=6.1.0",  # tensorflow-datasets imports it without asking for it
        "jax>=0.8.2",
        "jinja2>=3.1.4",  # the page of a run
        "matplotlib>=3.9.0",
        "numpy>=2.0.2",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.25",
        "pandas>=2.2.2",  # members' own tables
        "pillow>=10.4.0",  # your own images; tensorflow-datasets decodes PNG with it without TensorFlow
        "scikit-learn>=1.5.1",
        "scipy>=1.15.0",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.66.3",
    ],
    extras_require={
        "docs": ["mkdocstrings-python>=2.0.11", "ruff", "zensical>=0.0.73"],  # make docs
        "federation": ["nvflare>=2.9"],  # launch.federation --simulate and --poc
        "page": ["playwright"],  # make test-page
        "parquet": ["pyarrow>=16.1.0"],  # members' tables in this format
        "tensorboard": ["tensorboardX>=2.6.2.2"],  # launch.train --tensorboard
        "test": [
            "hypothesis>=6.100.0",
            "pyarrow>=16.1.0",
            "pytest>=8.2.0",
            "pytest-xdist>=3.6.1",
            "ruff>=0.17.0",
            "tensorboardX>=2.6.2.2",
        ],
        "pytorch": ["torch==2.13.0"],  # benchmarks/against_pytorch.py
        "nashopt": ["nashopt", "qpsolvers"],  # benchmarks/against_nashopt.py
    },
)
