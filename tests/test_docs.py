"""The pages and the code say the same names."""

import fnmatch
import re
from pathlib import Path

import pytest

import si_neuroml

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)


def test_api_page_lists_all_public_names():
    listed = set(re.findall(r"^   (\w+)$", (ROOT / "docs" / "api.rst").read_text(), re.MULTILINE))
    assert set(si_neuroml.__all__) - {"__version__"} <= listed


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_names_in_pages_exist(page):
    text = page.read_text()
    names = set(re.findall(r"si_neuroml\.([a-zA-Z_]\w*)\(", text))
    assert {name for name in names if not hasattr(si_neuroml, name)} == set()
    for target in re.findall(r"\]\(([^):#]+\.md)(?:#[\w-]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_architecture_page_names_every_file():
    named = re.findall(r"`([\w*]+\.py)`", (ROOT / "docs" / "architecture.md").read_text())
    files = {path.name for path in (ROOT / "si_neuroml").rglob("*.py")} - {"__init__.py"}
    assert {name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in named)} == set()
    others = {path.name for path in (ROOT / "training").rglob("*.py")} | {"__init__.py"}
    assert {pattern for pattern in named if not fnmatch.filter(files | others, pattern)} == set()
