"""The demo agent: a wallet of test money. Yours is a file beside it, which no upgrade touches (docs/guide/agents.md).

An agent is a prompt and tools. A tool is a function: its type hints become the schema, its docstring is what
the model reads about it, and its `effect` says what Parley may do when a call was interrupted. `def` runs in
a thread, `async def` in the event loop. What a tool returns reaches the model as JSON; what it raises reaches
it as an error, and the run goes on.
"""

import fcntl
import hashlib
import json
import os
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from parley import Agent, ToolContext, tool
from pydantic import Field

START_CENTS = 100_00

Amount = Annotated[Decimal, Field(description="An amount of test money with at most two decimals, like 12.50.")]
Payee = Annotated[str, Field(description="Who gets the money.", min_length=1, max_length=100)]


@tool(effect="read")
def balance(context: ToolContext) -> dict[str, str]:
    """Look up the test money that the person has left."""
    return {"balance": _money(START_CENTS - _spent(_ledger(), context))}


@tool(effect="idempotent")
async def quote(amount: Amount, to: Payee, context: ToolContext) -> dict[str, str]:
    """Work out what a payment would cost, fee included, without making it."""
    cents = _cents(amount)
    key = context.idempotency_key.encode()  # the same when Parley asks again, so the quote is the same too
    return {
        "quote_id": f"q_{hashlib.sha256(key).hexdigest()[:8]}",
        "payee": to,
        "amount": _money(cents),
        "fee": _money(_fee(cents)),
        "total": _money(cents + _fee(cents)),
    }


@tool(effect="non_idempotent")
def pay(amount: Amount, to: Payee, context: ToolContext) -> dict[str, str]:
    """Pay, send, give or transfer an amount to somebody. Ask for a `quote` first: its total is what is deducted."""
    cents = _cents(amount)
    left = _spend(context, cents, _fee(cents), to)
    return {"payee": to, "amount": _money(cents), "fee": _money(_fee(cents)), "balance": _money(left)}


@tool(effect="non_idempotent", permission="always_ask")
def donate(amount: Amount, to: Payee, context: ToolContext) -> dict[str, str]:
    """Donate to a cause. Nobody charges a fee for that, and a person has to agree first."""
    cents = _cents(amount)
    left = _spend(context, cents, 0, to)
    return {"payee": to, "donated": _money(cents), "balance": _money(left)}


agent = Agent(
    id="wallet",
    name="Wallet",
    description="Looks after a wallet of test money: tells the balance, quotes fees, pays, and donates when you agree.",
    prompt=(
        "You look after a person's wallet. The money in it is test money, and you say so when somebody asks. "
        "Before you pay, get a quote and tell what it will cost in all. Pay only what was asked for, once. "
        "When a payment fails, or nobody knows whether it happened, say so plainly and do not try again "
        "unless you are asked to. Answer in a sentence or two."
    ),
    tools=(balance, quote, pay, donate),
)


# The "bank": a file with one line per payment, so that anybody can count them.


def _ledger() -> Path:
    on_lambda = "AWS_LAMBDA_FUNCTION_NAME" in os.environ
    folder = Path("/tmp" if on_lambda else ".parley")  # noqa: S108 - the only place where Lambda can write
    path = Path(os.environ.get("WALLET_LEDGER", folder))
    path = path if path.suffix == ".jsonl" else path / "wallet-ledger.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _spend(context: ToolContext, cents: int, fee: int, to: str) -> int:
    """Move money and return what is left."""
    total = cents + fee
    _work()
    with _ledger().open("a") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)  # one payment at a time, whichever process makes it
        left = START_CENTS - _spent(_ledger(), context) - total
        if left < 0:
            raise ValueError(f"{_money(total)} is more than the {_money(left + total)} that are left.")
        _append(ledger.fileno(), context, amount=_money(cents), fee=_money(fee), to=to)
    _work()
    return left


def _append(ledger: int, context: ToolContext, **payment: str) -> None:
    """Write one line in one piece (the file is open for appending), and see it onto the disk."""
    line: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "tenant": context.tenant,
        "owner": context.owner,
        "session_id": context.session_id,
        "idempotency_key": context.idempotency_key,
        **payment,
    }
    os.write(ledger, json.dumps(line).encode() + b"\n")
    os.fsync(ledger)


def _spent(ledger: Path, context: ToolContext) -> int:
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    payments = [json.loads(line) for line in lines]
    mine = [p for p in payments if (p["tenant"], p["owner"]) == (context.tenant, context.owner)]
    return sum(round(100 * (Decimal(p["amount"]) + Decimal(p["fee"]))) for p in mine)


def _cents(amount: Decimal) -> int:
    """Turn an amount into whole cents; money is never a float."""
    cents = amount * 100 if amount.is_finite() and abs(amount) < 10**10 else Decimal(0)
    if cents <= 0 or cents % 1:
        raise ValueError("An amount must be more than 0.00 and have at most two decimals.")
    return int(cents)


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _fee(cents: int) -> int:
    """One percent, rounded up to a cent."""
    return -(-cents // 100)


def _work() -> None:
    """Take the time that a real payment takes, half of it before and half of it after the money moves."""
    time.sleep(float(os.environ.get("WALLET_PAY_SECONDS", "0.5")) / 2)
