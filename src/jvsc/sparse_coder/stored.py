"""A fitted estimator as a folder of JSON and safetensors, without pickle, and back."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

import jax
import numpy as np
import pydantic
from safetensors.numpy import save
from typing_extensions import TypedDict

from jvsc.data.atomic import new_folder
from jvsc.data.normalisation import Normalisation
from jvsc.data.paths import user_path
from jvsc.errors import UserError
from jvsc.model.methods import SolverMethod, finds_prior
from jvsc.runs import trained_model
from jvsc.runs.config import make_config
from jvsc.runs.model_files import leaves_like, name_leaves, read_arrays, short_reason
from jvsc.runs.sae_lens import check_has_place
from jvsc.runs.stored import UnreadableError, stored_json
from jvsc.sparse_coder.coder import make_coder
from jvsc.sparse_coder.settings import ONLINE, Plan
from jvsc.sparse_coder.standardised_rows import Moments
from jvsc.training.state import TrainState

if TYPE_CHECKING:
    from jvsc.runs.trained_model import TrainedModel
    from jvsc.sparse_coder.estimator import SparseCoder

CODER_FILE, ARRAYS_FILE = "coder.json", "coder.safetensors"
# Plain attributes of a fit, and those that only some have.
FITTED = ("scale_", "n_iter_", "n_steps_", "n_features_in_", "loss_curve_", "_seed")
SOMETIMES = ("penalty_", "feature_names_in_")
# Arrays beside the state's.
ARRAYS = ("components_", "mean_", "intercept_")
MOMENTS = ("counts", "deviation")
ARRAY_PARAMETERS = ("dictionary", "dict_init")
REMEDY = "save the estimator again"


class _StoredPlan(TypedDict):
    """How it was fitted, whatever its parameters were set to since."""

    sparsity: Annotated[float, pydantic.Field(gt=0, lt=1)] | None
    keeps_dictionary: bool
    positive: bool
    learns_online: bool
    allows_nan: bool


class _Stored(TypedDict):
    """What `coder.json` holds."""

    jvsc: str
    parameters: dict[str, Any]
    config: dict[str, Any]
    plan: _StoredPlan
    learns_scale: bool
    scale_: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    n_iter_: pydantic.NonNegativeInt
    n_steps_: pydantic.NonNegativeInt
    n_features_in_: pydantic.PositiveInt
    loss_curve_: list[float]
    _seed: Annotated[int, pydantic.Field(ge=0, lt=2**31)]
    penalty_: NotRequired[pydantic.PositiveFloat]
    output: NotRequired[Literal["default", "pandas", "polars"]]
    feature_names_in_: NotRequired[list[str]]


_STORED = pydantic.TypeAdapter(_Stored)


def save_coder(coder: Any, folder: Path) -> None:
    """Writes a fitted estimator as a new folder, whole or not at all.

    Raises:
      UserError: for a parameter that does not serve, or if the folder is there already, or cannot
        be made.
    """
    coder._settings()  # what `load_coder` would refuse
    parameters, arrays = {}, name_leaves({"state": coder._state})
    for name, value in coder.get_params(deep=False).items():
        value = value.item() if isinstance(value, np.generic) else value
        if name in ARRAY_PARAMETERS and value is not None:
            arrays[f"parameters/{name}"] = np.asarray(value, np.float64)
        else:
            parameters[name] = value
    # Code is not stored, nor a stream of numbers, of which `_seed` was drawn.
    parameters["callback"] = None
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None
    arrays |= {name: getattr(coder, name) for name in ARRAYS}
    if coder._moments is not None:
        arrays |= {name: getattr(coder._moments, name) for name in MOMENTS}
    record = {"jvsc": version("jvsc"), "parameters": parameters}
    plan = coder._plan._asdict()
    record |= {"config": plan.pop("config").model_dump(), "plan": plan}
    record["learns_scale"] = coder._moments is not None
    for name in (*FITTED, *(name for name in SOMETIMES if hasattr(coder, name))):
        value = getattr(coder, name)
        record[name] = list(value) if isinstance(value, np.ndarray) else value
    if coder._output is not None:
        record["output"] = coder._output
    with new_folder(folder, "folder") as temporary:
        text = json.dumps(record, indent=2) + "\n"
        (temporary / CODER_FILE).write_text(text, encoding="utf-8")
        contiguous = {name: np.ascontiguousarray(leaf) for name, leaf in arrays.items()}
        (temporary / ARRAYS_FILE).write_bytes(save(contiguous))


def load_coder(kind: Any, folder: Path) -> Any:
    """Reads what `save_coder` wrote.

    Args:
      kind: the estimator's class.
      folder: where it lies.

    Raises:
      UserError: if there is no estimator, or it cannot be read.
    """
    file, arrays_file = folder / CODER_FILE, folder / ARRAYS_FILE
    try:
        record = stored_json(file, _STORED)
    except UnreadableError as error:  # damaged, or no regular file
        raise UserError(f"{file} cannot be read ({error}); {REMEDY}") from None
    if record is None:
        raise UserError(f"{folder} holds no SparseCoder (no {CODER_FILE}); give what save wrote")
    try:
        _, arrays = read_arrays(arrays_file)
    except Exception as error:  # whatever a damaged file makes a reader raise
        reason = short_reason(error)
        raise UserError(f"{arrays_file} cannot be read ({reason}); {REMEDY}") from None
    prefix = "parameters/"
    given = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    try:
        coder: Any = kind(**record["parameters"], **given)
        coder.set_output(transform=record.get("output"))
        coder._settings()
        plan = Plan(make_config(record["config"]), **record["plan"])
        method = plan.config.family
        if plan.sparsity is None and not (isinstance(method, SolverMethod) or finds_prior(method)):
            raise UserError(f"sparsity: {plan.config.method} needs a share")
        if len(record.get("feature_names_in_", [])) not in (0, record["n_features_in_"]):
            raise UserError("feature_names_in_: not as many as features")
    except (TypeError, UserError) as error:
        raise UserError(f"{file} cannot be read ({short_reason(error)}); {REMEDY}") from None
    width = record["n_features_in_"]
    like = {"state": _state_like(plan, width)} | {
        "components_": _shape((plan.config.num_latents, width), arrays.get("components_")),
        "mean_": jax.ShapeDtypeStruct((width,), np.float64),
        "intercept_": jax.ShapeDtypeStruct((width,), np.float64),
    }
    if record["learns_scale"]:
        like |= {name: jax.ShapeDtypeStruct((width,), np.float64) for name in MOMENTS}
    found = leaves_like(arrays, like, arrays_file, CODER_FILE, REMEDY)
    for name in ARRAYS:
        if not np.isfinite(found[name]).all():
            raise UserError(f"{arrays_file}: {name} holds NaN or infinity; {REMEDY}")
        setattr(coder, name, found[name])
    for name in (*FITTED, *(name for name in SOMETIMES if name in record)):
        setattr(coder, name, record[name])
    if "feature_names_in_" in record:
        coder.feature_names_in_ = np.asarray(record["feature_names_in_"], dtype=object)
    state = found["state"]
    for name, leaf in name_leaves((state.parameters, state.statistics)).items():
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            raise UserError(f"{arrays_file}: {name} holds NaN or infinity; {REMEDY}")
    coder._moments = None
    if record["learns_scale"]:
        beside = {name: found[name] for name in MOMENTS}
        coder._moments = Moments(mean=coder.mean_, scale=coder.scale_, **beside)
    coder._plan, coder._state = plan, state
    return coder


def trained_autoencoder(coder: Any) -> "TrainedModel":
    """A fitted sparse autoencoder as a trained model of data in their own units.

    Raises:
      UserError: for another method.
    """
    plan, what = coder._plan, coder._learned()
    check_has_place(ONLINE if plan.learns_online else plan.config.method)
    scale = np.full(coder.n_features_in_, coder.scale_)
    return trained_model.TrainedModel(
        plan.config,
        coder.n_features_in_,
        what.parameters,
        what.statistics,
        Normalisation(coder.mean_, scale),
        trained_model.Origin(coder._seed, coder.n_iter_),
    )


def _state_like(plan: Plan, num_features: int) -> TrainState:
    """Shapes and types of a state as `packed` packs it."""
    state = jax.eval_shape(make_coder(plan, num_features).init, jax.random.key(0)[None])
    return state._replace(key=jax.ShapeDtypeStruct((1, 2), np.uint32))


def _shape(shape: tuple[int, ...], found: np.ndarray | None) -> Any:
    """A floating array of the type that is found, where it is one of the two that may be."""
    double = found is None or found.dtype != np.float32
    return jax.ShapeDtypeStruct(shape, np.float64 if double else np.float32)


def load(path: str | os.PathLike[str], seed: int | None = None) -> "TrainedModel | SparseCoder":
    """Reads a trained model or a fitted estimator.

    Args:
      path: a folder that `SparseCoder.save` or `TrainedModel.save` wrote, or a run's workdir.
      seed: which of a workdir's seeds, by default the first that did not diverge; of an export the
        one that it holds.

    Returns:
      A `SparseCoder` of what `SparseCoder.save` wrote, else a `TrainedModel`; of a workdir, after
      its newest whole checkpoint. The workdir is only read, also while it is trained.

    Raises:
      UserError: if there is no model, it cannot be read, or it does not have that seed.
    """
    folder = user_path(path, "path")
    file = folder / CODER_FILE
    if not (file.exists() or file.is_symlink()):
        return trained_model.load(path, seed)
    if seed is not None:
        raise UserError(f"{folder} holds a SparseCoder, which has one seed; leave it out", "seed")
    from jvsc.sparse_coder.estimator import SparseCoder  # brings in scikit-learn

    return SparseCoder.load(folder)
