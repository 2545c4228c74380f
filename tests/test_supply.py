"""constraints.txt: every installed package has a pinned version and hashes, and no address of an index."""

import importlib.metadata
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINS = re.compile(r"^([a-z0-9.-]+)==([^ ]+)[^\n]*((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$", re.MULTILINE)
BEFORE = {"pip", "setuptools", "studies-harness", "uv", "wheel"}  # came with Python, or are installed by the Makefile


def pinned(file: str) -> dict[str, set[str]]:
    text = (ROOT / file).read_text()
    found: dict[str, set[str]] = {}
    for name, version, _ in PINS.findall(text):
        found.setdefault(name, set()).add(version)
    assert len(PINS.findall(text)) == len(re.findall(r"^\w", text, re.MULTILINE)), "each has hashes"
    return found


def test_every_installed_package_is_pinned_with_hashes() -> None:
    pins = pinned("constraints.txt")
    for item in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower()
        assert name in BEFORE or name in pins, f"{name} is installed and has no pin: see CONTRIBUTING.md"


def test_uv_is_pinned() -> None:
    assert set(pinned(".ci/uv.txt")) == {"uv"}


def test_no_index_is_named() -> None:
    for file in ("constraints.txt", ".ci/uv.txt"):
        assert "://" not in (ROOT / file).read_text()
