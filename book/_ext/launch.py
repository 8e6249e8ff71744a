"""Buttons that open a page's notebook in Binder or Colab, made only where `_config.yml` says where the project's repository is.

The theme's own buttons would lead to where a page lies in the assembled book; the repository has other paths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from sphinx.application import Sphinx

#: Pages of results open the notebook that turns a run's figures.
RESULTS = "notebooks/explore.ipynb"


def notebook_of(page: str, source: Path) -> str:
    """Path in the repository of the notebook that a page (whose source is `source`) opens; "" for none.

    An executed stage opens nothing: it needs the data of its run.
    """
    if page.startswith("results/"):
        return RESULTS
    return f"book/{page}.ipynb" if source.suffix == ".ipynb" and not page.startswith("stages/") else ""


def addresses(repository: str, branch: str, notebook: str) -> dict[str, str]:
    """Service -> the address that opens `notebook` there. Colab knows GitHub only; empty without a repository."""
    host, _, path = repository.strip().removesuffix(".git").strip("/").partition("://")[2].partition("/")
    if not path:
        return {}
    on_github, file = host == "github.com", quote(notebook)
    where = f"gh/{path}" if on_github else f"git/{quote(repository.strip(), safe='')}"
    found = {"Binder": f"https://mybinder.org/v2/{where}/{quote(branch, safe='')}?urlpath=lab/tree/{file}"}
    if on_github:
        found["Colab"] = f"https://colab.research.google.com/github/{path}/blob/{quote(branch)}/{file}"
    return found


def add_buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    options = app.config.html_theme_options
    notebook = notebook_of(page, Path(app.env.doc2path(page))) if doctree is not None else ""
    found = addresses(options.get("repository_url") or "", options.get("repository_branch") or "main", notebook)
    if not notebook or not found:
        return
    icons = {"Binder": "_static/images/logo_binder.svg", "Colab": "_static/images/logo_colab.png"}
    buttons = [
        {"type": "link", "text": name, "tooltip": f"Open {notebook} on {name}", "icon": icons[name], "url": url}
        for name, url in found.items()
    ]
    group = {"type": "group", "tooltip": "Open its notebook", "icon": "fas fa-rocket", "buttons": buttons}
    context["header_buttons"].append({**group, "label": "launch-buttons"})


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_buttons, priority=502)  # after the theme has made its own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
