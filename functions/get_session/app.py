"""GET /v1/sessions/{session_id}: one session."""

from parley import wiring
from parley.api import sessions
from parley.lambda_app import http
from parley.settings import load

handler = http.buffered(wiring.reading(load()), sessions.router)
