"""POST /v1/agents/{agent_id}/execute: a message in, what its run says out."""

from parley import lambda_app, wiring
from parley.api import execute
from parley.settings import load

handler = lambda_app.handler(wiring.running(load()), execute.router)
