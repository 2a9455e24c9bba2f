"""`python -m jvsc.reproduce`: see `jvsc.reproduce.command`."""

import os
import sys

from jvsc.reproduce.command import run

if __name__ == "__main__":
    # TensorFlow's and XLA's start-up notes are not about the user's run.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(run())
