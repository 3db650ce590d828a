"""What a decision is bound to: the hash of a call's tool and arguments, and the name of its approval."""

import hashlib
import json
import re
from typing import Any


def binding(name: str, arguments: dict[str, Any]) -> str:
    """Hash a tool's name and arguments, whatever the order of their keys (hex SHA-256)."""
    canonical = json.dumps([name, arguments], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def approval_id(session_id: str, call_id: str) -> str:
    """Name the approval of a call; the name says which session it is in."""
    return f"appr_{session_id.removeprefix('sesn_')}_{call_id.removeprefix('sevt_')}"


def asked_of(approval_id: str) -> tuple[str, str] | None:
    """Read the name of an approval: the ids of its session and its call; `None` if it can name none."""
    found = re.fullmatch(r"appr_([A-Za-z0-9]{1,48})_([A-Za-z0-9]{1,48})", approval_id, re.ASCII)
    return (f"sesn_{found[1]}", f"sevt_{found[2]}") if found else None
