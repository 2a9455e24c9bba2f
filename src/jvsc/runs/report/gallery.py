"""The gallery of a run's latents, as its workdir holds it."""

from pathlib import Path
from typing import Annotated, Any, NotRequired

import pydantic
from typing_extensions import TypedDict

from jvsc.errors import UserError
from jvsc.runs.stored import UnreadableError, stored_json

LATENTS_FILE = "latents.json"
# Pictures of which each holds many tiles, row by row.
SPRITES = {"atoms": "latents_atoms.png", "data": "latents_data.png"}

_Pair = Annotated[list[int | float], pydantic.Field(min_length=2, max_length=2)]
_Context = Annotated[list[str], pydantic.Field(min_length=3, max_length=3)]


class _Latent(TypedDict):
    """One latent.

    Attributes:
      number: k.
      use: share of the data whose code is not zero.
      size: mean |code| of those.
      histogram: counts of P(code != 0), or of |code| where there is no posterior.
      strongest: the data of the largest |code|, each with its code.
      entries: an atom's largest entries, each its dimension and value, where it is no picture.
    """

    number: int
    use: float
    size: float
    histogram: list[int]
    strongest: list[_Pair]
    entries: NotRequired[list[_Pair]]


class _Tiles(TypedDict):
    """Where a sprite's tiles are.

    Attributes:
      columns: of tiles.
      rows: of tiles.
      aspect: a tile's width over its height.
    """

    columns: int
    rows: int
    aspect: float


class Gallery(TypedDict):
    """What latents.json holds.

    Attributes:
      num_latents: K, of which the most used may be all that are shown.
      num_data: N, the data that were looked at.
      is_estimated: whether the dictionary is estimated, the generator having none.
      has_probabilities: whether histograms are of probabilities.
      latents: those shown, the most often used first.
      data: numbers of the data in their sprite, in order, where they are pictures.
      tiles: of each sprite, by its name in `SPRITES`.
      contexts: of each datum with a token, by its number: what is before it, itself, what follows.
    """

    num_latents: int
    num_data: int
    is_estimated: bool
    has_probabilities: bool
    latents: list[_Latent]
    data: NotRequired[list[int]]
    tiles: NotRequired[dict[str, _Tiles]]
    contexts: NotRequired[dict[str, _Context]]


_GALLERY = pydantic.TypeAdapter(Gallery)


def read_gallery(workdir: Path) -> dict[str, Any] | None:
    """What latents.json holds; None where there is none, as of a run of an earlier version.

    Raises:
      UserError: if it cannot be read.
    """
    file = workdir / LATENTS_FILE
    try:
        return stored_json(file, _GALLERY)
    except UnreadableError as error:
        raise UserError(
            f"{file} cannot be read ({error}); remove it and evaluate the run again"
        ) from None
