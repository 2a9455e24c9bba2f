"""`python -m jvsc.reproduce`: see `jvsc.reproduce.command`."""

from jvsc.errors import require_extra
from jvsc.runs.interruption import end
from jvsc.runs.report import MODULES
from jvsc.runs.startup import importing

with importing(is_command=__name__ == "__main__"):
    require_extra("command", "jvsc.reproduce", MODULES)
    from jvsc.reproduce.command import run

if __name__ == "__main__":
    end(run())
