"""A real Chromium, a stack of its own, and a page that remembers whatever went wrong in it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from running_stack import RunningStack

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = Path(__file__).parent / "axe-core-4.14.1.min.js"
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
SERIOUS = ("serious", "critical")


@dataclass
class Watched:
    """A page, the origin that it may talk to, and what it did that it must not."""

    page: Page
    origin: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self._note(f"threw {error}"))
        self.page.on("dialog", lambda asked: (self._note(f"asked {asked.message}"), asked.dismiss()))
        self.page.on("request", lambda asked: self._left(asked.url))

    def _note(self, what: str) -> None:
        self.wrong.append(f"{self.page.url}: {what}")

    def _left(self, url: str) -> None:
        if not url.startswith((f"{self.origin}/", "data:", "blob:")):
            self._note(f"asked {url}")

    def open(self, path: str) -> Page:
        """Goes to a page of the console and waits until it is quiet."""
        answer = self.page.goto(f"{self.origin}/console{path}")
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"
        return self.page

    def sign_in(self, key: str) -> None:
        """Types the key and presses Enter."""
        self.open("/")
        self.page.get_by_label("API").fill(key)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**/console/")

    def violations(self, **options: object) -> list[str]:
        """What axe-core finds that is serious; run past the page's policy, as a tester's tool may be."""
        quick = "{ resultTypes: ['violations'], ...options }"
        run = f"async (options) => {{ {AXE.read_text('utf-8')}; return (await axe.run({quick})).violations }}"
        found = self.page.evaluate(run, options)
        return [
            f"{self.page.url}: {one['id']} {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in SERIOUS
        ]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program; where there is none, a run of the tests that must be complete fails, another one says so."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return found
    missing = "no Chromium on the PATH: `make setup-test` installs Debian's as root; or install one and try again"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])  # tests may run as root
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    running = RunningStack(tmp_path_factory.mktemp("stack"))
    yield running
    assert running.stop() == []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(locale="en-US", viewport={"width": 1360, "height": 900})
    context.set_default_timeout(WAIT_MS)
    yield context
    context.close()


@pytest.fixture
def watch(context: BrowserContext, stack: RunningStack) -> Callable[[], Watched]:
    """Opens a page that is watched."""
    return lambda: Watched(context.new_page(), stack.state["url"])


@pytest.fixture
def admin_key(stack: RunningStack) -> str:
    return (stack.folder / "admin.key").read_text()
