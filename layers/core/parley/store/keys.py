"""How items are addressed. Nothing else in Parley knows these formats.

item            PK                        SK
shown           S#<tenant>#<session>      M                   in index `list`; when deleted in `work`
lock            S#<tenant>#<session>      L
watcher's mark  S#<tenant>#<session>      LW                  beside the lock: both are read at once
entry           S#<tenant>#<session>      E#<first seq, 12 digits>
draft           S#<tenant>#<session>      E~<epoch>#<n>       sorts behind every entry: both are read at once
queued input    S#<tenant>#<session>      Q#<in id>#<nn>      in index `work`
run             S#<tenant>#<session>      R#<run>             in index `work` while open
approval        S#<tenant>#<session>      A#<call>            in index `list`; in `work` while it can expire
idempotency     I#<tenant>#<hash>         I
audit           AU#<tenant>#<YYYY-MM>     <milliseconds, 13 digits>#<id>
agent's day     U#<tenant>#<agent>#<day>  U
secret          SECRET                    <name>
"""

from dataclasses import dataclass

from parley.ports import Key

SHOWN = "M"
LOCK = "L"
WATCHED = "LW"
ENTRY = "E#"
DRAFT = "E~"
QUEUED = "Q#"
RUN = "R#"
APPROVAL = "A#"
AFTER = "\U0010ffff"
"""Sorts after every other character."""

WORK_PK = "WORK"


@dataclass(frozen=True, slots=True)
class Ref:
    """Which session of which tenant."""

    tenant: str
    id: str

    @property
    def pk(self) -> str:
        """Partition of all that belongs to the session."""
        return f"S#{self.tenant}#{self.id}"

    @classmethod
    def of(cls, pk: str) -> "Ref":
        """Read the partition of any item that belongs to a session."""
        _, tenant, session_id = pk.split("#", 2)
        return cls(tenant, session_id)

    def shown(self) -> Key:
        """Address of what lists show."""
        return Key(self.pk, SHOWN)

    def lock(self) -> Key:
        """Address of the lock."""
        return Key(self.pk, LOCK)

    def entry(self, first_seq: int) -> Key:
        """Address of the entry whose first event is `first_seq`."""
        return Key(self.pk, entry_sk(first_seq))

    def watched(self) -> Key:
        """Address of the watcher's mark."""
        return Key(self.pk, WATCHED)

    def draft(self, epoch: int, n: int) -> Key:
        """Address of the `n`-th piece of a driver's drafts."""
        return Key(self.pk, f"{DRAFT}{epoch:012d}#{n:06d}")

    def at(self, sk: str) -> Key:
        """Address of an item of this session by its sort key."""
        return Key(self.pk, sk)

    def run(self, run_id: str) -> Key:
        """Address of a run's row."""
        return Key(self.pk, RUN + run_id)

    def approval(self, call_id: str) -> Key:
        """Address of the row of a call's approval."""
        return Key(self.pk, APPROVAL + call_id)

    def blob(self, name: str) -> str:
        """Key of a blob of this session."""
        return f"{self.tenant}/{self.id}/{name}"


def entry_sk(first_seq: int) -> str:
    """Sort key of an entry: numbers sort as text."""
    return f"{ENTRY}{first_seq:012d}"


def list_keys(tenant: str, activity_ms: int, session_id: str) -> dict[str, str]:
    """Attributes that put a session into the index `list`, newest activity last."""
    return {"list_pk": f"T#{tenant}", "list_sk": f"{activity_ms:013d}#{session_id}"}


def approvals_pk(tenant: str, status: str) -> str:
    """Partition of the index `list` that holds the approvals of a status."""
    return f"A#{tenant}#{status}"


def approval_keys(tenant: str, status: str, requested_ms: int, approval_id: str) -> dict[str, str]:
    """Attributes that put an approval into the index `list`, the newest last."""
    return {"list_pk": approvals_pk(tenant, status), "list_sk": f"{requested_ms:013d}#{approval_id}"}


def work_keys(ref: Ref, sk: str) -> dict[str, str]:
    """Attributes that put an item into the index `work`: what somebody must still look at."""
    return {"work_pk": WORK_PK, "work_sk": f"{ref.tenant}#{ref.id}#{sk}"}


def idempotency(tenant: str, digest: str) -> Key:
    """Address of an idempotency row."""
    return Key(f"I#{tenant}#{digest}", "I")


def audit_pk(tenant: str, month: str) -> str:
    """Partition of what people did in a month, such as `2026-11`."""
    return f"AU#{tenant}#{month}"


def audit_sk(at_ms: int, id: str = "") -> str:
    """Sort key of an audit row; without an id it sorts before all of that millisecond."""
    return f"{at_ms:013d}#{id}"


def at_of(sk: str) -> int:
    """Read the milliseconds of an audit row's sort key."""
    return int(sk.split("#", 1)[0])


def allowance(tenant: str, agent_id: str, day: str) -> Key:
    """Address of the counter of what an agent spends in a day."""
    return Key(f"U#{tenant}#{agent_id}#{day}", "U")


def secret(name: str) -> Key:
    """Address of a random secret that this deployment made for itself."""
    return Key("SECRET", name)
