"""DELETE /v1/sessions/{session_id}: a session and all that it holds become unreadable."""

from parley import lambda_app, wiring
from parley.api import sessions
from parley.settings import load

handler = lambda_app.handler(wiring.reading(load()), sessions.router)
