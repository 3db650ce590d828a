"""The edge of a buffered function: routers and state become a Lambda handler through Mangum."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from fastapi import APIRouter
from mangum import Mangum

from parley.api.app import create_app
from parley.api.state import State

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def handler(router: APIRouter, state: State) -> Handler:
    """Answer API Gateway events with one router."""
    logger = Logger(service="parley")
    adapted = Mangum(create_app(state, [router]), lifespan="off")

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        logger.set_correlation_id(event.get("requestContext", {}).get("requestId"))
        answer: dict[str, Any] = adapted(event, context)
        return answer

    return handle
