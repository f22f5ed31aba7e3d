"""The pages: links lead somewhere, and paths and module names are those of the tree."""

import pkgutil
import re
from pathlib import Path

import pytest
from places import ROOT

PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not {".venv", "out", "node_modules"} & set(page.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(\s*([^)\s]+)\s*\)")
HEADING = re.compile(r"^#+ (.*)$", re.M)
PATH = re.compile(r"(?<![\w/.-])((?:fv_jax|experiments|tests|docs|deploy|examples)/[\w./-]*[\w/])")
ROOMS = "|".join(p.name for p in (ROOT / "fv_jax").iterdir() if p.is_dir())
MODULE = re.compile(rf"`((?:{ROOMS})/[\w/]+\.py)`")
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(text: str) -> set[str]:
    """Names that GitHub gives to a page's headings."""
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text)]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_paths_of_the_tree_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    for path in PATH.findall(text):
        assert (ROOT / path).exists(), f"there is no {path}"
    for path in MODULE.findall(text):
        assert (ROOT / "fv_jax" / path).is_file(), f"there is no fv_jax/{path}"


def test_the_readme_is_short_and_has_both_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert "./launch.sh demo" in text
    assert "./launch.sh test" in text


def test_every_page_is_in_an_index():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, f"{page.name} is not listed"
    index = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "experiments/results").glob("*.md"):
        assert f"(results/{page.name})" in index, f"{page.name} is not listed"


def test_the_map_has_every_room():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "fv_jax").glob("*/__init__.py")}
    assert rooms == {room for room in rooms if f"\n      {room}/" in text}


def test_the_reference_names_what_there_is():
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: ([\w.]+)$", page, re.M)
    assert len(names) > 10
    for name in names:
        assert (pkgutil.resolve_name(name).__doc__ or "").strip(), name
