"""The demo agent's tools: money is counted in cents, and every payment is one line that anybody can count."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import agent as wallet
import pytest
from parley import ToolContext

START = {"balance": "100.00"}


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setenv("WALLET_LEDGER", str(path))
    monkeypatch.setenv("WALLET_PAY_SECONDS", "0")
    return path


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns a thousand times more often than usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


def context(key: str = "sesn_1.sevt_1", *, owner: str = "ann", tenant: str = "acme") -> ToolContext:
    return ToolContext(tenant, owner, "sesn_1", "run_1", "sevt_1", key)


def pay(amount: str, to: str = "alice", by: ToolContext | None = None) -> dict[str, str]:
    paid: dict[str, str] = wallet.pay(Decimal(amount), to, by or context())
    return paid


def lines(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def test_a_new_wallet_holds_one_hundred() -> None:
    assert wallet.balance(context()) == START


def test_a_payment_takes_its_amount_and_one_percent(ledger: Path) -> None:
    paid = pay("5")

    assert paid == {"payee": "alice", "amount": "5.00", "fee": "0.05", "balance": "94.95"}
    assert wallet.balance(context()) == {"balance": "94.95"}
    (line,) = lines(ledger)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "tenant": "acme",
        "owner": "ann",
        "session_id": "sesn_1",
        "idempotency_key": "sesn_1.sevt_1",
        "amount": "5.00",
        "fee": "0.05",
        "to": "alice",
    }


def test_everybody_has_a_wallet_of_their_own() -> None:
    pay("5", by=context(owner="ann"))

    assert wallet.balance(context(owner="bob")) == START
    assert wallet.balance(context(owner="ann", tenant="other")) == START


@pytest.mark.parametrize(
    "amount", ["0", "-1", "0.001", "1.234", "NaN", "Infinity", "1e999999", "-1e999999", "1e-9999999"]
)
def test_an_amount_that_is_no_money_is_refused(ledger: Path, amount: str) -> None:
    with pytest.raises(ValueError, match=r"more than 0\.00"):
        pay(amount)

    assert lines(ledger) == []


def test_more_than_there_is_cannot_be_paid(ledger: Path) -> None:
    with pytest.raises(ValueError, match=r"100\.01 is more than the 100\.00"):
        pay("99.01")

    assert lines(ledger) == []


def test_a_donation_has_no_fee_and_asks_first(ledger: Path) -> None:
    donated = wallet.donate(Decimal("5.00"), "alice", context())

    assert donated == {"payee": "alice", "donated": "5.00", "balance": "95.00"}
    assert wallet.balance(context()) == {"balance": "95.00"}
    assert [line["fee"] for line in lines(ledger)] == ["0.00"]
    assert [tool.name for tool in wallet.agent.tools if tool.permission == "always_ask"] == ["donate"]


def test_the_last_cent_can_be_paid() -> None:
    pay("99.00")
    paid_too = wallet.pay(Decimal("0.01"), "bob", context(owner="bob"))

    assert wallet.balance(context()) == {"balance": "0.01"}
    assert paid_too["fee"] == "0.01"


@pytest.mark.usefixtures("hasty_threads")
def test_payments_at_the_same_time_do_not_overdraw(ledger: Path) -> None:
    everybody = threading.Barrier(20)

    def attempt(owner: str) -> bool:
        everybody.wait()
        try:
            pay("10", by=context(owner=owner))
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(20) as threads:
        succeeded = [sum(threads.map(attempt, [f"owner {number}"] * 20)) for number in range(10)]

    assert succeeded == [9] * 10
    assert len(lines(ledger)) == 90
    assert wallet.balance(context(owner="owner 0")) == {"balance": "9.10"}


async def test_the_same_question_gives_the_same_quote_and_pays_nothing(ledger: Path) -> None:
    first = await wallet.quote(Decimal("7.50"), "bob", context("sesn_1.sevt_1"))
    again = await wallet.quote(Decimal("7.50"), "bob", context("sesn_1.sevt_1"))
    other = await wallet.quote(Decimal("7.50"), "bob", context("sesn_1.sevt_2"))

    assert first == again
    assert first["quote_id"] != other["quote_id"]
    assert {**first, "quote_id": ""} == {
        "quote_id": "",
        "payee": "bob",
        "amount": "7.50",
        "fee": "0.08",
        "total": "7.58",
    }
    assert lines(ledger) == []


def test_each_tool_says_what_repeating_it_would_do() -> None:
    effects = {tool.name: tool.effect for tool in wallet.agent.tools}

    assert effects == {
        "balance": "read",
        "quote": "idempotent",
        "pay": "non_idempotent",
        "donate": "non_idempotent",
    }


@pytest.mark.parametrize("amount", [5, 5.1, "5.10"])
def test_an_amount_may_come_as_a_number_or_as_text(amount: object) -> None:
    values = wallet.pay.parse({"amount": amount, "to": "alice"})

    assert values["amount"] in (Decimal(5), Decimal("5.1"))


def test_the_ledger_may_be_given_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_LEDGER", str(tmp_path / "deep" / "down"))

    pay("1")

    assert len(lines(tmp_path / "deep" / "down" / "wallet-ledger.jsonl")) == 1


@pytest.mark.parametrize(("name", "folder"), [("AWS_LAMBDA_FUNCTION_NAME", "/tmp"), ("NOTHING", ".parley")])
def test_without_a_setting_the_ledger_lies_where_one_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str
) -> None:
    monkeypatch.delenv("WALLET_LEDGER")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "execute")

    assert wallet._ledger() == Path(folder, "wallet-ledger.jsonl")


def test_a_payer_killed_after_the_money_moved_leaves_the_line_and_no_result(ledger: Path) -> None:
    script = "import agent, decimal; from parley import ToolContext as C; "
    script += "print(agent.pay(decimal.Decimal(5), 'alice', C('t', 'o', 's', 'r', 'c', 's.c')))"
    environment = {**os.environ, "WALLET_PAY_SECONDS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    payer = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)

    wait_until(lambda: len(lines(ledger)) == 1)
    payer.send_signal(signal.SIGKILL)
    said, _ = payer.communicate()

    assert said == b""
    assert len(lines(ledger)) == 1


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
