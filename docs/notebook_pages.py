"""Writes a page of each notebook in `docs/notebooks` beside it, as it was executed."""

from pathlib import Path

from nbconvert import MarkdownExporter


def main() -> None:
    """Writes the Markdown pages and the pictures they show."""
    exporter = MarkdownExporter()
    for notebook in sorted((Path(__file__).parent / "notebooks").glob("*.ipynb")):
        pictures = {"unique_key": notebook.stem, "output_files_dir": "."}
        text, resources = exporter.from_filename(str(notebook), pictures)
        notebook.with_suffix(".md").write_text(text)
        for name, content in resources["outputs"].items():
            (notebook.parent / name).write_bytes(content)


if __name__ == "__main__":
    main()
