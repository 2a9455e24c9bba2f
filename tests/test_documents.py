"""What the documentation names is there."""

import importlib
import re
from pathlib import Path

METHOD = Path(__file__).parents[1] / "docs" / "method.md"


def resolve(name: str):
    """The object of a dotted name; a function before a module of the same name."""
    first, *parts = name.split(".")
    found = importlib.import_module(first)
    for place, part in enumerate(parts):
        if not hasattr(found, part):
            importlib.import_module(".".join([first, *parts[: place + 1]]))
        found = getattr(found, part)
    return found


def test_every_name_beside_an_equation_is_a_function_or_a_class():
    names = set(re.findall(r"`(jvsc\.[\w.]+)`", METHOD.read_text()))
    assert len(names) > 15
    for name in names:
        assert callable(resolve(name)), name
