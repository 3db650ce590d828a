"""The `Table` port on DynamoDB: the store of a deployment.

Decides which call an op becomes and what each of DynamoDB's errors means. What the items mean is not known
here.

    table.py       the port: reads, writes, repeats of what did not go through
    requests.py    ops as expressions
    values.py      Python values as attribute values, and back
    failures.py    DynamoDB's errors as ours
    schema.py      the table itself, for emulators; a deployment has it from template.yaml
"""

from parley.adapters.dynamodb.schema import TABLE_PROPERTIES
from parley.adapters.dynamodb.table import DynamoTable, connect

__all__ = ["TABLE_PROPERTIES", "DynamoTable", "connect"]
