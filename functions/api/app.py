"""The small resources, and the description of all of them.

It mounts every router, so that `/openapi.json` tells the whole; the template says which requests come here.
"""

from parley import wiring
from parley.api.routers import ROUTERS
from parley.lambda_app import http
from parley.settings import load

handler = http.buffered(wiring.reading(load()), *ROUTERS)
