"""Every minute: drivers that died, hints that were lost, sessions that ended."""

from parley import wiring
from parley.lambda_app import schedule
from parley.settings import load

handler = schedule.handler(wiring.sweeper(load()))
