"""`harness report` as installed, and its page in Chromium.

HARNESS_SCREENSHOTS names a folder for screenshots of each page, for manual inspection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from process_helpers import TOY, Workspace

pytestmark = pytest.mark.slow

TRIALS = 14
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study of the toy experiment, some of whose trials diverge, and two runs."""
    space = Workspace(tmp_path_factory.mktemp("report"))
    status, _, said = space.run("study", TOY, "--trials", str(TRIALS), "--workers", "2", "--no-test")
    assert status == 0, said
    for seed in ("1", "2"):
        status, _, said = space.run("train", TOY, "--seed", seed, "--name", f"seed {seed}")
        assert status == 0, said
    return space


@pytest.fixture(scope="module")
def report(workspace: Workspace) -> Path:
    status, answer, said = workspace.run("report", "toy")
    assert status == 0, said
    return Path(answer["path"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, path: Path, name: str, size: str = "desktop", scheme: Any = "light") -> Iterator[Page]:
    """A page from disk that must neither load nor complain about anything."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("request", lambda request: trouble.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    yield page
    folder = os.environ.get("HARNESS_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"report_{name}_{size}_{scheme}.png", full_page=True)
    assert not trouble
    page.close()


def test_the_page_is_written_to_the_current_folder_and_replaced(workspace: Workspace, report: Path) -> None:
    assert report == workspace.folder / "report-toy.html"
    report.write_text("old")
    assert workspace.run("report", "toy")[0] == 0 and "<title>toy</title>" in report.read_text()
    status, answer, _ = workspace.run("report", "toy", "--output", "other.html")
    assert status == 0 and Path(answer["path"]) == workspace.folder / "other.html"
    assert answer["bytes"] == (workspace.folder / "other.html").stat().st_size
    assert not list(workspace.folder.glob(".*.tmp")), "it is written atomically"


def test_the_report_is_an_artifact_of_the_study(workspace: Workspace) -> None:
    (path,) = workspace.home.glob("trials/*/artifacts/report.html")
    assert "<title>toy</title>" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["toi"], "unknown study or run toi; did you mean toy?"),
        (["toy", "--output", "nowhere/x.html"], "is in nowhere, which is not a folder"),
        (["toy", "--output", "."], "is a folder"),
        (["toy", "latest"], "toy is a study: a report shows one study, or several runs"),
        (["toy/99"], "study toy has no trial 99 with a run"),
        (["0123456789abcdef"], "unknown run 0123456789abcdef"),
        ([], "STUDY|RUN"),
    ],
)
def test_bad_input_is_one_line_and_no_file(workspace: Workspace, arguments: list[str], said: str) -> None:
    before = sorted(path.name for path in workspace.folder.iterdir())
    status, answer, _ = workspace.run("report", *arguments)
    assert status == 2 and said in f"{answer['error']}; {answer['hint']}"
    after = {path.name for path in workspace.folder.iterdir() if "html" in path.name}
    assert after <= set(before)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_chart_is_drawn_at_every_width(browser: Browser, report: Path, size: str, scheme: str) -> None:
    with visit(browser, report, "study", size, scheme) as page:
        for name in ("Leaderboard", "Search history", "Learning curves", "Parameter importance", "Slices", "Cost"):
            expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], "nothing scrolls sideways"
        painted = page.evaluate(
            "[...document.querySelectorAll('canvas')].map((canvas) => canvas.getContext('2d')"
            ".getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0))"
        )
        assert len(painted) >= 6 and all(painted)


def test_all_trials_can_be_seen_and_the_best_is_first(browser: Browser, report: Path, workspace: Workspace) -> None:
    from studies.search import Search, best_of

    rows = Search.existing(workspace.storage, "toy").trials()
    with visit(browser, report, "leaderboard") as page:
        body = page.locator("#leaderboard tbody tr")
        expect(body).to_have_count(10)
        page.get_by_role("button", name=f"Show {TRIALS - 10} more of {TRIALS - 10}").click()
        expect(body).to_have_count(TRIALS)
        numbers = body.locator("td:nth-child(2)").all_inner_texts()
        best = best_of(rows, {"val/loss": "minimize"})
        assert best is not None and numbers[0] == str(best.number)
        assert sorted(map(int, numbers)) == [row.number for row in rows]


def test_trials_are_told_under_the_pointer_and_picked_along_an_axis(browser: Browser, report: Path) -> None:
    with visit(browser, report, "picked") as page:
        history = page.locator('[data-chart="history"] svg').last
        history.scroll_into_view_if_needed()
        box = history.bounding_box()
        assert box is not None
        for across in range(60, int(box["width"]), 12):
            page.mouse.move(box["x"] + across, box["y"] + 150)
            if page.locator(".tip").is_visible():
                break
        expect(page.locator(".tip")).to_contain_text("trial")
        grip = page.locator('[data-chart="parallel"] .grip').first
        grip.scroll_into_view_if_needed()
        axis = grip.bounding_box()
        assert axis is not None
        middle = axis["x"] + axis["width"] / 2
        page.mouse.move(middle, axis["y"] + 5)
        page.mouse.down()
        page.mouse.move(middle, axis["y"] + axis["height"] / 2, steps=5)
        page.mouse.up()
        expect(page.locator(".status")).to_contain_text(f"of {TRIALS} trials picked")
        page.mouse.click(middle, axis["y"] + axis["height"] - 12)
        expect(page.locator(".status")).to_have_text("Drag along an axis to pick trials.")


def test_runs_side_by_side(browser: Browser, workspace: Workspace) -> None:
    runs = [path.parent.name for path in workspace.home.glob("trials/*/spec.json")]
    own = [
        run
        for run in runs
        if '"study":null' in (workspace.home / "trials" / run / "spec.json").read_text().replace(" ", "")
    ]
    status, answer, said = workspace.run("report", *(run[:10] for run in own), "--output", "runs.html")
    assert status == 0, said
    with visit(browser, Path(answer["path"]), "runs") as page:
        expect(page.get_by_role("heading", name="2 runs compared")).to_be_visible()
        expect(page.get_by_role("cell", name="seed", exact=True)).to_be_visible()
        expect(page.locator('[data-chart="lines"] .legend').first).to_contain_text("seed 1")
