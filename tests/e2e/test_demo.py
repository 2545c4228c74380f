"""`harness demo` after real fits, drawn and typed on in headless Chromium (Debian's package).

HARNESS_SCREENSHOTS names a folder for screenshots of the page, for manual inspection.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from process_helpers import HARNESS, Workspace
from schemas import check
from test_browser import CHROMIUM, FLAGS, OFFLINE, TIMEOUT
from test_predict import FAMILIES, predict

pytestmark = pytest.mark.slow
expect.set_options(timeout=TIMEOUT)


@contextmanager
def demo(workspace: Workspace, *arguments: str) -> Iterator[str]:
    """The page's URL; afterwards Ctrl-C ends the command, which leaves no processes behind."""
    server = subprocess.Popen(
        [HARNESS, "demo", *arguments, "--no-open", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=workspace.environment,
        cwd=workspace.folder,
    )
    try:
        assert server.stdout is not None
        answer = json.loads(server.stdout.readline())
        check("demo", answer)
        yield answer["url"]
    finally:
        server.send_signal(signal.SIGINT)
        _, err = server.communicate(timeout=30)
    assert server.returncode == 0 and "Traceback" not in err, err
    assert workspace.is_empty()


@pytest.fixture
def page() -> Iterator[Page]:
    """A page without errors in its console."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *OFFLINE])
        page = browser.new_page(viewport={"width": 860, "height": 980}, device_scale_factor=2)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        browser.close()
        assert complaints == []


def read_shares(page: Page) -> list[float]:
    """The ten shares in percent, read at once: the page may answer the next stroke at any moment."""
    texts = page.locator(".bars .share").all_inner_texts()
    assert len(texts) == 10
    return [float(re.sub("[<%]", "", text) or 0) for text in texts]


def begin_a_stroke(page: Page) -> tuple[float, float, float]:
    """Puts the pen down in the upper middle; returns the horizontal centre, the sheet's top and height."""
    expect(page.locator(".sheet")).to_be_visible()
    expect(page.locator(".answer strong")).to_have_text("")
    box = page.locator(".sheet").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, y + 0.2 * box["height"])
    page.mouse.down()
    return x, y, box["height"]


def test_a_digit_is_drawn_and_a_word_is_typed(tmp_path: Path, page: Page) -> None:
    workspace, runs = Workspace(tmp_path), {}
    for family in ("images", "words"):
        status, answer, err = workspace.run("train", *FAMILIES[family], "--no-test")
        assert status == 0, err
        runs[family] = answer["run_id"]
    with demo(workspace) as url:
        page.goto(url)
        drawn, typed = page.locator(".drawing"), page.locator(".word")
        x, y, height = begin_a_stroke(page)
        page.mouse.move(x + 3, y + 0.3 * height)
        expect(drawn.locator(".answer strong")).to_have_text(re.compile(r"^\d$"))
        shares = read_shares(page)
        assert sum(shares) == pytest.approx(100, abs=1)
        page.mouse.move(x, y + 0.85 * height, steps=12)
        page.mouse.up()
        expect(drawn.locator(".answer strong")).to_have_text("1")
        expect(drawn.locator(".best .name")).to_have_text("1")
        expect(drawn.locator(".notes")).to_contain_text("cut to the figure")
        finished = read_shares(page)
        assert finished[1] > 50 and finished != shares, "they moved"

        typed.locator("input").press_sequentially("tac")
        said = predict(workspace, runs["words"], "tac")[1]["predictions"][0]["answer"]
        is_reversed = "" if said == "cat" else "not "
        expect(typed.locator(".verdict")).to_contain_text(f"{said} is {is_reversed}tac reversed")
        letters = typed.locator(".letters li:not(.end) .sign").all_inner_texts()
        assert "".join(letters) == said
        if folder := os.environ.get("HARNESS_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "demo.png", full_page=True)

        typed.locator("input").fill("tac7")
        expect(typed.locator(".error")).to_contain_text("but got '7' in 'tac7'")
        expect(typed.locator(".letters li")).to_have_count(0)
        drawn.locator(".clear").click()
        expect(drawn.locator(".answer strong")).to_have_text("")
        assert sum(read_shares(page)) == 0
        page.goto("about:blank")  # no request is pending when the server ends


def test_one_model_that_is_named_is_shown_alone(tmp_path: Path, page: Page) -> None:
    workspace = Workspace(tmp_path)
    brief = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "200", "--no-test"]
    status, answer, err = workspace.run("train", "mnist_mlp", *brief)
    assert status == 0, err
    with demo(workspace, answer["run_id"][:12]) as url:
        page.goto(url)
        x, y, height = begin_a_stroke(page)
        page.mouse.move(x, y + 0.85 * height, steps=12)
        page.mouse.up()
        expect(page.locator(".answer strong")).to_have_text("1")
        expect(page.locator(".model")).to_contain_text("MLP on MNIST")
        expect(page.locator("section")).to_have_count(1)
        page.goto("about:blank")


def test_the_champion_is_shown_and_what_is_missing(tmp_path: Path, page: Page) -> None:
    workspace = Workspace(tmp_path)
    brief = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches"]
    status, studied, err = workspace.run("study", "mnist_mlp", "--trials", "2", *brief, "60")
    assert status == 0, err
    status, newest, err = workspace.run("train", "mnist_mlp", *brief, "200", "--no-test")
    assert status == 0, err
    best = studied["best"]
    assert newest["metrics"]["best/val/accuracy"] > best["value"]
    with demo(workspace) as url:
        page.goto(url)
        expect(page.locator(".drawing .model")).to_contain_text(f"run {best['run_id'][:12]}, champion of mnist_mlp")
        expect(page.locator(".model")).to_contain_text(f"val/accuracy {best['value']:.4g}")
        expect(page.locator(".missing .command")).to_have_text("harness train reverse_gru")
        expect(page.locator(".missing h2")).to_have_text("Type a word")
        if folder := os.environ.get("HARNESS_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "demo_missing.png", full_page=True)
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size({"width": 390, "height": 900})
            page.screenshot(path=Path(folder) / "demo_missing_phone.png", full_page=True)
        page.goto("about:blank")


def test_without_a_model_there_is_one_line(tmp_path: Path) -> None:
    status, answer, err = Workspace(tmp_path).run("demo", "--no-open")
    assert status == 2 and "`harness train mnist_speedrun`" in answer["error"], err
