"""What zlib is told to expect in an entry, so that a short one is small too: an entry is paid for by the kilobyte.

Never change it: what was written with it is read with it. A better one gets a name and a codec byte of its own.
"""

PRIMER = b"""
"type":"tool.outcome_unknown","tool_use_id":"sevt_","type":"tool.outcome_decided","outcome":"happened","decided_by":"
"type":"session.error","error":{"type":"model_overloaded_error","message":"","retry_status":{"type":"retrying"},"code":"
"type":"session.status_rescheduled","reason":"model_retry","after_seconds":0.5}
"type":"run.failed","code":"","message":"","retryable":false,"usage":{"input_tokens":
"type":"agent.thinking","thinking":"The user wants me to ","signature":"
"type":"tool.intended","tool_use_id":"sevt_01","effect":"non_idempotent","idempotency_key":"sesn_01.sevt_01","attempt":1}
"type":"agent.tool_result","tool_use_id":"sevt_01","name":"","content":[{"type":"text","text":"{\\"}],"is_error":false,"duration_ms":
"type":"agent.tool_use","name":"","input":{"},"provider_id":"toolu_01","evaluated_permission":"allow"}
"type":"user.message","content":[{"type":"text","text":"Please can you what is my "}]}
"type":"run.started","agent_id":"","agent_version":1
"type":"session.status_running"}
"type":"run.claimed","epoch":1}
{"id":"sevt_01M","created_at":"2026-11-20T12:00:00.000Z","processed_at":"2026-11-20T12:00:00.000Z","run_id":"run_01M","task_id":"
"type":"span.model_request_start"}
"type":"agent.message","content":[{"type":"text","text":" the and to of a in is that for it you with on are this be as I have your "}],"author":{"agent_id":"","name":"","model":"claude-sonnet-5-5"}}
"type":"span.model_request_end","model_request_start_id":"sevt_01M","model_usage":{"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0},"is_error":false,"stop_reason":"tool_use","duration_ms":
"type":"run.finished","status":"completed_with_errors","stop_reason":"end_turn","usage":{"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0},"duration_ms":
"type":"session.status_idle","stop_reason":{"type":"requires_action","event_ids":["sevt_01M"]}}
"type":"session.status_idle","stop_reason":{"type":"end_turn"}}
{"id":"sevt_01M","created_at":"2026-11-20T12:00:00.000Z","processed_at":"2026-11-20T12:00:00.000Z","run_id":"run_01M","type":"
"""
