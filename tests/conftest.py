"""Shapes and types of every jvsc function are checked in the tests, and only there."""

import importlib
import os
import pkgutil
import signal
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests compile far more than they compute: no optimising of machine code, nor of how operations are
# fused, which takes a quarter of the estimator's tests' time.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
# In the background of a shell Ctrl-C is ignored, which tests send to the processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Many tests, and the processes they start, compile the same small programs.
_COMPILED = tempfile.TemporaryDirectory()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _COMPILED.name)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import pytest
from jaxtyping import install_import_hook

import jvsc

# The paper's numbers are whole ones among others; what Numba compiles cannot be wrapped.
UNCHECKED = (
    "jvsc.kernels.nonzero_draws",
    "jvsc.reproduce",
    "jvsc.kernels.atoms",
    "jvsc.kernels.lasso",
    "jvsc.kernels.omp",
    "jvsc.kernels.compiled",
)

with install_import_hook("jvsc", "beartype.beartype"):
    for module in pkgutil.walk_packages(jvsc.__path__, "jvsc."):
        if not module.name.startswith(UNCHECKED):
            importlib.import_module(module.name)

import jaxtyping

from jvsc.data.fashion_mnist import DEBIAN_FOLDER

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# Files of a minute and more.
LONG = {
    f"test_{name}.py"
    for name in (
        "train", "conv_training", "reproduce", "evaluate", "features", "parallel", "processes",
        "report", "examples", "encode", "preemption",
    )
}  # fmt: skip


def pytest_collection_modifyitems(items):
    """Files that take long begin first, so that no process ends long after the others."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def without_type_checks():
    """As users run it: jvsc's own messages come instead of the shape checks'."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def natural_images() -> Path:
    """Olshausen-style file of whitened natural images; not part of the repository."""
    path = SHARED_DATA / "natural_images" / "IMAGES.mat"
    if not path.exists():
        pytest.skip(f"real data not at hand: {path} (whitened natural images)")
    return path


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder of the Debian package with Fashion-MNIST."""
    if not DEBIAN_FOLDER.exists():
        pytest.skip("real data not at hand: install the Debian package dataset-fashion-mnist")
    return DEBIAN_FOLDER
