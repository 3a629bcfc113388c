"""`/docs`: the API's description as a page to try it from.

Its scripts come with a package, not from a content delivery network: the service may have no way to the internet, and a
stranger's script would run beside the console's session. The page may run nothing else.
"""

import base64
import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

STATIC = "/docs/static"
INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def install(app: FastAPI) -> None:
    """Adds the page and what it is made of."""
    package = find_spec("fastapi_offline")
    assert package is not None
    assert package.origin is not None
    app.mount(STATIC, StaticFiles(directory=Path(package.origin).parent / "static"), name="docs-static")
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=app.title,
        swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{STATIC}/favicon.png",
    )
    hashes = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in INLINE.findall(bytes(page.body))]
    inline = " ".join(f"'sha256-{one}'" for one in hashes)
    policy = (
        f"default-src 'none'; script-src 'self' {inline}; connect-src 'self'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
    )
    page.headers["content-security-policy"] = policy

    def docs() -> HTMLResponse:
        """The description of the API, to try it from."""
        return page

    app.add_api_route("/docs", docs, include_in_schema=False, response_class=HTMLResponse)
