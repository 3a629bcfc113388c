"""Every page, in both languages and both themes: nothing asked of strangers, no error, nothing that axe-core finds serious."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from running_stack import RunningStack

from tests.browser.conftest import Watched

LISTS = (
    "/", "/files", "/datasets", "/lexicons", "/filters", "/training", "/training/new", "/training/compare",
    "/training/chat", "/experiments", "/reviews", "/keys", "/audit", "/dead-letters",
)  # fmt: skip


@pytest.fixture(scope="module")
def addresses(stack: RunningStack, examples: Path) -> tuple[str, ...]:
    """Every page that there is, those of single things too."""
    file = stack.upload("broken.jsonl", (examples / "broken.jsonl").read_bytes())
    version = stack.version(file["id"])
    lexicon = stack.http.post("/lexicons", json={"name": "bad", "words": ["骗子"]}).json()
    single = (
        f"/files/{file['id']}",
        f"/datasets/{version['dataset_id']}",
        f"/datasets/{version['dataset_id']}/new-version?like={version['id']}",
        f"/versions/{version['id']}",
        f"/versions/{version['id']}/conversations",
        f"/versions/{version['id']}/conversations?dropped=true",
        f"/versions/{version['id']}/tags",
        f"/versions/{version['id']}/diff?against={version['id']}",
        f"/lexicons/{lexicon['id']}",
    )
    return (*LISTS, *single)


@pytest.fixture(params=[("en-US", "light"), ("zh-CN", "dark")], ids="-".join)
def watched(request: pytest.FixtureRequest, browser: Browser, stack: RunningStack, admin_key: str) -> Iterator[Watched]:
    locale, theme = request.param
    context = browser.new_context(locale=locale, color_scheme=theme)
    watched = Watched(context.new_page(), stack.state["url"])
    watched.sign_in(admin_key)
    yield watched
    context.close()


def test_every_page_is_sound(watched: Watched, addresses: tuple[str, ...]) -> None:
    violations = []
    for number, address in enumerate(addresses):
        watched.open(address).wait_for_load_state("load")
        is_first = watched.page.locator("html").get_attribute("lang") == "en"
        if is_first or number % 3 == 0:  # colours come from one list: dark ones are looked at on every third page
            violations += watched.violations(**({} if is_first else {"runOnly": ["color-contrast"]}))
    watched.page.wait_for_timeout(300)
    assert violations == []
    assert watched.wrong == []


def test_two_tabs_share_a_session_and_its_end(watch: Callable[[], Watched], admin_key: str) -> None:
    first, second = watch(), watch()
    first.sign_in(admin_key)
    second.open("/datasets")
    expect(second.page.get_by_role("heading", name="Datasets")).to_be_visible()
    first.page.get_by_role("button", name="Sign out").click()
    first.page.wait_for_url("**/console/sign-in")
    second.page.reload()
    second.page.wait_for_url("**/console/sign-in?next=**")
    assert first.wrong == second.wrong == []


def test_a_wrong_key_is_refused_in_words(watch: Callable[[], Watched]) -> None:
    page = watch().open("/sign-in")
    page.get_by_label("API").fill("tm_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")


def test_an_upload_goes_on_after_a_broken_line_and_a_refresh(
    watch: Callable[[], Watched], admin_key: str, examples: Path, tmp_path: Path
) -> None:
    watched = watch()
    page = watched.page
    file = tmp_path / "long.jsonl"
    file.write_bytes((examples / "dialogues.jsonl").read_bytes() * 25)  # three parts
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.url) if asked.method == "POST" else None)
    watched.sign_in(admin_key)
    watched.open("/files")
    page.route("**/parts", lambda route: route.continue_() if len(sent) < 3 else route.abort())
    sent.clear()
    page.locator("#chosen").set_input_files(file)
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    page.unroute("**/parts")
    page.reload()
    expect(page.locator("#uploads")).to_contain_text("choose the same file again")
    sent.clear()
    page.locator("#chosen").set_input_files(file)
    page.wait_for_url("**/console/files/file-*")
    assert [url.rpartition("/")[2] for url in sent] == ["parts", "parts", "complete"]
    expect(page.get_by_text(file.name).first).to_be_visible()
