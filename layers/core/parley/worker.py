"""The queue's door: a message of the queue is a hint, or a job that another system has put there.

    hint    {"hint": {"tenant": "…", "session_id": "…"}}           from Parley itself: something needs a driver
    job     {"agent_id": "…", "input": "…" | […], "session_id"?, "task_id"?, "owner"?, "idempotency_key"?}
    event   an EventBridge event whose `detail` is a job; its `id` is the job's key unless the job has one

Decides what a message asks for, and what becomes of one that cannot be done: it is tried again, and its last delivery
leaves a failed run where people will see it. Nobody listens: what the run says is in the log.
"""

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from parley.core import compose
from parley.core.agent import Agent
from parley.core.content import Said, content_of, text_bytes
from parley.core.errors import IdempotencyMismatch, Invalid, ParleyError, SessionBusy
from parley.core.limits import MAX_INPUT_BYTES
from parley.core.run import Fail
from parley.core.scribe import Scribe
from parley.core.value import Content
from parley.ports import ConditionFailed
from parley.runner import Listener, Runner
from parley.state import Principal
from parley.store import Done, Head, Once, Ref
from parley.store.head import milliseconds
from parley.store.idempotency import find

log = logging.getLogger("parley")

Driver = asyncio.Task[None]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=256)]

FAILED = "job_failed"
"""Code of a run whose job failed in a way that nobody has foreseen; the log has where."""

UNREADABLE = "unknown"
"""Agent id of the session that shows a message of which not even the agent could be read."""


class Hint(BaseModel):
    """A session that needs a driver."""

    model_config = ConfigDict(extra="forbid")

    tenant: str
    session_id: str


class Job(BaseModel):
    """A run that another system asks for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    agent_id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")]
    input: Said
    session_id: Id | None = None
    """Go on in this session, after what runs there; without it, a new one begins."""
    task_id: Reference | None = None
    owner: Reference | None = None
    """Whose session it is; a session that exists keeps its owner, and this must be the same."""
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    """The same key with the same job has one effect; without it, the message's own id is the key."""

    @field_validator("input")
    @classmethod
    def _can_be_asked(cls, value: Said) -> Said:
        if text_bytes(content_of(value)) > MAX_INPUT_BYTES:
            raise ValueError(f"is larger than {MAX_INPUT_BYTES:,} bytes")
        return value

    @property
    def content(self) -> Content:
        """What is asked, as it is stored."""
        return content_of(self.input)


class Body(BaseModel):
    """A message that holds a hint."""

    model_config = ConfigDict(extra="forbid")

    hint: Hint


class Envelope(BaseModel):
    """What matters of an EventBridge event."""

    id: str
    detail: dict[str, Any]
    detail_type: str = Field(alias="detail-type")


