"""docs/tour.md: the plain path can be read in an evening."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = re.findall(r"^\| \d+ \| `(\S+)` \|", (ROOT / "docs" / "tour.md").read_text(), re.MULTILINE)


def test_the_plain_path_is_short() -> None:
    assert 10 <= len(FILES) <= 14
    assert sum(len((ROOT / name).read_text().splitlines()) for name in FILES) <= 2000


def test_docs_name_existing_files() -> None:
    pages = [page for page in (ROOT / "docs").glob("*.md") if page.name != "compatibility.md"]  # of other repositories
    for page in [*pages, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for name in re.findall(
            r"\b((?:studies|tests|benchmarks|lightning_modules|datamodules)/[\w/.-]+\.\w+)", page.read_text()
        ):
            is_removed = "/acceleration/" in name and not (ROOT / "studies" / "acceleration").exists()
            assert is_removed or (ROOT / name).exists(), f"{page.name} names {name}"
