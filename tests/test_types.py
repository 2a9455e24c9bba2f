"""What a user's type checker sees of jvsc."""

import json
import os
import subprocess
import sys
from pathlib import Path

# SciPy and scikit-learn have no types, nor has JAX for functions with a derivative of their own.
UNTYPED_BY_OTHERS = {
    "jvsc.SparseCoder",
    "jvsc.load",
    "jvsc.model.autoencoders.jump_relu.jump_relu",
    "jvsc.model.autoencoders.jump_relu.step_function",
    "jvsc.runs.sparse_files.read_sparse",
    "jvsc.sparse_coder.base.CoderBase",
    "jvsc.sparse_coder.base.CoderBase.__sklearn_tags__",
    "jvsc.sparse_coder.estimator.SparseCoder",
    "jvsc.sparse_coder.learning.LearningCoder",
    "jvsc.sparse_coder.stored.load",
    "jvsc.sparse_coder.estimator.has_posterior",
}


def test_every_public_name_has_a_type():
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    options = ["--verifytypes", "jvsc", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        [binaries / "pyright", *options], env=environment, capture_output=True, text=True
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    assert report["exportedSymbolCounts"]["withKnownType"] > 1000
    untyped = {
        symbol["name"]
        for symbol in report["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    }
    assert untyped <= UNTYPED_BY_OTHERS