@dataclass(frozen=True, slots=True)
class Worker:
    """Takes messages; `max_receives` is after how many deliveries the queue gives one up."""

    runner: Runner
    principal: Principal
    max_receives: int

    async def take(self, body: str, message_id: str, receives: int = 1) -> None:
        """Do what a message asks for, to its end or as far as this process's time allows.

        Raises:
            Exception: it could not be done; the queue delivers it again, and gives it up in the end.
        """
        try:
            driver = await self._begin(body, message_id)
        except Exception as error:
            if receives < self.max_receives or await self._give_up(body, message_id, error):
                raise
            return
        if driver:
            await asyncio.wait({driver})

    async def _give_up(self, body: str, message_id: str, error: Exception) -> bool:
        """Leave something to see of a message that was delivered for the last time; say whether it is a dead letter."""
        match _readable(body):
            case Hint() as hint:  # its session shows what is wrong, and the sweeper hints again
                code = error.code if isinstance(error, ParleyError) else FAILED
                log.warning("hint_given_up", extra={"session_id": hint.session_id, "code": code})
                return False
            case (job, key):
                if await self._stored(self._once(job, key or message_id)):  # by an earlier delivery: its run goes on
                    return False
                await self._bury(job, body, message_id, error)
            case None:
                await self._bury(None, body, message_id, error)
        return True

    async def _stored(self, once: Once) -> bool:
        try:
            return await find(self.runner.store.table, once) is not None
        except IdempotencyMismatch:  # another job had this key
            return False

    def _once(self, job: Job, key: str) -> Once:
        return Once.of(self.principal.tenant, "", "JOB", "", key, job.model_dump_json(exclude_none=True).encode())

    async def _begin(self, body: str, message_id: str) -> Driver | None:
        match _parse(body):
            case Hint() as hint:
                return await self._resume(Ref(hint.tenant, hint.session_id))
            case (Job() as job, key):
                return await self._run(job, self._once(job, key or message_id))

    async def _resume(self, ref: Ref) -> Driver | None:
        return None if self.runner.drives(ref) else await self.runner.resume(ref)

    async def _run(self, job: Job, once: Once) -> Driver | None:
        runner, store = self.runner, self.runner.store
        agent = runner.agents.get(job.agent_id)
        if agent is None:
            raise Invalid(f"There is no agent '{job.agent_id}'.", code="agent_not_found")
        tenant = self.principal.tenant
        ref = Ref(tenant, job.session_id or store.log.ids.new("sesn"))
        new = None if job.session_id else self._head(ref, job.agent_id, job)
        try:
            begun = await store.claims.begin_once(
                ref, agent, job.content, new=new, once=once, owner=job.owner, task_id=job.task_id
            )
        except SessionBusy:
            return await self._queue(ref, job, once)
        if isinstance(begun, Done):
            return await self._resume(Ref(tenant, begun.session_id))
        runner.start(begun, agent)
        return runner.live[begun.run_id].task

    async def _queue(self, ref: Ref, job: Job, once: Once) -> Driver | None:
        """Let the job wait for its turn; whoever ends the present run gives the hint."""
        store = self.runner.store
        message = compose.user_message(Scribe(store.log.ids.new, store.log.clock.now, None, job.task_id), job.content)
        try:
            await store.inputs.put(ref, [message], owner=job.owner, once=once)
        except ConditionFailed as error:
            raise Invalid("The session was deleted, or the same job is being stored.", code="job_refused") from error
        return await self._resume(ref)

    async def _bury(self, job: Job | None, body: str, message_id: str, error: Exception) -> None:
        """Leave a failed run in the job's session, or in one of its own: nothing ends invisibly."""
        store = self.runner.store
        agent_id, content = (job.agent_id, job.content) if job else (UNREADABLE, body)
        agent = self.runner.agents.get(agent_id) or Agent(id=agent_id, prompt="-")
        once = Once.of(self.principal.tenant, "", "BURIED", "", message_id, body.encode())
        owner, task_id = (job.owner, job.task_id) if job else (None, None)
        code, told = (error.code, error.message) if isinstance(error, ParleyError) else (FAILED, type(error).__name__)
        why = Fail(code, f"The queue's message '{message_id}' was given up: {told}")  # stored with the beginning
        for session_id in ([job.session_id] if job and job.session_id else []) + [None]:
            ref = Ref(self.principal.tenant, session_id or store.log.ids.new("sesn"))
            new = None if session_id else self._head(ref, agent_id, job)
            try:
                begun = await store.claims.begin_once(
                    ref, agent, content, new=new, once=once, owner=owner, task_id=task_id, refusal=why
                )
            except ParleyError as refused:
                log.warning("job_not_shown", extra={"session_id": ref.id, "code": refused.code})
                continue
            if not isinstance(begun, Done):
                await _over(self.runner.start(begun, agent))
            return

    def _head(self, ref: Ref, agent_id: str, job: Job | None) -> Head:
        now = milliseconds(self.runner.engine.clock.now())
        owner = job.owner if job and job.owner else self.principal.owner
        return Head(ref.id, agent_id, owner, now, now, task_id=job.task_id if job else None, source="queue")


async def _over(listener: Listener) -> None:
    """Wait until a driver has said all."""
    while await listener.get() is not None:
        pass


def _parse(body: str) -> Hint | tuple[Job, str | None]:
    """Read a message: a hint, or a job and its key.

    Raises:
        Invalid: it is neither; the message says what is wrong, and quotes nothing.
    """
    try:
        said = json.loads(body)
        if "hint" in said:
            return Body.model_validate(said).hint
        if "detail-type" in said:
            envelope = Envelope.model_validate(said)
            job = Job.model_validate(envelope.detail)
            return job, job.idempotency_key or envelope.id
        job = Job.model_validate(said)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)
        raise Invalid(told, code="job_invalid") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid("The message is not a JSON object.", code="job_invalid") from error
    return job, job.idempotency_key


def _readable(body: str) -> Hint | tuple[Job, str | None] | None:
    try:
        return _parse(body)
    except Invalid:
        return None
