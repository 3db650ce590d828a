"""Gives a deployed stack its Anthropic key, and lets Claude answer: what `make set-key` does.

The key is read from ANTHROPIC_API_KEY or asked for, and goes into the secret that the stack made for it. It is never an
argument, a parameter of the stack or an environment variable of a function. Functions read it within five minutes.
"""

import argparse
import os
import sys
from getpass import getpass

import boto3
from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

SECRET = "AnthropicKey"  # noqa: S105 - its logical id in template.yaml
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
"""Of an update that runs SAM's transform again (AWS CloudFormation API Reference, UpdateStack, read 2026-11-20)."""


class Refused(Exception):
    """It cannot be done; the message says why."""


def set_key(session: boto3.Session, stack: str, key: str) -> str:
    """Store the key and choose the provider; return the ARN of the secret.

    Raises:
        Refused: the key is no key, or the stack has no secret of its own.
    """
    if not key.isascii() or not key.isprintable() or len(key.split()) != 1:
        raise Refused("That is not a key: it is empty, or holds spaces or unprintable characters.")
    cloudformation = session.client("cloudformation")
    [found] = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found["Parameters"]}
    if own := parameters.get("AnthropicKeySecretArn"):
        raise Refused(f"The stack reads the key from a secret of yours; put it there: {own}")
    resource = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=SECRET)
    arn: str = resource["StackResourceDetail"]["PhysicalResourceId"]
    session.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=key)
    if parameters["ModelProvider"] != "anthropic":
        _choose_anthropic(cloudformation, stack, parameters)
    return arn


def _choose_anthropic(cloudformation: BaseClient, stack: str, parameters: dict[str, str]) -> None:
    """Update the stack as it is deployed, and wait; `sam deploy` keeps the choice."""
    kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in parameters if name != "ModelProvider"]
    chosen = {"ParameterKey": "ModelProvider", "ParameterValue": "anthropic"}
    cloudformation.update_stack(
        StackName=stack, UsePreviousTemplate=True, Parameters=[*kept, chosen], Capabilities=CAPABILITIES
    )
    _say("the key is stored; now the stack is told to use it, which takes a minute or two")
    cloudformation.get_waiter("stack_update_complete").wait(StackName=stack)


def main() -> None:
    """Ask for the key and store it."""
    parser = argparse.ArgumentParser(prog="make set-key", description="Give a deployed stack its Anthropic key.")
    parser.add_argument("--stack", default="parley", help="name of the stack (STACK=...)")
    stack = parser.parse_args().stack
    region = os.environ.get("AWS_REGION")  # the AWS command line reads it, boto3 does not
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    if key:
        _say("taking the key from ANTHROPIC_API_KEY")
    try:
        key = key or getpass("Anthropic key (not shown): ")
        arn = set_key(boto3.Session(region_name=region), stack, key.strip())
    except (Refused, BotoCoreError, ClientError, WaiterError) as error:
        sys.exit(f"set-key: {error}")
    _say(f"Claude answers from now on; the key is in {arn}")


def _say(words: str) -> None:
    sys.stdout.write(f"set-key: {words}\n")


if __name__ == "__main__":
    main()
