"""Promises of `braintransfer data list | check | get`: readable, safe to look at, and a download that nothing spoils."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import fakes
import fakes_natural
import fakes_sources
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from braintransfer import recipes
from braintransfer.cli import main
from braintransfer.errors import BadInput
from braintransfer.provenance import project_root
from braintransfer.recipes import downloads, quality
from braintransfer.recipes.schema import every_recipe


def door(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", *arguments])


# ------------------------------------------------------------------------------------------------ list


def test_the_list_fits_a_terminal_and_says_everything(tmp_path: Path) -> None:
    fakes.malf(tmp_path)
    result = door("list", "--data", str(tmp_path))
    lines = result.output.splitlines()
    assert result.exit_code == 0 and max(map(len, lines)) <= 100
    words = " ".join(result.output.split())
    for recipe in every_recipe():
        for text in (recipe.name, recipe.title, recipe.licence, recipe.access.size, *recipe.cells):
            assert " ".join(text.split()) in words, text
    assert re.search(r"^malf +present$", result.output, re.M) and re.search(r"^coco2017 +missing$", result.output, re.M)


@pytest.mark.skipif(os.name != "posix", reason="a pipe of sh")
def test_a_reader_who_stops_early_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m braintransfer.cli data list | head -n 1"
    shown = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert shown.stdout and "error" not in shown.stderr, shown.stderr


# ------------------------------------------------------------------------------------------------ check and its page


def test_check_writes_one_page_with_outlines_numbers_and_no_file_beside_it(tmp_path: Path) -> None:
    fakes.malf(tmp_path)
    page = tmp_path / "look" / "malf.html"
    result = door("check", "malf", "--data", str(tmp_path), "--page", str(page))
    assert result.exit_code == 0 and str(page) in result.output
    text = page.read_text(encoding="utf-8")
    for words in (
        "1003",
        "OAS1_0101",
        "orientation LAS",
        "1 x 1 x 1 mm",
        "24 x 28 x 22 voxels",
        "label 3:",
        "All 4 are shown",
    ):
        assert words in text, words
    assert text.count("<img") == 12 and set(re.findall(r'(?:src|href)="([^"]{10})', text)) == {"data:image"}


def test_the_page_is_capped_and_says_so_and_shows_bad_files_as_such(tmp_path: Path) -> None:
    folder = fakes_natural.oxford_iiit_pet(tmp_path)
    (folder / "images" / "Abyssinian_100.jpg").write_bytes(b"no picture")
    page = tmp_path / "pets.html"
    result = door("check", "oxford_iiit_pet", "--data", str(tmp_path), "--page", str(page), "--rows", "2")
    text = page.read_text(encoding="utf-8")
    assert result.exit_code == 2 and "Abyssinian_100.jpg: not a picture" in result.output
    assert "2 of 4 are shown" in text and text.count("<tr>") == 2 and text.count("<img") == 1
    assert "Abyssinian_100.jpg: not a picture" in text and "keep this page to yourself" in text
    assert door("check", "oxford_iiit_pet", "--data", str(tmp_path), "--rows", "0").exit_code == 2


@pytest.mark.parametrize(
    ("name", "bad", "rows", "pictures"),
    [
        ("brain_tumour_mat", "brain_tumour_mat/5.mat", ("100360 1", "MR017260F 4", "112649 9"), 5),
        ("brats2023", "brats2023/BraTS-GLI-00002-000/BraTS-GLI-00002-000-t1n.nii.gz", ("00000_000", "00005_000"), 9),
    ],
)
def test_the_page_of_a_source_spreads_over_the_whole_set_and_goes_on_after_a_bad_file(
    tmp_path: Path, name: str, bad: str, rows: tuple[str, ...], pictures: int
) -> None:
    fakes_sources.made(name, tmp_path)
    (tmp_path / bad).write_bytes(b"torn")
    page = tmp_path / "page.html"
    number = {"brain_tumour_mat": 6, "brats2023": 4}[name]
    result = door("check", name, "--data", str(tmp_path), "--page", str(page), "--rows", str(number))
    text = page.read_text(encoding="utf-8")
    assert result.exit_code == 2 and Path(bad).name in result.output
    assert ("6 of 9 are shown" if number == 6 else "All 4 are shown") in text
    assert all(row in text for row in rows) and text.count("<img") == pictures
    assert f"{Path(bad).name}: " in text


def test_the_page_shows_what_is_there_where_a_mask_is_missing(tmp_path: Path) -> None:
    folder = fakes.malf(tmp_path)
    (folder / "1003_mask.nii.gz").unlink()
    page = tmp_path / "malf.html"
    result = door("check", "malf", "--data", str(tmp_path), "--page", str(page))
    text = page.read_text(encoding="utf-8")
    assert result.exit_code == 2 and text.count("<img") == 9 and "1003_mask.nii.gz: brain mask is missing" in text
    assert re.search(r"^malf +missing$", door("list", "--data", str(tmp_path)).output, re.M)


def test_names_on_the_page_are_text_never_code(tmp_path: Path) -> None:
    t1, _, _ = fakes.head((20, 22, 18), 0)
    name = '<img src=x onerror="alert(1)">&'
    fakes.save(tmp_path / "mine" / f"{name}_T1.nii.gz", t1, np.eye(4))
    (tmp_path / "mine" / "recipe.yaml").write_text(
        "name: mine\ntitle: <b>Mine</b>\nkind: volumes\nlicence: <i>mine</i>\naccess: {how: own}\n"
        'patterns: {image: ["{subject}_T1.nii.gz"]}\n',
        encoding="utf-8",
    )
    page = tmp_path / "mine.html"
    door("check", "mine", "--data", str(tmp_path), "--page", str(page))
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text and "<b>" not in text and "<i>" not in text and "&lt;img src=x" in text


def test_the_outline_is_the_edge_of_the_mask_and_the_picture_stays_inside() -> None:
    mask = np.zeros((quality.SIDE, quality.SIDE), np.uint8)
    mask[40:80, 50:90] = 1
    shown = quality._outlined(np.full(mask.shape, 77, np.uint8), mask)
    coloured = (shown == quality.COLOURS[0]).all(axis=2)
    assert coloured[40, 50:90].all() and coloured[79, 50:90].all() and coloured[40:80, 50].all()
    assert not coloured[41:79, 51:89].any() and not coloured[:40].any() and (shown[60, 70] == 77).all()


def test_planes_stand_upright_whatever_the_orientation_on_disk() -> None:
    t1, labels, brain = fakes.head((24, 28, 22), 0)
    straight = quality._planes(t1.astype(np.float32), labels.astype(np.uint8), brain, np.eye(4))
    turned = quality._planes(
        t1[::-1].astype(np.float32), labels[::-1].astype(np.uint8), brain[::-1], fakes.las((24, 28, 22))
    )
    assert all(np.array_equal(a, b) for a, b in zip(straight, turned, strict=True))
    assert not np.array_equal(straight[0], straight[0][:, ::-1])


# ------------------------------------------------------------------------------------------------ get


class _Breaking(http.server.SimpleHTTPRequestHandler):
    """A file server that knows byte ranges, and lets the connection break after `most` bytes of an answer."""

    most = 10**9
    starts: list[int] = []

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        type(self).starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.most])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Served:
    """A server on this machine: its address, the folder that it serves, and how it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

        class Handler(_Breaking):
            starts: list[int] = []

        self.handler = Handler
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(self.handler, directory=str(folder))
        )
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "served").mkdir()
    running = Served(tmp_path / "served")
    yield running
    running.server.shutdown()
    running.server.server_close()


