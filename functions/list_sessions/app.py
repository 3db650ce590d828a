"""GET /v1/sessions: a page of one's sessions."""

from parley import wiring
from parley.api import sessions
from parley.lambda_app import http
from parley.settings import load

handler = http.buffered(wiring.reading(load()), sessions.router)
