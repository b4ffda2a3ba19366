"""The filter between asyncpg and the socket: whatever the pieces, each byte goes where it belongs."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from tenantry.router import messages
from tenantry.router.wire import Answer, AnswerFilter, look_for_end


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


@pytest.mark.parametrize("seed", range(300))
async def test_however_the_stream_is_cut_each_answer_and_each_byte_of_asyncpgs_arrives(seed: int) -> None:
    dice = random.Random(seed)
    loop = asyncio.get_running_loop()
    answers = AnswerFilter()
    stream, expected, passed = b"", [], b""
    for _ in range(dice.randrange(1, 5)):
        message_list, answer = unit(dice)
        expected.append(answer)
        for message in message_list:
            if dice.random() < 0.2:
                notice = asynchronous(dice)
                stream += notice
                passed += notice
            stream += message
    units = [loop.create_future() for _ in expected]
    answers.units.extend(units)
    rest = b"".join(
        dice.choice(
            [asynchronous(dice), framed(b"D", dice.randbytes(30)), framed(b"d", dice.randbytes(9)), error("22012")]
        )
        for _ in range(dice.randrange(8))
    )
    stream, passed = stream + rest, passed + rest
    seen = b""
    at = 0
    longest = dice.choice([1, 2, 7, 60, 5000])
    while at < len(stream):
        piece = stream[at : at + dice.randint(1, longest)]
        at += len(piece)
        seen += b"".join(answers.feed(piece)) if answers.units else piece
    assert seen == passed
    assert [told(await one) for one in units] == [told(answer) for answer in expected]


async def test_a_connection_that_goes_away_answers_every_unit_with_what_is_known() -> None:
    loop = asyncio.get_running_loop()
    answers = AnswerFilter()
    units = [loop.create_future() for _ in range(3)]
    answers.units.extend(units)
    answers.feed(framed(b"C", b"COMMIT\0") + framed(b"Z", b"I") + framed(b"C", b"BEGIN\0") + error("57P01"))
    answers.lost(None)
    first, second, third = [await one for one in units]
    assert told(first) == (("COMMIT",), None, False, False)
    assert second.completed == ("BEGIN",)
    assert second.lost
    assert isinstance(second.error, asyncpg.ConnectionDoesNotExistError)
    assert isinstance(second.error.__cause__, asyncpg.AdminShutdownError)
    assert third.completed == ()
    assert third.lost


async def test_an_answer_that_nobody_waits_for_any_more_is_taken_out_all_the_same() -> None:
    answers = AnswerFilter()
    gone = asyncio.get_running_loop().create_future()
    gone.cancel()
    answers.units.append(gone)
    assert answers.feed(framed(b"C", b"COMMIT\0") + framed(b"Z", b"I") + framed(b"D", b"x")) == [
        framed(b"D", b"x")
    ]


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
