"""GET /v1/sessions/{session_id}: one session."""

from parley import lambda_app, wiring
from parley.api import sessions
from parley.settings import load

handler = lambda_app.handler(wiring.reading(load()), sessions.router)
