"""The small resources, and the description of all of them.

It mounts every router, so that `/openapi.json` tells the whole; the template says which requests come here.
"""

from parley import lambda_app, wiring
from parley.api.routers import ROUTERS
from parley.settings import load

handler = lambda_app.handler(wiring.running(load()), *ROUTERS)