def pets(root: Path, folder: Path, address: str) -> Path:
    """The recipe of the pets with its archives at `address`, made of the fake; returns the root of a user."""
    made = fakes_natural.oxford_iiit_pet(folder / "made")
    files = []
    for name in ("images", "annotations"):
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as packed:
            packed.add(made / name, name)
        content = (folder / f"{name}.tar.gz").read_bytes()
        files.append(
            {"url": f"{address}/{name}.tar.gz", "md5": hashlib.md5(content, usedforsecurity=False).hexdigest()}
        )
    values = yaml.safe_load((Path(recipes.__file__).parent / "oxford_iiit_pet.yaml").read_text(encoding="utf-8"))
    values |= {"name": "pets", "folder": "pets", "access": values["access"] | {"files": files}}
    (root / "recipes").mkdir(parents=True)
    (root / "recipes" / "pets.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return root


def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path: Path, served: Served) -> None:
    address, folder, handler = served.address, served.folder, served.handler
    root = pets(tmp_path / "data", folder, address)
    size = (folder / "images.tar.gz").stat().st_size
    handler.most = size // 3 + 1
    result = door("get", "pets", "--data", str(root))
    assert result.exit_code == 0, result.output
    assert handler.starts[:3] == [0, size // 3 + 1, 2 * (size // 3 + 1)]
    assert recipes.check(recipes.load_recipe("pets", root), root) == []
    assert not list((root / ".downloads").iterdir())
    asked = len(handler.starts)
    again = door("get", "pets", "--data", str(root))
    assert again.exit_code == 0 and "unpacked before" in again.output and len(handler.starts) == asked


def test_a_server_that_gives_too_little_each_time_ends_in_one_line_and_goes_on_later(
    tmp_path: Path, served: Served
) -> None:
    address, folder, handler = served.address, served.folder, served.handler
    root = pets(tmp_path / "data", folder, address)
    handler.most = 10
    result = door("get", "pets", "--data", str(root))
    assert result.exit_code == 2 and f"stopped after {10 * downloads.TRIES} of" in result.output
    handler.most = 10**9
    assert door("get", "pets", "--data", str(root)).exit_code == 0
    assert 10 * downloads.TRIES in handler.starts


def test_the_bar_counts_every_byte_from_where_it_goes_on(
    tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pets(tmp_path / "data", served.folder, served.address)
    sizes = [(served.folder / f"{name}.tar.gz").stat().st_size for name in ("images", "annotations")]
    (root / ".downloads").mkdir()
    (root / ".downloads" / "images.tar.gz.part").write_bytes((served.folder / "images.tar.gz").read_bytes()[:100])
    bars, real = [], click.progressbar

    def watched(*arguments: Any, **options: Any) -> Any:
        bars.append(real(*arguments, **options))
        return bars[-1]

    monkeypatch.setattr(downloads.click, "progressbar", watched)
    assert door("get", "pets", "--data", str(root)).exit_code == 0
    assert served.handler.starts == [100, 0]
    assert [(bar.label, bar.length, bar.pos) for bar in bars] == [
        ("images.tar.gz", sizes[0], sizes[0]), ("annotations.tar.gz", sizes[1], sizes[1]),
    ]  # fmt: skip


def test_without_a_network_a_mirror_serves(tmp_path: Path, served: Served) -> None:
    folder = served.folder
    root = pets(tmp_path / "data", folder, "http://127.0.0.1:9")  # nobody listens there
    assert "no connection" in door("get", "pets", "--data", str(root)).output
    result = door("get", "pets", "--data", str(root), "--mirror", str(folder))
    assert result.exit_code == 0 and (folder / "images.tar.gz").is_file()
    assert len(list(recipes.images(recipes.load_recipe("pets", root), root, 0, 24, 0))) == 4
    shutil.rmtree(root / "pets")
    (folder / "images.tar.gz").write_bytes(b"changed")
    wrong = door("get", "pets", "--data", str(root), "--mirror", str(folder))
    assert wrong.exit_code == 2 and "md5 is" in wrong.output and not (root / "pets").exists()


def test_a_file_whose_address_ends_in_a_number_has_its_owners_name(tmp_path: Path, served: Served) -> None:
    root = pets(tmp_path / "data", served.folder, served.address)
    recipe = root / "recipes" / "pets.yaml"
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    (served.folder / "files").mkdir()
    for number, file in enumerate(values["access"]["files"]):
        name = file["url"].rpartition("/")[2]
        shutil.move(served.folder / name, served.folder / "files" / str(number))
        file |= {"url": f"{served.address}/files/{number}", "name": f"owner_{name}"}
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    result = door("get", "pets", "--data", str(root))
    assert result.exit_code == 0 and "owner_images.tar.gz: checksum is right" in result.output
    shutil.rmtree(root / "pets")
    # a browser saves it under that name
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for number, name in enumerate(("images", "annotations")):
        assert (
            f"put owner_{name}.tar.gz there" in door("get", "pets", "--data", str(root), "--mirror", str(mirror)).output
        )
        shutil.copy(served.folder / "files" / str(number), mirror / f"owner_{name}.tar.gz")
    assert door("get", "pets", "--data", str(root), "--mirror", str(mirror)).exit_code == 0
    values["access"]["files"][0]["name"] = "../elsewhere.tar.gz"
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    refused = door("get", "pets", "--data", str(root))
    assert refused.exit_code == 2 and "name of a file" in refused.output


def test_downloads_that_figshare_numbers_all_say_their_names() -> None:
    for recipe in every_recipe():
        for file in recipe.access.files:
            assert "." in file.file_name, f"{recipe.name}: {file.url} says no name; give `name`"


def test_an_archive_that_grows_too_much_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MOST_AT_LEAST", 2**20)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros.bin", bytes(3 * 2**20))
    with pytest.raises(BadInput, match="100 times its size"):
        downloads.unpack(bomb, tmp_path / "in" / "set")
    assert not list((tmp_path / "in").iterdir())
    monkeypatch.setattr(downloads, "MOST_AT_LEAST", 2**30)
    monkeypatch.setattr(downloads, "KEPT_FREE", 2**62)
    with pytest.raises(BadInput, match="more than the disk holds"):
        downloads.unpack(bomb, tmp_path / "in" / "set")
    assert not list((tmp_path / "in").iterdir())


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    packed = tmp_path / "link.zip"
    with zipfile.ZipFile(packed, "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(BadInput, match="link"):
        downloads.unpack(packed, tmp_path / "set")


# ------------------------------------------------------------------------------------------------ the page of the book


def test_the_example_of_the_book_is_a_recipe_that_works(tmp_path: Path) -> None:
    """Every YAML block of the page is put where the page says, and the set is checked and read through the door."""
    text = (project_root() / "book" / "add_a_dataset.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\{code-block\} yaml\n:caption: (\S+)\n\n(.*?)```", text, re.S)
    tables = re.findall(r"```\{code-block\} text\n:caption: (\S+)\n\n(.*?)```", text, re.S)
    assert [name for name, _ in blocks] == ["data/recipes/clinic.yaml"] and tables
    for name, content in blocks + tables:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    root = tmp_path / "data"
    for k, scan in enumerate(("p01_a", "p01_b", "p02_a"), 1):
        t1, labels, _ = fakes.head((22 + k, 24, 20), k)
        fakes.save(root / "clinic" / "t1" / f"{scan}.nii.gz", t1[::-1], fakes.las((22 + k, 24, 20)))
        lesion = np.where(labels == 1, 7, np.where(labels == 3, 9, 0)).astype(np.float32)
        fakes.save(root / "clinic" / "lesions" / f"{scan}.nii.gz", lesion[::-1], fakes.las((22 + k, 24, 20)))
    page = tmp_path / "clinic.html"
    result = door("check", "clinic", "--data", str(root), "--page", str(page))
    assert result.exit_code == 0, result.output
    items = list(recipes.scans(recipes.load_recipe("clinic", root), root, 0, 0))
    assert [(i.subject, i.scan) for i in items] == [("p01", "p01_a"), ("p01", "p01_b"), ("p02", "p02_a")]
    assert all(set(np.unique(i.mask)) == {0, 1} for i in items)
