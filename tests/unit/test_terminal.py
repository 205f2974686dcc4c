"""What commands ask a person, and what they do when nobody is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from kesit_cli import exits, keys, show
from kesit_privacy.errors import KesitError
from kesit_privacy.keyfiles import PASSPHRASE, PASSPHRASE_FILE


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)


def says(monkeypatch: pytest.MonkeyPatch, answer: str) -> list[dict[str, object]]:
    """A person who types this; how it was asked."""
    asked: list[dict[str, object]] = []

    def prompt(text: str, **options: object) -> str:
        asked.append({"text": text, **options})
        return answer

    monkeypatch.setattr(typer, "prompt", prompt)
    return asked


def test_a_passphrase_is_asked_for_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(monkeypatch, "şifre")
    assert keys.unlock(Path("a.pem")) == "şifre".encode()
    assert keys.new_passphrase("the key", none=False) == "şifre".encode()
    assert all(question["hide_input"] and question["err"] for question in asked)
    assert asked[1]["confirmation_prompt"]


def test_an_empty_passphrase_leaves_a_new_key_open(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "")
    assert keys.new_passphrase("the key", none=False) is None
    says(monkeypatch, "x" * 1001)
    with pytest.raises(KesitError, match="longer than"):
        keys.new_passphrase("the key", none=False)


def test_the_environment_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(monkeypatch, "typed")
    monkeypatch.setenv(PASSPHRASE, "given")
    assert keys.unlock(Path("a.pem")) == b"given"
    assert keys.new_passphrase("the key", none=False) == b"given"
    assert keys.new_passphrase("the key", none=True) is None
    assert not asked


def test_nobody_is_asked_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(monkeypatch, "typed")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    assert keys.unlock(Path("a.pem")) is None
    assert keys.new_passphrase("the key", none=False) is None
    with pytest.raises(KesitError, match="no terminal to ask on"):
        keys.confirmed("Sure?", yes=False)
    assert not asked


def test_consent_is_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer, "confirm", lambda text, err: True)
    keys.confirmed("Sure?", yes=False)
    monkeypatch.setattr(typer, "confirm", lambda text, err: False)
    with pytest.raises(KesitError, match="Nothing was changed"):
        keys.confirmed("Sure?", yes=False)
    keys.confirmed("Sure?", yes=True)


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x9b31m", "\u202e", "\u2066", "\x07", "\ud800"])
def test_what_others_wrote_steers_no_terminal(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = show.new_table("a")
    table.add_row(f"x{bad}y")
    show.put(show.console(), table)
    show.print_facts(show.console(), [("label", f"x{bad}y")])
    with pytest.raises(SystemExit):
        exits.leave(KesitError(f"x{bad}y", remedy=f"x{bad}y"))
    said = capsys.readouterr()
    assert bad not in said.out + said.err
    assert (said.out + said.err).count("x\ufffd") == 4


def test_facts_wrap_beside_their_label_and_cut_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    path = "folder/" * 20 + "attestation.json"
    show.print_facts(
        show.console(), [("Acknowledged", path), ("Next", "word " * 30), ("Empty", "")]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Acknowledged  {path}"
    assert [line[:13] for line in lines[1:3]] == ["Next         ", " " * 13]
    assert max(len(line) for line in lines[1:]) <= show.WIDTH
    assert lines[-1] == "Empty"
