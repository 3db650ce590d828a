"""The API held against its own description: schemathesis sends what OpenAPI allows, and what it does not."""
