"""The README's tree names every file, and its links and those of the pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("mimo_fed", "server/mimo_fed_server", "client/mimo_fed_client")
PAGES = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/architecture.md", "docs/log.md"),
    *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs" / "adr").glob("*.md"))),
)


def _tree() -> list[str]:
    """Paths that the tree names, put together from its indentation."""
    text = (ROOT / "README.md").read_text()
    block = text.split("## The tree")[1].split("```")[1]
    paths: list[str] = []
    folders: list[tuple[int, str]] = []
    for line in block.splitlines()[1:]:
        if not line.strip():
            continue
        depth, name = len(line) - len(line.lstrip()), line.split()[0]
        folders = [(d, f) for d, f in folders if d < depth]
        if not name.endswith(("/", ".py")):
            continue
        path = "".join(f for _, f in folders) + name
        if name.endswith("/"):
            folders.append((depth, name))
        paths.append(path.rstrip("/"))
    return paths


def test_the_tree_names_every_module_and_nothing_that_is_gone() -> None:
    named = _tree()
    modules = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and "versions" not in path.parts
    }
    listed = {name for name in named if name.endswith(".py")}
    assert sorted(modules - listed) == []
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
    assert len(named) == len(set(named))


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []
