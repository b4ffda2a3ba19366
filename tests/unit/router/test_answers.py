"""The filter between asyncpg and the socket: whatever the pieces, each byte goes where it belongs."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from tenantry.router import messages
from tenantry.router.answers import Answer, AnswerFilter, Statement, Travelling, Unit, look_for_end


def framed(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def error(sqlstate: str) -> bytes:
    return framed(b"E", f"SERROR\0VERROR\0C{sqlstate}\0Mit is wrong\0\0".encode())


def asynchronous(dice: random.Random) -> bytes:
    return dice.choice(
        [
            framed(b"S", b"application_name\0tenantry:1\0"),
            framed(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mlook\0\0"),
            framed(b"A", b"\0\0\0\x07channel\0payload Z\0"),
        ]
    )


def unit(dice: random.Random) -> tuple[list[bytes], Answer]:
    """A random answer to one unit: its messages, and what the filter must make of them."""
    stream, tags, failed = [], [], None
    for _ in range(dice.randrange(6)):
        stream += [framed(b"1"), framed(b"2")]
        stream += [framed(b"D", dice.randbytes(dice.randrange(40))) for _ in range(dice.randrange(3))]
        if dice.random() < 0.15:
            failed = dice.choice(["TN001", "23503", "57014"])
            stream.append(error(failed))
            break
        tags.append(dice.choice(["BEGIN", "COMMIT", "CALL", "RESET"]))
        stream.append(framed(b"C", tags[-1].encode() + b"\0"))
    status = dice.choice(b"ITE")
    stream.append(framed(b"Z", bytes([status])))
    wrong = None if failed is None else asyncpg.PostgresError.new({"C": failed})
    return stream, Answer(tuple(tags), wrong, status != ord("I"))


def told(answer: Answer) -> tuple[Any, ...]:
    return answer.completed, answer.error and answer.error.sqlstate, answer.in_transaction, answer.lost


TAGS = ("BEGIN", "RESET", "SET", "COMMIT", "BEGIN", "CALL")


def opening(dice: random.Random, *, carries: bool) -> tuple[list[bytes], list[bytes], Travelling, str | None]:
    """A random answer to an opening: its messages, what of them is asyncpg's, the opening, and its refusal."""
    tags = TAGS[: dice.randrange(1, len(TAGS) + 1)]
    known = messages.answer(*tags) if dice.random() < 0.7 else b""
    travelling = Travelling(len(tags), known, carries=carries)
    stream: list[bytes] = []
    refused_at = dice.randrange(len(tags)) if dice.random() < 0.3 else None
    for at, tag in enumerate(tags):
        if at == refused_at:
            stream += [framed(b"1")] * dice.randrange(2)
            sqlstate = dice.choice(["TN001", "TN005", "57014", "25P02"])
            stream.append(error(sqlstate))
            return stream, [stream[-1]] if carries else [], travelling, sqlstate
        stream += [framed(b"1"), framed(b"2"), framed(b"C", tag.encode() + b"\0")]
    return stream, [], travelling, None


def answered(dice: random.Random) -> list[bytes]:
    """A random answer to one of asyncpg's statements, COPY included."""
    rows = [framed(b"D", dice.randbytes(dice.randrange(40))) for _ in range(dice.randrange(4))]
    copied = [framed(b"H", b"\0\0\0"), framed(b"d", b"Z\0\0\0\5I"), framed(b"c")] if dice.random() < 0.2 else []
    end = [error("22012")] if dice.random() < 0.3 else [framed(b"C", b"SELECT 1\0")]
    return [framed(b"2"), *rows, *copied, *end, framed(b"Z", bytes([dice.choice(b"ITE")]))]


@pytest.mark.parametrize("seed", range(600))
async def test_however_the_stream_is_cut_each_answer_and_each_byte_of_asyncpgs_arrives(seed: int) -> None:
    dice = random.Random(seed)
    seen = b""

    def keep(data: bytes) -> None:
        nonlocal seen
        seen += data

    answers = AnswerFilter(keep)
    stream, passed = b"", b""
    units: list[tuple[Unit, Answer]] = []
    openings: list[tuple[Travelling, str | None]] = []
    statements: list[tuple[Statement, int]] = []

    def say(ours: list[bytes], theirs: list[bytes]) -> None:
        nonlocal stream, passed
        left = list(theirs)
        for message in ours:
            if dice.random() < 0.15:
                notice = asynchronous(dice)
                stream, passed = stream + notice, passed + notice
            stream += message
            if left and message is left[0]:
                passed += left.pop(0)

    def ask_unit() -> None:
        message_list, answer = unit(dice)
        say(message_list, [])
        units.append((Unit(), answer))
        answers.expected.append(units[-1][0])

    for _ in range(dice.randrange(3)):
        ask_unit()
    if dice.random() < 0.8:  # an opening, and a statement behind it
        carries = dice.random() < 0.8
        message_list, theirs, travelling, refusal = opening(dice, carries=carries)
        say(message_list, theirs)
        openings.append((travelling, refusal))
        answers.expected.append(travelling)
        rest = [framed(b"Z", b"E")] if refusal else answered(dice)
        if not carries:
            ask_unit()
        elif dice.random() < 0.5:  # a one-shot's end is behind the statement
            say(rest, rest)
            statements.append((Statement(), rest[-1][5]))
            answers.expected.append(statements[-1][0])
            ask_unit()
            rest = []
    else:
        rest = [asynchronous(dice) for _ in range(dice.randrange(4))] + answered(dice)
        ask_unit()
    say(rest, rest)
    at = 0
    longest = dice.choice([1, 2, 7, 60, 5000])
    while at < len(stream):
        piece = stream[at : at + dice.randint(1, longest)]
        at += len(piece)
        if answers.expected:
            answers.feed(piece)
        else:
            keep(piece)
    assert seen == passed
    assert not answers.expected
    for one, answer in units:
        assert told(await one.answered()) == told(answer)
    for travelling, refusal in openings:
        if refusal is None:
            assert (travelling.left, travelling.refusal) == (0, None)
        else:
            assert travelling.left
            assert travelling.refusal is not None
            assert told(travelling.refusal)[1] == refusal
    assert [one.status for one, _ in statements] == [status for _, status in statements]


async def test_a_connection_that_goes_away_answers_every_unit_with_what_is_known() -> None:
    answers = AnswerFilter(lambda _: None)
    units = [Unit() for _ in range(3)]
    answers.expected.extend(units)
    answers.feed(framed(b"C", b"COMMIT\0") + framed(b"Z", b"I") + framed(b"C", b"BEGIN\0") + error("57P01"))
    answers.lost(None)
    first, second, third = [await one.answered() for one in units]
    assert told(first) == (("COMMIT",), None, False, False)
    assert second.completed == ("BEGIN",)
    assert second.lost
    assert isinstance(second.error, asyncpg.ConnectionDoesNotExistError)
    assert isinstance(second.error.__cause__, asyncpg.AdminShutdownError)
    assert third.completed == ()
    assert third.lost


@pytest.mark.parametrize("severity", ["ERROR", "FATAL"])
async def test_an_opening_whose_session_ends_is_lost_and_one_that_is_refused_is_not(severity: str) -> None:
    seen: list[bytes] = []
    answers = AnswerFilter(seen.append)
    travelling = Travelling(2, messages.answer("BEGIN", "CALL"), carries=True)
    answers.expected.append(travelling)
    wrong = framed(b"E", f"S{severity}\0V{severity}\0C57P01\0Mends\0\0".encode())
    answers.feed(messages.answer("BEGIN") + wrong)
    assert travelling.refusal is not None
    assert travelling.refusal.lost == (severity == "FATAL")
    assert seen == [wrong], "asyncpg's statement has its answer"


async def test_who_stops_waiting_for_an_answer_changes_nothing_for_others() -> None:
    seen: list[bytes] = []
    said: list[Answer] = []
    answers = AnswerFilter(seen.append)
    unit = Unit()
    unit.on_answer(said.append)
    answers.expected.append(unit)
    one, other = (asyncio.create_task(unit.answered()) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    answers.feed(framed(b"C", b"COMMIT\0") + framed(b"Z", b"I") + framed(b"D", b"x"))
    assert said == [await other] == [await unit.answered()]
    assert seen == [framed(b"D", b"x")]
    with pytest.raises(asyncio.CancelledError):
        await one


def test_a_statement_goes_as_the_unnamed_one_with_its_parameters_apart_from_its_text() -> None:
    assert messages.statement("SELECT $1, $2", "é", None) == (
        b"P\x00\x00\x00\x15\x00SELECT $1, $2\x00\x00\x00"
        b"B\x00\x00\x00\x16\x00\x00\x00\x00\x00\x02\x00\x00\x00\x02\xc3\xa9\xff\xff\xff\xff\x00\x00"
        b"E\x00\x00\x00\x09\x00\x00\x00\x00\x00"
    )


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK", "SELECT 1"])
def test_the_servers_word_for_an_ended_transaction_is_noticed_however_it_is_cut(word: str) -> None:
    """Cut at every byte, in two and into single bytes."""
    said = framed(b"C", b"INSERT 0 1\0") + framed(b"C", word.encode() + b"\0") + framed(b"Z", b"T")
    for at in range(1, len(said)):
        assert noticed([said[:at], said[at:]]) is (word != "SELECT 1"), at
    assert noticed([said[i : i + 1] for i in range(len(said))]) is (word != "SELECT 1")
    assert noticed([said]) is (word != "SELECT 1")


def noticed(pieces: list[bytes]) -> bool:
    seam, found = b"", False
    for piece in pieces:
        ended, seam = look_for_end(seam, piece)
        found = found or ended
    return found
