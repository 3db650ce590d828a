"""Errors as answers: RFC 9457 problem details, plus the `error` object that the `anthropic` SDK's typed errors read.

Sources: RFC 9457; error shapes of the `anthropic` package 2.11 (read 2026-11-20).
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from parley.core.errors import ParleyError

log = logging.getLogger("parley")

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}

MAX_ERRORS = 20
"""Fields that one problem names: a body may have a million that are wrong."""

MAX_NAME = 200
"""Characters of a field's name that are told."""

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class ErrorShape(BaseModel):
    """What the `anthropic` SDK reads."""

    type: str
    message: str


class FieldProblem(BaseModel):
    """One field that was refused."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details; `code` is stable and safe to branch on."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str | None
    errors: list[FieldProblem] = []
    error: ErrorShape


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[dict[str, Any]] = (),
    retry_after_seconds: int | None = None,
) -> Response:
    """Answer with a problem; `detail` may quote anything, halves of characters too."""
    detail = detail.encode("utf-8", "replace").decode()
    body = {
        "type": f"urn:parley:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "request_id": request.scope.get("request_id"),
        "errors": list(errors),
        "error": {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": detail},
    }
    headers = {"retry-after": str(retry_after_seconds)} if retry_after_seconds is not None else {}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="parley"'
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Map every error once."""
    app.add_exception_handler(ParleyError, _parley_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def answer_to(request: Request, error: ParleyError) -> Response:
    """Answer with what an error of ours says."""
    if error.status >= 500:
        log.error("request_failed", exc_info=error, extra={"path": request.url.path})
    return problem(request, error.status, error.code, error.message, retry_after_seconds=error.retry_after_seconds)


async def _parley_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ParleyError)  # noqa: S101 - narrows a type that the registration guarantees
    return answer_to(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return problem(request, 400, "malformed", "The body is not valid JSON.")
    if found[0]["loc"] == ("body",) and not _is_json(request):  # strict: a web page can send anything else unasked
        return problem(
            request, 415, "not_json", "Send the body as JSON, with the header `content-type: application/json`."
        )
    errors = [_field(each) for each in found[:MAX_ERRORS]]
    more = [f"and {len(found) - MAX_ERRORS} more"] if len(found) > MAX_ERRORS else []
    detail = "; ".join([*(f"{each['field']}: {each['message']}" for each in errors), *more])
    return problem(request, 422, "invalid_input", detail, errors=errors)


def _field(error: dict[str, Any]) -> dict[str, str]:
    """Name a field and what is wrong with it; the field that says of which kind a body is, when it is missing."""
    path, message = error["loc"], error["msg"]
    if error["type"] == "union_tag_not_found":
        path, message = (*path, error["ctx"]["discriminator"].strip("'")), "Field required"
    return {"field": ".".join(str(part) for part in path)[:MAX_NAME], "message": message}


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.endswith(("/json", "+json"))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    if isinstance(error.__cause__, ParleyError):  # raised while FastAPI was reading the body
        return answer_to(request, error.__cause__)
    codes = {404: "route_not_found", 405: "method_not_allowed", 400: "malformed"}
    answer = problem(request, error.status_code, codes.get(error.status_code, "http_error"), str(error.detail))
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["allow"] = ", ".join(_allowed(request))
    return answer


def _allowed(request: Request) -> list[str]:
    """List every method that the path takes; the router has named those of one of its routes only."""
    asked = [(method, {**request.scope, "method": method}) for method in _METHODS]
    return [
        method for method, scope in asked if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error, extra={"path": request.url.path})
    return problem(request, 500, "internal_error", "Something went wrong here. The request id helps to find it.")
