"""What SparseCoder has of scikit-learn's contract, and how it is kept in a folder."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jvsc.data.paths import user_path
from jvsc.errors import UserError
from jvsc.runs.config import check_method, validated
from jvsc.runs.model_files import LAYOUTS
from jvsc.runs.sae_lens import save_sae_lens
from jvsc.solvers.problem import as_real
from jvsc.sparse_coder.settings import CoderSettings, check_parameters
from jvsc.sparse_coder.sizes import MOST_COMPONENTS
from jvsc.sparse_coder.standardised_rows import Data
from jvsc.sparse_coder.stored import load_coder, save_coder, trained_autoencoder

MatrixLike = ArrayLike | scipy.sparse.sparray | scipy.sparse.spmatrix


def as_known_type(X: Any) -> Any:
    """bfloat16 and other types that NumPy has from elsewhere as float32; all else as it is.

    Raises:
      UserError: for masked values, which would be read, and for time spans, which pass for numbers.
    """
    kind = getattr(X, "dtype", None)
    if np.ma.is_masked(X):
        raise UserError("X has masked values; fill them in, or give NaN with allow_nan=True")
    if isinstance(kind, np.dtype) and kind.kind in "mM":
        raise UserError(f"X is of type {kind}; give real numbers")
    foreign = isinstance(kind, np.dtype) and kind.kind == "V" and jnp.issubdtype(kind, jnp.number)
    return np.asarray(X).astype(np.float32) if foreign else X


class CoderBase(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Parameters and data checked, tags, saving and loading."""

    components_: np.ndarray
    callback: Any
    verbose: bool | int
    random_state: Any
    allow_nan: bool

    def save(self, folder: str | os.PathLike[str], layout: str = "jvsc") -> None:
        """Writes the fitted estimator as a new folder of JSON and safetensors, without pickle.

        It is whole or not at all. `load` reads it back, and goes on with `partial_fit` from there;
        `callback` is not kept. With `layout="sae_lens"` a sparse autoencoder is written as SAELens'
        `SAE.load_from_disk` reads it: the same codes of data in their own units, and the same
        reconstructions; with a given `dictionary` codes of atoms at norm `scale_`.

        Args:
          folder: where to; must not be there.
          layout: "jvsc" or "sae_lens".

        Raises:
          NotFittedError: before a fit.
          UserError: for a parameter that does not serve, another layout, a method that is no sparse
            autoencoder, or if the folder is there already, or cannot be made.
        """
        check_is_fitted(self)
        if layout not in LAYOUTS:
            raise UserError(f"layout is {layout!r}; give one of {', '.join(LAYOUTS)}")
        if layout == "sae_lens":
            save_sae_lens(trained_autoencoder(self), user_path(folder, "folder"), "folder")
        else:
            save_coder(self, user_path(folder, "folder"))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Any:
        """Reads what `save` wrote, as `jvsc.load` does too.

        Raises:
          UserError: if there is no estimator in the folder, or it cannot be read.
        """
        return load_coder(cls, user_path(folder, "folder"))

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    @property
    def _output(self) -> str | None:
        """What `set_output` was given."""
        return getattr(self, "_sklearn_output_config", {}).get("transform")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.allow_nan
        tags.input_tags.allow_nan = bool(self.allow_nan)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _settings(self) -> CoderSettings:
        given = {name: getattr(self, name) for name in CoderSettings.model_fields}
        if given["n_components"] is None:
            given["n_components"] = MOST_COMPONENTS  # `sized` has the data's
        plain = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in given.items()
        }
        if type(self.verbose) is int:  # scikit-learn's levels
            plain["verbose"] = self.verbose > 0
        settings = validated(CoderSettings, plain)
        check_method(settings.method)
        if not (self.callback is None or callable(self.callback)):
            raise UserError(
                f"callback is {self.callback!r}; give a function of a FitState, or None"
            )
        if settings.sparse_output and self._output not in (None, "default"):
            raise UserError(
                f"sparse_output=True gives SciPy's arrays, but set_output asks for {self._output}; "
                "leave one of them out"
            )
        return settings

    def _given_atoms(self, name: str, num_features: int) -> np.ndarray | None:
        """The dictionary of a parameter, in the data's units; None where there is none."""
        given = getattr(self, name)
        if given is None:
            return None
        atoms = np.asarray(as_real(given, name)).astype(np.float64)
        if atoms.ndim != 2 or atoms.shape[1] != num_features or not len(atoms):
            raise UserError(
                f"{name} has the shape {atoms.shape}; give [K, {num_features}], one atom a row"
            )
        if not (np.isfinite(atoms).all() and atoms.any(axis=1).all()):
            raise UserError(f"{name} holds NaN, infinity or an atom of zeros; leave such atoms out")
        return atoms

    def _check(self, X: Any, reset: bool, **limits: Any) -> Data:
        if self.allow_nan and scipy.sparse.issparse(X):
            raise UserError(
                "allow_nan=True is for dense data; give X.toarray(), or leave allow_nan out"
            )
        kinds: Any = {
            "accept_sparse": "csr",
            "dtype": "numeric",
            "ensure_all_finite": "allow-nan" if self.allow_nan else True,
        }
        try:
            data = validate_data(self, as_known_type(X), reset=reset, **kinds, **limits)
            return as_known_type(data)  # of a table, whose columns have types of their own
        except ValueError as error:
            if "contains NaN" not in str(error):
                raise
        remedy = "give allow_nan=True to code the entries that are there, or fill them"
        raise UserError(f"X contains NaN; {remedy if self._could_have_nan(X) else 'fill them'}")

    def _could_have_nan(self, X: Any) -> bool:
        """Whether `allow_nan=True` would serve."""
        if scipy.sparse.issparse(X):
            return False
        try:
            check_parameters(self._settings().model_copy(update={"allow_nan": True}))
        except UserError:
            return False
        return True

    def _check_fitted(self, X: MatrixLike) -> Data:
        check_is_fitted(self)
        self._settings()
        return self._check(X, reset=False)

    def _drawn_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
