"""What a run publishes tells nothing of the machine that made it, and nothing in the data becomes part of a page."""

from __future__ import annotations

import getpass
import json
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from docutils.core import publish_string

from braintransfer import cli, figures, interactive, plan, stage_views, tables
from braintransfer.book import pages, words
from braintransfer.provenance import project_root, read_manifest, scrubbed, user_name
from braintransfer.untrusted import as_markdown

SECRET = "ghp_0123456789abcdefXYZ"
LEAKY = """
import os, sys
from pathlib import Path
from braintransfer.provenance import write_manifest
folder = Path("runs/leaky/data/leaky").resolve()
print(os.environ["MY_API_TOKEN"], Path.home() / "x", Path.cwd(), data, f"/media/{os.environ['WHO']}/disk")
print("trouble in", __import__("braintransfer").__file__, file=sys.stderr)
write_manifest(folder, stage="leaky", key="k", parameters={"claims": str(Path.home() / "rules.yaml"), "data": data}, code="c", inputs={},
               facts={"left_out": [f"{data}/p1.nii is torn"], "said": os.environ["MY_API_TOKEN"]})
"""


def test_secrets_and_places_reach_neither_an_executed_notebook_nor_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, project, data = tmp_path / "home" / "anna", tmp_path / "project", tmp_path / "scans of anna"
    for folder in (home, project / "notebooks", data):
        folder.mkdir(parents=True)
    (project / "_config.yml").touch()
    for name, value in {"HOME": str(home), "MY_API_TOKEN": SECRET, "WHO": getpass.getuser()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project)
    cells = [
        nbformat.v4.new_code_cell('data = ""', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(LEAKY),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), project / "notebooks" / "leaky.ipynb")
    stage = plan.Stage("leaky", "data/leaky", "leak", {"data": str(data)}, ())
    assert cli.execute(stage, project / "runs" / "leaky") == 0
    published = [project / "runs" / "leaky" / "data" / "leaky" / name for name in ("leaky.ipynb", "manifest.json")]
    for path in published:
        text = path.read_text(encoding="utf-8")
        for word in (SECRET, str(home), str(data), str(project), f"/{getpass.getuser()}/disk"):
            assert word not in text, f"{word} stands in {path.name}"
        assert "(data)" in text and "(hidden)" in text and "~/" in text
    nbformat.validate(nbformat.read(published[0], as_version=4))
    assert read_manifest(published[1].parent) is not None


def test_scrubbing_leaves_pictures_and_plain_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_CHECK", "disabled")
    monkeypatch.setenv("MY_SECRET", "x" * 40 + "1")
    value = {"data": {"image/png": "x" * 40 + "1", "text/plain": "disabled"}, "n": 3, "none": None}
    assert scrubbed(value) == value
    assert scrubbed([f"{project_root()}/runs", f"{project_root()}s"]) == ["./runs", f"{project_root()}s"]


def test_a_user_number_without_a_name_loses_no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `docker run --user 1234`: the manifest is written after the training, too late to fail."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert scrubbed({"path": "/data/scans"}) == {"path": "/data/scans"}
    assert user_name() == f"user-{os.getuid()}"


# ------------------------------------------------------------------------------------------------------ words from data
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![](https://example.org/pixel.png)",
    "{download}`../../../../etc/passwd`",
    "$\\frac{$ `x` **bold** | a & b",
    "</script><script>alert(1)</script>",
)


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(markdown: str, folder: Path) -> Tags:
    """Markdown as the book's own parser turns it into HTML."""
    from myst_parser.docutils_ import Parser

    options: dict[str, Any] = {"myst_enable_extensions": ["colon_fence", "dollarmath", "attrs_inline"], "embed_stylesheet": False,
                               "stylesheet_path": "", "report_level": 5, "output_encoding": "unicode"}  # fmt: skip
    made = publish_string(
        markdown, str(folder / "page.md"), parser=Parser(), writer_name="html5", settings_overrides=options
    )
    return Tags(str(made).partition("<body")[2])


def no_tag_of_data(page: Tags) -> None:
    assert not {tag for tag, _ in page.found} & {"script", "img", "iframe", "object", "strong", "code", "math"}, (
        page.found
    )
    for _, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on")]
        assert "javascript" not in str(attributes.get("href"))


@pytest.mark.parametrize("word", HOSTILE)
def test_a_name_from_the_data_is_shown_and_not_obeyed(word: str, tmp_path: Path) -> None:
    page = rendered(f"# {as_markdown(word)}\n\n{as_markdown(word)}\n", tmp_path)
    no_tag_of_data(page)
    assert " ".join(page.text.split()).count(" ".join(word.split())) >= 2, page.text


def test_tables_and_figures_of_the_book_show_names_as_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame({"person": HOSTILE, "Dice": ["0.5 (0.4 to 0.6)"] * len(HOSTILE)})
    maker = pages.PageMaker(project_root(), tmp_path, [])
    run = type("Run", (), {"slug": "mine"})()
    block = maker._table(run, tmp_path, "people", frame, f"People of {HOSTILE[0]}")  # type: ignore[arg-type]
    page = rendered(block.partition("{download}")[0], tmp_path)
    no_tag_of_data(page)
    shown = " ".join(page.text.split())
    assert all(" ".join(word.split()) in shown for word in HOSTILE), shown
    figure = pages.figure_block(
        {"file": "a.png", "name": "a", "caption": HOSTILE[0] + HOSTILE[2], "alt": HOSTILE[1]}, "a"
    )
    found = rendered(figure.partition("Get it as")[0] + "\n:::\n", tmp_path).found
    assert [tag for tag, _ in found if tag in ("img", "script", "a")] == ["img"]
    assert next(a for t, a in found if t == "img").keys() <= {"id", "src", "alt", "style", "width"}
    assert words.one_line("100 % of *all*") == "100\u00a0% of \\*all\\*"


def test_captions_in_notebooks_and_data_in_moving_figures_stay_text(tmp_path: Path) -> None:
    for word in HOSTILE:
        no_tag_of_data(rendered(stage_views.Caption(word)._repr_markdown_().strip("*"), tmp_path))
        inside = interactive._stage("ranking", {"people": [word]})
        assert inside.count("<script") == inside.count("</script>") == 1
        assert json.loads(inside.partition('json">')[2].partition("</script>")[0]) == {"people": [word]}
        assert "<script>alert" not in pd.DataFrame({"label": [word]})._repr_html_()  # type: ignore[operator]


def test_a_figure_draws_a_name_that_looks_like_a_formula(tmp_path: Path) -> None:
    import numpy as np

    images, masks = np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32), np.uint8)
    drawn = figures.montage_figure(images, masks, [HOSTILE[5], HOSTILE[0]], HOSTILE[5], "real")
    figures.save(drawn, tmp_path, "montage")
    svg = (tmp_path / "montage.svg").read_text(encoding="utf-8")
    assert "<script" not in svg and os.path.getsize(tmp_path / "montage.png") > 1000
    assert tables.data_kind({"simulated": True}) == "simulated"
