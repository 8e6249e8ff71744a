"""Figures that turn: a piece of HTML as a numbered figure, with the picture that stands in for it on paper."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Turn(SphinxDirective):
    """`:::{turn} piece.html` with `:name:`, `:still:` (a picture), `:alt:` and the caption as its text."""

    required_arguments = 1
    has_content = True
    option_spec = {"name": directives.unchanged, "still": directives.uri, "alt": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        figure = nodes.figure(classes=["turn"])
        self.set_source_info(figure)
        figure += nodes.raw("", Path(path).read_text(encoding="utf-8"), format="html")
        if "still" in self.options:
            figure += nodes.image(uri=self.options["still"], alt=self.options.get("alt", ""), classes=["turn-still"])
        caption = nodes.caption()
        for node in self.parse_content_to_nodes():
            caption += node.children
        figure += caption
        self.add_name(figure)
        return [figure]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("turn", Turn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
