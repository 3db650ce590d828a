"""Writes the template as CloudFormation gets it, after SAM's transform: what tests and scanners look at.

Run it with the Python of `.tools/sam`; it reads template.yaml from stdin and writes JSON. No AWS account is asked.
"""

import json
import logging
import sys
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

REGION = "eu-central-1"


def translate(document: dict[str, Any]) -> dict[str, Any]:
    """Run SAM's transform with the parameters' defaults, as if `sam package` had uploaded what was built."""
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        for name in {"CodeUri", "ContentUri"} & properties.keys():
            if not properties[name].startswith("s3://"):
                properties[name] = "s3://bucket/built"
    values = {name: each.get("Default", "") for name, each in document["Parameters"].items()}
    session = boto3.session.Session(region_name=REGION)
    translated: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(document, values)
    return translated


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # features of SAM that are off
    json.dump(translate(yaml_parse(sys.stdin.read())), sys.stdout, indent=1)
