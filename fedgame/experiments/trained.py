"""A trained model on disk, with all that it takes to use it: network, classes, how records become its inputs.

`save` writes two things into a directory: `model/`, the parameters, by orbax; and `model.json`, all else.
`load` needs nothing beside them, in particular no data.
"""

import dataclasses
import hashlib
import os
import pathlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import scipy.special

from fedgame.experiments.task import Task
from fedgame.inputs import members as inputs
from fedgame.learning import data, evaluation, federated, members, models, tables
from fedgame.runs import digests, snapshots
from fedgame.runs.workdir import Workdir, to_json

if TYPE_CHECKING:
    import pandas as pd

_PARAMETERS, _ABOUT = "model", "model.json"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, ready to predict.

    Attributes:
      model: the Flax network; `model.apply(params, inputs)` are logits.
      params: its parameters, as numpy arrays.
      classes: names, in the order of the logits.
      shape: of one input: [h, w, c] of an image, or [d] of the features of a row.
      preparation: how rows of tables become features; None: it was trained on images.
      target: of tables, the column of the class, if members have agreed on one; else None.
    """

    model: models.Network
    params: Any
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    preparation: tables.Preparation | None = None
    target: str | None = None

    def predict(self, records: "np.ndarray | pd.DataFrame") -> np.ndarray:
        """The name of the likeliest class of every record, [m]; arguments and errors as `probabilities`."""
        return np.array(self.classes)[np.argmax(self.probabilities(records), axis=-1)]

    def probabilities(self, records: "np.ndarray | pd.DataFrame") -> np.ndarray:
        """The probability of every class, [m, classes], which sum to 1 for every record.

        Args:
          records: images [m, h, w, c] of the shape that they had in training: uint8, of which 255 is white,
            or floats in [0, 1]. Or, of a model of tables, a pandas frame with the columns of the members'
            tables, as they are in their files: numbers are scaled here, and categories encoded, as they were
            in training. Cells may be empty, a text that did not occur in training counts as empty, and other
            columns are ignored.

        Raises:
          ValueError: records are of another kind or shape, or a column is missing.
        """
        found = self.inputs(records)
        if not len(found):
            return np.zeros((0, len(self.classes)))
        unlabelled = federated.Images(found, np.zeros(len(found), np.int32))
        logits = np.asarray(evaluation.logits(self.model, self.params, unlabelled), float)
        return scipy.special.softmax(logits, axis=-1)

    def inputs(self, records: "np.ndarray | pd.DataFrame") -> np.ndarray:
        """What the network sees of records, [m, …] float32; arguments and errors as `probabilities`."""
        if self.preparation is not None:
            if not hasattr(records, "columns"):
                raise ValueError(
                    "the model was trained on tables: it needs a pandas frame with their columns"
                )
            own = inputs.columns_of(records, self.preparation.schema)
            return tables.prepared(self.preparation, own)
        pixels = np.asarray(records)
        if pixels.shape[1:] != self.shape or pixels.dtype.kind not in "buif":
            shape = ", ".join(map(str, self.shape))
            raise ValueError(
                f"the model was trained on images [m, {shape}], got {pixels.dtype} {list(pixels.shape)}"
            )
        if pixels.dtype != np.uint8 and pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"pixels must be uint8, of which 255 is white, or numbers in [0, 1], got {pixels.dtype} from "
                f"{pixels.min():g} to {pixels.max():g}"
            )
        return data.to_images(pixels, np.zeros(len(pixels))).images


def save(work: Workdir, folder: str, task: Task, params: Any, split: int = 0) -> None:
    """Writes a model for `load`.

    Args:
      work: the directory of the run.
      folder: where in it; "" is the directory itself.
      task: with the network and the classes.
      params: the parameters.
      split: of members' own tables: number of the split that it was trained on.
    """
    of_members = task.own is not None
    preparation = None
    if of_members and task.own.federation.schema is not None:
        preparation = members.preparation(task.own.federation, task.own.shares, split)
    shape = members.shape(task.own.federation) if of_members else task.agents.train.images.shape[1:]
    _save(work, folder, Trained(task.model, params, task.classes, shape, preparation))


def save_agreed(
    work: Workdir,
    model: models.Network,
    classes: tuple[str, ...],
    preparation: tables.Preparation,
    target: str,
) -> None:
    """Writes a model of tables that has not been trained, for `load`; arguments as in `Trained`."""
    shape = (tables.width(preparation.schema),)
    params = models.initial_parameters(model, jax.random.key(0), shape)
    _save(work, "", Trained(model, params, classes, shape, preparation, target))


def digest(model: Trained) -> str:
    """A digest of all but the parameters: equal for those who train the same network on the same columns."""
    return hashlib.sha256(to_json(_about(model)).encode()).hexdigest()


def _about(model: Trained) -> dict[str, Any]:
    """All but the parameters, as JSON values."""
    about: dict[str, Any] = {
        "network": models.to_dict(model.model),
        "classes": model.classes,
        "shape": model.shape,
        "columns": None,
    }
    if model.target is not None:
        about["target"] = model.target
    if (preparation := model.preparation) is not None:
        numbers = {name: getattr(preparation, name).tolist() for name in ("fill", "mean", "deviation")}
        about["columns"] = preparation.schema._asdict() | numbers
    return about


def _save(work: Workdir, folder: str, model: Trained) -> None:
    place = pathlib.PurePosixPath(folder)
    work.write_json(str(place / _ABOUT), _about(model))
    if not work.has(str(place / _PARAMETERS)):
        work.put(str(place / _PARAMETERS), lambda path: snapshots.save_model(path, model.params))


def save_like(work: Workdir, folder: str | os.PathLike, params: Any) -> None:
    """Writes parameters for `load`, with all else as the model in a folder has it."""
    about = Workdir(pathlib.Path(os.path.expanduser(folder))).read_json(_ABOUT)
    work.write_json(_ABOUT, about)
    if not work.has(_PARAMETERS):
        work.put(_PARAMETERS, lambda path: snapshots.save_model(path, params))


def load(folder: str | os.PathLike) -> Trained:
    """The model that launch.train has left in a folder, or launch.compare --keep_models in one of `models/`.

    Args:
      folder: what --workdir named; or of a comparison, what `models.csv` names below it.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds no model, or one that has changed since it was written.
    """
    path = pathlib.Path(os.path.expanduser(folder)).absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if not (path / _ABOUT).is_file() or not (path / _PARAMETERS).is_dir():
        raise ValueError(f"{path} holds no model: {_what_it_lacks(path)}")
    root = next((above for above in (path, *path.parents) if (above / digests.FILE).exists()), path)
    work, place = Workdir(root), path.relative_to(root)
    work.has((place / _PARAMETERS).as_posix())  # checks its files
    about = work.read_json((place / _ABOUT).as_posix())
    if about["network"] is None:
        raise ValueError(
            f"the network of {path} is none of --model: make it as you did, and read its parameters by "
            "fedgame.runs.snapshots.load_model"
        )
    return Trained(
        model=models.from_dict(about["network"]),
        params=snapshots.load_model(path / _PARAMETERS),
        classes=tuple(about["classes"]),
        shape=tuple(about["shape"]),
        preparation=None if about["columns"] is None else _preparation(about["columns"]),
        target=about.get("target"),
    )


def _what_it_lacks(path: pathlib.Path) -> str:
    """Why a folder holds no model, in words."""
    if (path / "models.csv").exists():
        return "models.csv names the folders below it that do"
    if (path / _PARAMETERS).is_dir():
        return f"it has no {_ABOUT}, which says what network {_PARAMETERS}/ is of"
    return "launch.train leaves one, and launch.compare with --keep_models"


def _preparation(columns: dict[str, Any]) -> tables.Preparation:
    """The preparation of which `save` wrote this."""
    categories = {name: tuple(known) for name, known in columns["categories"].items()}
    schema = tables.Schema(tuple(columns["numbers"]), categories, tuple(columns["gaps"]))
    return tables.Preparation(
        schema, *(np.asarray(columns[name], float) for name in ("fill", "mean", "deviation"))
    )
