"""`/docs` and `/redoc` from bundled files: nothing is loaded from elsewhere, and a policy says so to the browser."""

import base64
import hashlib
import re
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse, RedirectResponse

_ASSETS = "/docs/assets"
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def install(app: FastAPI) -> None:
    """Add both pages and their files."""
    folder = Path(fastapi_offline.__file__).parent / "static"
    app.mount(_ASSETS, StaticFiles(directory=folder), name="docs-assets")
    icon = f"{_ASSETS}/favicon.png"
    swagger = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Parley API",
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=icon,
    )
    redoc = get_redoc_html(
        openapi_url="/openapi.json",
        title="Parley API",
        redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
        redoc_favicon_url=icon,
        with_google_fonts=False,
    )
    app.add_api_route("/", _to_docs, include_in_schema=False)
    _serve(app, "/docs", swagger)
    _serve(app, "/redoc", redoc)


async def _to_docs() -> RedirectResponse:
    return RedirectResponse("/docs")


def _serve(app: FastAPI, path: str, page: HTMLResponse) -> None:
    text = bytes(page.body).decode()
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in _INLINE_SCRIPT.findall(text))
    policy = (
        f"default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
    )

    @app.get(path, include_in_schema=False)
    async def show() -> HTMLResponse:
        return HTMLResponse(text, headers={"content-security-policy": policy})


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
