"""For mkdocs: pages link to pictures of benchmarks where they lie, outside docs/; the site gets copies of them."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PICTURE = re.compile(r"(?<=\]\()(?:\.\./)+benchmarks/results/pictures/([\w.]+)(?=\))")
FOLDER = "measured"
"""Of the copies, in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures that pages name."""
    pictures = Path(config.docs_dir).parent / "benchmarks/results/pictures"
    names = {name for file in files.documentation_pages() for name in PICTURE.findall(file.content_string)}
    for name in sorted(names):
        files.append(File.generated(config, f"{FOLDER}/{name}", abs_src_path=str(pictures / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead their links there."""
    up = "../" * page.file.src_uri.count("/")
    return PICTURE.sub(lambda found: f"{up}{FOLDER}/{found[1]}", markdown)
