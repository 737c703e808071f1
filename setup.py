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
    install_requires=[
        "absl-py",
        "babel",  # currencies: symbols and smallest units
        "chex",
        "filelock",  # one process in a directory of results
        "flax",
        "importlib_resources",  # tensorflow-datasets imports it without asking for it
        "jax>=0.10",
        "jinja2",  # the page of a run
        "matplotlib",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pandas",  # members' own tables
        "pillow",  # your own images; tensorflow-datasets decodes PNG with it when there is no TensorFlow
        "scikit-learn",
        "scipy",
        "tensorflow-datasets>=4.9.9",
        "tqdm",
    ],
    extras_require={
        "docs": ["mkdocstrings-python>=2.0.11", "ruff", "zensical>=0.0.73"],  # make docs
        "federation": ["nvflare>=2.9"],  # launch.federation --simulate and --poc
        "page": ["playwright"],  # make test-page
        "parquet": ["pyarrow"],  # members' tables in this format
        "tensorboard": ["tensorboardX"],  # launch.train --tensorboard
        "test": ["hypothesis", "pyarrow", "pytest", "pytest-xdist", "ruff", "tensorboardX"],
        "pytorch": ["torch==2.13.0"],  # benchmarks/against_pytorch.py
        "nashopt": ["nashopt", "qpsolvers"],  # benchmarks/against_nashopt.py
    },
)
