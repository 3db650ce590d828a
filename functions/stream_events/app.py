"""GET /v1/sessions/{session_id}/events/stream: a session as it goes on."""

from parley import wiring
from parley.api import stream
from parley.lambda_app import http
from parley.settings import load

handler = http.streamed(wiring.reading(load()), stream.router)
