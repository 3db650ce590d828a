"""The edges on Lambda, one a trigger: they translate what came in and what goes out, and nothing else.

`http` for API Gateway, `queue` for SQS, `schedule` for the sweeper's rounds. One invocation at a time in a process, on
one event loop for its life: clients belong to the loop that they were first used on.
"""
