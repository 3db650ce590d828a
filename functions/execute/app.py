"""POST /v1/agents/{agent_id}/execute: a message in, what its run says out."""

from parley import wiring
from parley.api import execute
from parley.lambda_app import http
from parley.settings import load

handler = http.streamed(wiring.running(load()), execute.router)
