"""The queue: runs and resumes runs, with nobody listening."""

from parley import wiring
from parley.lambda_app import queue
from parley.settings import load

handler = queue.handler(*wiring.worker(load()))
