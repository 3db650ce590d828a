"""The `Table` port in one SQLite file: the embedded default, and the store of tests and benchmarks.

The rules are DynamoDB's, so that what works here works there. What the items mean is not known here.

    table.py    the port: reads, and the door to the writer
    writer.py   the one thread that writes; many writes share a commit
    writes.py   what one write checks and changes
    rows.py     how an item lies in a row, and what an item may be
"""

from parley.adapters.sqlite.table import SqliteTable

__all__ = ["SqliteTable"]
