"""Every setting of a run with its default, what it may be, and what it is."""

from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from jvsc.runs.allowed import allowed
from jvsc.runs.config import Config

# Longer lines are hard to read, however wide the terminal.
WIDEST = 110


def settings_help(width: int) -> Table:
    """The settings, a section after the other.

    Args:
      width: of the terminal, in characters.
    """
    page = Table.grid()
    page.add_column(width=min(width, WIDEST))
    page.add_row(Text("\nsettings, each --config.KEY=VALUE"))
    page.add_row(_table(Config, ""))
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            page.add_row(Text(f"\n{(kind.__doc__ or '').splitlines()[0]}"))
            page.add_row(_table(kind, f"{name}."))
    return page


def _table(kind: type[BaseModel], prefix: str) -> Table:
    """A row a setting: its key, and what is to be said of it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, field in kind.model_fields.items():
        if isinstance(field.default, BaseModel):
            continue
        range_of_values = allowed(field)
        default = f"default {field.default}" if field.default != "" else "default empty"
        values = f"{range_of_values}; {default}" if range_of_values else default
        table.add_row(
            Text(f"  {prefix}{name}"), Text(f"{(field.description or '').rstrip('.')} ({values})")
        )
    return table
