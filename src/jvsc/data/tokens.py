"""The tokens whose activations a matrix holds, which stand in a file beside it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydantic

from jvsc.errors import UserError

# Within a folder of shards; beside a single file its name stands before the dot.
TOKEN_FILE = "tokens.jsonl"
_TEXT = pydantic.TypeAdapter(list[str])


class Context(NamedTuple):
    """A token and what stands around it in its text.

    Attributes:
      before: the text up to it.
      token: itself.
      after: the text that follows.
    """

    before: str
    token: str
    after: str


class Tokens(NamedTuple):
    """The tokens of consecutive rows.

    Attributes:
      texts: the texts that the rows lie in, each a list of tokens.
      first: how many tokens of the first text precede the first row.
    """

    texts: list[list[str]]
    first: int

    def context(self, row: int, width: int) -> Context:
        """The token of a row, with at most `width` tokens of its text on either side."""
        ends = np.cumsum([len(text) for text in self.texts])
        number = int(np.searchsorted(ends, row + self.first, side="right"))
        text = self.texts[number]
        place = row + self.first - int(ends[number] - len(text))
        before, after = text[max(place - width, 0) : place], text[place + 1 : place + 1 + width]
        return Context("".join(before), text[place], "".join(after))


def token_file(path: Path) -> Path | None:
    """Where the tokens of a matrix, or of a folder of shards, stand; None if they do not."""
    file = path / TOKEN_FILE if path.is_dir() else path.with_name(f"{path.stem}.{TOKEN_FILE}")
    return file if file.is_file() else None


def read_tokens(file: Path, num_rows: int, count: int) -> Tokens:
    """The tokens of a matrix's last rows, and the texts they stand in.

    Args:
      file: a text a line, each a JSON array of its tokens; joined they are the matrix's rows.
      num_rows: of the whole matrix.
      count: how many of its last rows are wanted.

    Raises:
      UserError: if a line is not such an array, or there are not as many tokens as rows.
    """
    texts: list[list[str]] = []
    total, number = 0, 0
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for line in lines:
                number += 1
                text = _TEXT.validate_json(line)
                if total + len(text) > num_rows - count:
                    texts.append(text)
                total += len(text)
    except (pydantic.ValidationError, UnicodeDecodeError):
        raise UserError(
            f'{file}, line {number}: give a text a line, as a JSON array of tokens: ["a", " b"]'
        ) from None
    if total != num_rows:
        raise UserError(
            f"{file} has {total:,} tokens, but there are {num_rows:,} rows of activations; give "
            "one token a row, or remove the file to go on without"
        )
    return Tokens(texts, sum(map(len, texts)) - count)
