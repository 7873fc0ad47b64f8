"""Puts README.md into the first page, with links that hold from there; called by mkdocs."""

import pathlib
import re

README = pathlib.Path(__file__).parent.parent / "README.md"


def on_page_markdown(markdown: str, page, **_) -> str:
    """Return the text of a page: README.md for the first one."""
    if page.file.src_uri != "index.md":
        return markdown
    text = README.read_text(encoding="utf-8").replace("](docs/", "](").replace("](CONTRIBUTING.md", "](contributing.md")
    # what is no page keeps its name alone
    return re.sub(r"\[([^]]+)\]\((?:applications|scripts|notebooks|CITATION)\b[^)]*\)", r"\1", text)
