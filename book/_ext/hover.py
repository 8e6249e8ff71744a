"""Glossary terms say what they mean where they are used: the definition stands on the link, and style sheets show it."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

GLOSSARY = "glossary"


def definitions(glossary: nodes.document) -> dict[str, str]:
    """Anchor of each term (`term-Dice`) -> the first paragraph of its definition."""
    found = {}
    for block in glossary.findall(addnodes.glossary):
        for item in block.findall(nodes.definition_list_item):
            said = next(iter(item.findall(nodes.paragraph))).astext()
            found.update({anchor: said for term in item.findall(nodes.term) for anchor in term["ids"]})
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    known: dict[str, str] = {}

    def read(app: Sphinx, env: BuildEnvironment) -> None:
        if GLOSSARY in env.found_docs:
            known.update(definitions(env.get_doctree(GLOSSARY)))

    def define(app: Sphinx, doctree: nodes.document, page: str) -> None:
        for link in doctree.findall(nodes.reference):
            anchor = link.get("refid") or link.get("refuri", "").partition("#")[2]
            if anchor in known:
                link["reftitle"] = known[anchor]

    def show(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
        # a title of its own would come up a second later, above the same words
        if "body" in context:
            context["body"] = re.sub(r'(href="[^"]*#term-[^"]*") title="', r'\1 data-definition="', context["body"])

    app.connect("env-check-consistency", read)
    app.connect("doctree-resolved", define)
    app.connect("html-page-context", show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
