"""A runtime loop for AWS Lambda that streams what an ASGI app answers.

Lambda's own Python runtime sends an answer when it is whole. This one speaks the same Runtime API and sends every piece
when it is made. Standard library only; to be deleted the day AWS streams from Python.
"""
