"""A study in MLflow's UI: `harness study`, `harness ui` and headless Chromium (Debian's package).

HARNESS_SCREENSHOTS names a folder for screenshots of each page, for manual inspection.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

pytestmark = pytest.mark.slow

HARNESS = str(Path(sys.executable).with_name("harness"))  # the installed command, even if not on PATH
TRIALS = 3
TIMEOUT = 30_000  # milliseconds
expect.set_options(timeout=TIMEOUT)
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
OFFLINE = ["--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "mlruns"


@pytest.fixture(scope="module")
def study(home: Path) -> dict[str, Any]:
    """A small real study; returns the output of `harness study --json`."""
    command = [HARNESS, "study", "mnist_mlp", "--trials", str(TRIALS), "--pruner", "none", "--seed", "0"]
    done = subprocess.run(
        [*command, "--trainer.max_epochs", "1", "--json"], capture_output=True, text=True, env=environment(home)
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def url(home: Path, study: dict[str, Any]) -> Iterator[str]:
    """The URL of `harness ui`, which Ctrl-C must end afterwards."""
    server = subprocess.Popen(
        [HARNESS, "ui", "mnist_mlp", "--no-open", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(home),
    )
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"]
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(timeout=30)
    assert code == 130


def environment(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return {**kept, "HARNESS_HOME": str(home)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS + OFFLINE)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, url: str, name: str) -> Iterator[Page]:
    """A page in a fresh browser profile; a screenshot is taken at the end."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(TIMEOUT)
    page.goto(url)
    page.locator(
        '[data-component-id="mlflow.assistant.chat_panel.close"]'
    ).click()  # opens automatically the first time
    yield page
    folder = os.environ.get("HARNESS_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")
    page.close()


