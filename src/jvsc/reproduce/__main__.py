"""`python -m jvsc.reproduce`: see `jvsc.reproduce.command`."""

from jvsc.runs.interruption import end
from jvsc.runs.startup import importing

with importing(is_command=__name__ == "__main__"):
    from jvsc.reproduce.command import run

if __name__ == "__main__":
    end(run())
