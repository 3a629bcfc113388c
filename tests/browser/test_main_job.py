"""The main job by mouse and keyboard: upload, try a recipe, make a version, look at it, train on it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched

CONVERSATIONS = 40
HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


def _some_talks(examples: Path) -> bytes:
    """A few of the examples, one that wants to be markup, and a line that is no record."""
    lines = (examples / "dialogues.jsonl").read_bytes().splitlines()[:CONVERSATIONS]
    said = [{"role": "user", "content": f"嗯，{HOSTILE}"}, {"role": "assistant", "content": "好的，我看看玻璃珠。"}]
    hostile = {"id": HOSTILE, "messages": said, "meta": {HOSTILE: HOSTILE}}
    return b"\n".join([json.dumps(hostile).encode(), *lines, b"no record"])


def test_from_upload_to_model(watch: Callable[[], Watched], admin_key: str, examples: Path) -> None:
    watched = watch()
    page = watched.page
    watched.sign_in(admin_key)
    _upload(page, _some_talks(examples))
    _make_version(page)
    _look_around(page)
    _train(page)
    assert watched.wrong == []


def _upload(page: Page, content: bytes) -> None:
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.wait_for_url("**/console/files")
    chosen = {"name": f"{HOSTILE}.jsonl", "mimeType": "application/jsonl", "buffer": content}
    page.locator("#chosen").set_input_files([chosen])
    page.wait_for_url("**/console/files/file-*")
    page.reload()
    expect(page.locator(".badge.processed")).to_be_visible()
    expect(page.get_by_text("Quarantine", exact=True)).to_be_visible()
    expect(page.locator(".figures")).to_contain_text(str(CONVERSATIONS + 1))


def _make_version(page: Page) -> None:
    page.get_by_role("button", name="Make a version").click()
    page.locator("#use input[name=name]").fill(HOSTILE)
    page.keyboard.press("Enter")
    page.wait_for_url("**/new-version?file=*")
    expect(page.locator("#preview mark.out").first).to_have_text(re.compile("嗯"))
    smoothing = page.locator("[data-operator=smooth_disfluency]")
    smoothing.locator(".on").uncheck()
    expect(page.locator("#preview mark.out", has_text="嗯，")).to_have_count(0)
    smoothing.locator(".on").check()
    expect(page.locator("#preview mark.out", has_text="嗯，").first).to_have_attribute("title", re.compile("filler"))
    page.get_by_role("button", name="Make the version").click()
    page.wait_for_url("**/console/versions/ver-*")
    page.reload()
    expect(page.locator(".badge.succeeded").first).to_be_visible()


def _look_around(page: Page) -> None:
    version = page.url
    page.locator(".funnel tr", has_text="smooth_disfluency").get_by_role("link", name="filler").click()
    page.get_by_role("searchbox").fill("玻璃珠")
    page.wait_for_url("**q=%E7%8E%BB**")
    page.locator("#found a.mono").click()
    expect(page.locator("mark.out", has_text="嗯")).to_have_attribute("title", re.compile("filler"))
    expect(page.locator(".turn").first).to_contain_text("<img src=x")
    page.get_by_role("link", name="Tags").click()
    expect(page.locator("#tag-chart canvas")).to_be_visible()
    expect(page.locator("#tag-table")).to_contain_text("unknown")
    page.goto(version)


def _train(page: Page) -> None:
    page.get_by_role("link", name="Train on it").click()
    page.get_by_label("Steps, in place of epochs").fill("4")
    page.get_by_label("Tokens a step").fill("1024")
    expect(page.locator("[data-cost=steps]")).to_contain_text("4 of 1,024")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/console/training/ftjob-*")
    page.reload()
    expect(page.locator("[data-curve=loss] canvas")).to_be_visible(timeout=180_000)
    expect(page.locator("#job-status .badge.succeeded")).to_be_visible(timeout=180_000)
    expect(page.locator("#events")).to_contain_text("succeeded")
    expect(page.get_by_role("link", name="Chat with it")).to_be_visible()