@pytest.fixture
def page(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The prepared view."""
    with visit(browser, url, request.node.name.removeprefix("test_")) as page:
        expect(page.get_by_role("link", name="trial 0", exact=True)).to_be_visible()
        yield page


def trial_links(page: Page) -> Locator:
    return page.locator(".ag-row").get_by_role("link", name="trial ")


def values_in_order(page: Page, study: str) -> list[float]:
    """The metric's column from top to bottom for a study's runs, without empty values."""
    rows = page.locator(f'.ag-row[row-id^="tag.harness.trials_of.{study}."]')
    texts = rows.locator('[col-id="metrics.`best/val/accuracy`"]').all_inner_texts()
    return [float(text) for text in texts if text != "-"]


def test_table_of_runs_best_first(page: Page, study: dict[str, Any]) -> None:
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    assert "orderByKey=metrics.%60best%2Fval%2Faccuracy%60" in page.url
    for name in ["best/val/accuracy", "val/loss", "test/accuracy", "Duration", *study["best"]["params"]]:
        expect(page.locator(".ag-header-cell", has_text=name)).to_be_visible()
    values = values_in_order(page, study["study"])
    assert len(values) >= TRIALS
    assert values == sorted(values, reverse=True)
    assert max(values) == pytest.approx(study["best"]["value"])


def test_the_studys_own_run_is_not_among_its_trials_and_values_are_short(page: Page, study: dict[str, Any]) -> None:
    rows = page.locator(f'.ag-row[row-id^="tag.harness.trials_of.{study["study"]}."]')
    expect(rows.get_by_role("link")).to_have_text([re.compile("trial [0-9]")] * TRIALS)
    expect(page.get_by_role("link", name=f"study {study['study']}", exact=True)).to_be_visible()
    texts = rows.locator('[col-id="metrics.`best/val/accuracy`"]').all_inner_texts()
    assert texts and all(len(text) <= 8 for text in texts), texts


def test_charts_of_trials_begin_with_their_metrics(page: Page, url: str) -> None:
    page.goto(url.replace("compareRunsMode=TABLE", "compareRunsMode=CHART"))
    sections = page.locator('[data-testid="experiment-view-compare-runs-section-header"]')
    expect(sections.first).to_be_visible()
    said = [text.splitlines()[0].strip() for text in sections.all_inner_texts()]
    assert said[:3] == ["all trials", "val", "train"], said


def test_charts_of_a_run_do_not_begin_with_its_best_step(page: Page) -> None:
    page.get_by_role("link", name="trial 0", exact=True).click()
    page.get_by_role("tab", name="Model metrics").click()
    first = page.locator('[data-testid="experiment-view-compare-runs-card"]').first
    expect(first).to_contain_text("accuracy")


def test_the_report_and_its_charts_open_among_the_artifacts(page: Page, study: dict[str, Any]) -> None:
    """MLflow shows HTML in a sandboxed frame without an address, where nothing can be loaded."""
    page.get_by_role("link", name=f"study {study['study']}", exact=True).click()
    page.get_by_role("tab", name="Artifacts").click()
    frame = page.frame_locator("iframe.mlflow-html-iframe")
    page.get_by_text("report.html", exact=True).click()
    expect(frame.get_by_role("heading", name="Leaderboard")).to_be_visible()
    expect(frame.locator('[data-chart="history"] canvas')).to_be_visible()
    page.get_by_text("pictures", exact=True).click()
    page.get_by_text("parallel_coordinates.html", exact=True).click()
    expect(frame.locator('[data-chart="parallel"] .grip').first).to_be_attached()


def test_children_unfold_under_their_study(page: Page, study: dict[str, Any]) -> None:
    group = page.locator(f'.ag-row[row-id="tag.harness.trials_of.{study["study"]}"]')
    fold = group.locator('[role="button"]').first
    expect(trial_links(page)).to_have_count(TRIALS)
    fold.click()
    expect(trial_links(page)).to_have_count(0)
    fold.click()
    expect(trial_links(page)).to_have_count(TRIALS)


def test_children_unfold_under_their_parent_run(browser: Browser, url: str, study: dict[str, Any]) -> None:
    """Sorted by start time, as without our view, the UI nests runs by mlflow.parentRunId."""
    plain = url.split("?")[0] + "?workflowType=machine_learning"
    with visit(browser, plain, "children_unfold_under_their_parent_run") as page:
        parent = page.locator(".ag-row", has=page.get_by_role("link", name=study["study"])).first
        expect(parent).to_be_visible()
        expect(trial_links(page)).to_have_count(0)
        parent.get_by_role("button").first.click()
        expect(trial_links(page)).to_have_count(TRIALS)


def test_two_runs_are_compared(page: Page) -> None:
    for name in ("trial 0", "trial 1"):
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))
        row.locator(".ag-selection-checkbox input").first.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Comparing 2 Runs from 1 Experiment")).to_be_visible()
    expect(page.get_by_text("trial 0").first).to_be_visible()
    expect(page.get_by_text("trial 1").first).to_be_visible()
    expect(page.locator(".js-plotly-plot .parcoords").first).to_be_attached()


def test_parallel_coordinates_of_the_search(page: Page, url: str, study: dict[str, Any]) -> None:
    page.goto(url.replace("compareRunsMode=TABLE", "compareRunsMode=CHART"))
    card = page.locator('[data-testid="experiment-view-compare-runs-card"]', has_text="Parallel Coordinates")
    expect(card.first).to_be_visible()
    axes = card.first.locator("svg text")
    for name in [*study["best"]["params"], "best/val/accuracy"]:
        expect(axes.filter(has_text=name).first).to_be_attached()


def test_confusion_matrix_of_a_run(page: Page) -> None:
    page.get_by_role("link", name="trial 0", exact=True).click()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("pictures", exact=True).click()
    page.get_by_text("confusion_matrix.png", exact=True).click()
    picture = page.get_by_role("img", name="pictures/confusion_matrix.png").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100


def test_commands_end_with_a_link_that_opens_what_they_did(browser: Browser, home: Path, url: str) -> None:
    def link(*command: str) -> str:
        done = subprocess.run([HARNESS, *command], capture_output=True, text=True, env=environment(home))
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1].removeprefix("next:  ")

    base, run_name = url.partition("/#")[0], "opened by its link"
    of_run = link("train", "one_neuron", "--trainer.max_epochs", "1", "--no-test", "--name", run_name)
    assert of_run.startswith(f"{base}/#/experiments/")
    with visit(browser, of_run, "link_to_a_run") as page:
        expect(page.get_by_role("heading", name=run_name)).to_be_visible()
    command = ["study", "mnist_mlp", "--trials", str(TRIALS), "--pruner", "none", "--seed", "0", "--no-test"]
    with visit(browser, link(*command, "--trainer.max_epochs", "1"), "link_to_a_study") as page:
        expect(page.get_by_role("link", name="trial 0", exact=True)).to_be_visible()
