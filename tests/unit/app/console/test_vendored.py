"""What is vendored is what its list says, and everything vendored is in the list."""

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[4]
LISTED = json.loads((ROOT / "app/console/vendored.json").read_bytes())


def test_files_have_the_hashes_of_the_list() -> None:
    for one in LISTED:
        assert hashlib.sha256((ROOT / one["path"]).read_bytes()).hexdigest() == one["sha256"], one["path"]


def test_the_list_is_complete() -> None:
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "app/console/static/vendor").iterdir()}
    assert there <= {one["path"] for one in LISTED}


def test_every_package_stands_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    names = {"htmx.org": "htmx", "uplot": "uPlot", "diff": "jsdiff", "echarts": "ECharts", "axe-core": "axe-core"}
    for one in LISTED:
        name, _, version = one["package"].partition("@")
        assert f"{names[name]} {version}" in notice
