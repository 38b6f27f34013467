"""Tests of `broker.witness.cosign`: the table of the protocol, and whatever else is sent."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.audit.log.merkle import EMPTY_ROOT
from broker.audit.log.note import NoteError, SignatureLine, Signer, Verifier, open_note, render
from broker.errors import ConfigError
from broker.witness.cosign import MAX_BODY_BYTES, MAX_PROOF, Cosigned, Refused, Request, Suspicion, TrustedLogs, judge
from tests.audit.log.tree import flips, key
from tests.witness.logs import NOW, ORIGIN, OTHER, GrowingLog, cosigner, request

LOG, FORK = GrowingLog(), GrowingLog(forked_at=1)
WITNESS = cosigner()
TRUSTED = TrustedLogs([LOG.signer.verifier, GrowingLog(OTHER).signer.verifier])
ROOT = b64encode(bytes(32)).decode()

EXAMPLE = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
"""


def answer(body: bytes, known: bytes | None = None) -> Cosigned | Refused:
    """Of a witness that knows the two logs."""
    try:
        return judge(Request.parse(body), known, TRUSTED, WITNESS, NOW)
    except NoteError as error:
        return Refused(400, str(error))


def signed(text: str, *signers: Signer) -> bytes:
    """A note with any text."""
    return render(text, [signer.sign(text) for signer in signers or (LOG.signer,)])


def wrong(line: SignatureLine) -> SignatureLine:
    """The same with one bit changed."""
    return SignatureLine(line.name, line.key_id, bytes([line.signature[0] ^ 1]) + line.signature[1:])


# ---- what is cosigned


@pytest.mark.parametrize("old", range(9))
def test_a_log_that_grew_is_cosigned(old: int) -> None:
    """From every size to every size, and the same size again."""
    for size in range(old, 18):
        known = LOG.note(old) if old else None
        given = answer(LOG.body(old, size), known)
        assert isinstance(given, Cosigned)
        note = open_note(LOG.note(size)[: LOG.note(size).index(b"\n\n") + 2] + given.lines, [WITNESS.verifier])
        assert [each.time_s for each in note.verified] == [NOW]
        assert open_note(given.note, [LOG.signer.verifier, WITNESS.verifier]).text == LOG.checkpoint(size).text()
        assert given.size == size


def test_only_signatures_that_were_verified_are_kept() -> None:
    """Those of keys that the witness does not know are ignored, and do not go into its own note."""
    text = LOG.checkpoint(2).text()
    stranger = Signer("stranger.example", key("stranger"))
    given = answer(request(0, [], signed(text, stranger, LOG.signer)))
    assert isinstance(given, Cosigned)
    assert given.note.count("— ".encode()) == 2
    assert b"stranger" not in given.note


def test_while_a_key_is_rotated_both_count() -> None:
    """A log with two keys is known by either."""
    new = Signer(ORIGIN, key("new"))
    trusted = TrustedLogs([LOG.signer.verifier, new.verifier, new.verifier])
    text = LOG.checkpoint(2).text()
    for signers in ([LOG.signer], [new], [LOG.signer, new]):
        given = judge(Request.parse(request(0, [], signed(text, *signers))), None, trusted, WITNESS, NOW)
        assert isinstance(given, Cosigned)
        assert given.note.count("— ".encode()) == len(signers) + 1


def test_the_example_of_the_standard_is_read() -> None:
    """The request that stands in tlog-witness, to the byte."""
    found = Request.parse(EXAMPLE.encode())
    assert (found.old, found.size, len(found.proof)) == (20852014, 20852163, 4)
    assert found.origin == "example.com/behind-the-sofa"
    assert found.note.decode() == EXAMPLE.partition("\n\n")[2]


# ---- the table of refusals


@pytest.mark.parametrize(
    ("body", "known", "status", "size", "suspicion"),
    [
        (GrowingLog("broker.example/unknown").body(0, 2), None, 404, None, None),
        (GrowingLog(seed="somebody else").body(0, 2), None, 403, None, None),
        (request(0, [], signed(LOG.checkpoint(2).text(), GrowingLog(OTHER).signer)), None, 403, None, None),
        (request(0, [], render(LOG.checkpoint(2).text(), [wrong(LOG.signer.sign(LOG.checkpoint(2).text()))])), None, 403, None, None),
        (request(0, [], render(LOG.checkpoint(2).text(), [LOG.signer.sign(LOG.checkpoint(2).text()), wrong(LOG.signer.sign(LOG.checkpoint(2).text()))])), None, 403, None, None),
        (request(3, [], LOG.note(2)), None, 400, None, None),
        (request(3, [], LOG.note(2)), LOG.note(3), 400, None, None),
        (LOG.body(2, 5), None, 409, 0, None),
        (LOG.body(0, 5), LOG.note(3), 409, 3, None),
        (LOG.body(1, 2), LOG.note(3), 409, 3, None),
        (LOG.body(4, 5), LOG.note(3), 409, 3, None),
        (FORK.body(0, 3), LOG.note(3), 409, 3, Suspicion.FORK),
        (request(0, [bytes(32)], LOG.note(5)), None, 422, None, None),
        (request(0, [], signed(f"{ORIGIN}\n0\n{ROOT}\n")), None, 422, None, None),
        (request(3, [bytes(32)], LOG.note(3)), LOG.note(3), 422, None, None),
        (FORK.body(3, 3), LOG.note(3), 422, None, Suspicion.FORK),
        (FORK.body(3, 5), LOG.note(3), 422, None, Suspicion.UNPROVEN),
        (request(3, [], LOG.note(5)), LOG.note(3), 422, None, Suspicion.UNPROVEN),
        (request(3, LOG.proof(3, 5)[::-1], LOG.note(5)), LOG.note(3), 422, None, Suspicion.UNPROVEN),
        (request(3, [*LOG.proof(3, 5), bytes(32)], LOG.note(5)), LOG.note(3), 422, None, Suspicion.UNPROVEN),
    ],
    ids=[
        "origin is unknown", "key is unknown", "key of another log", "signature is wrong", "one good, one wrong",
        "old is larger", "old is larger and known", "nothing known", "asks for the size", "would roll back",
        "old is ahead", "fork at another old size", "proof from nothing", "empty tree with a root", "proof to the same",
        "fork", "fork that grew", "no proof", "proof in disorder", "proof too long",
    ],
)  # fmt: skip
def test_each_refusal_has_its_status(
    body: bytes, known: bytes | None, status: int, size: int | None, suspicion: Suspicion | None
) -> None:
    """As tlog-witness has it; with 409 the size, and a suspicion only where the log itself signed."""
    refused = answer(body, known)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.size, refused.suspicion) == (status, size, suspicion), refused.reason


def test_the_empty_tree_can_be_cosigned() -> None:
    """And then grow."""
    empty = answer(LOG.body(0, 0))
    assert isinstance(empty, Cosigned)
    assert LOG.checkpoint(0).root == EMPTY_ROOT
    assert isinstance(answer(LOG.body(0, 4), empty.note), Cosigned)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"old 0",
        b"old 0\n\n",
        b"old 0\n" + LOG.note(2),
        LOG.note(2),
        b"old\n\n" + LOG.note(2),
        b"old  0\n\n" + LOG.note(2),
        b"Old 0\n\n" + LOG.note(2),
        b"old 0 \n\n" + LOG.note(2),
        b"old 0\r\n\n" + LOG.note(2),
        b"\nold 0\n\n" + LOG.note(2),
        request("00", [], LOG.note(2)),
        request("-1", [], LOG.note(2)),
        request("+0", [], LOG.note(2)),
        request("0x0", [], LOG.note(2)),
        request("٠", [], LOG.note(2)),
        request(2**63, [], LOG.note(2)),
        request(10**40, [], LOG.note(2)),
        request(1, [bytes(31)], LOG.note(2)),
        request(1, [bytes(33)], LOG.note(2)),
        request(1, [bytes(32)] * (MAX_PROOF + 1), LOG.note(2)),
        f"old 1\n{ROOT[:-2]}B=\n\n".encode() + LOG.note(2),
        f"old 1\n {ROOT}\n\n".encode() + LOG.note(2),
        request(0, [], LOG.note(2)[:-1]),
        request(0, [], LOG.note(2) + b"\n"),
        request(0, [], LOG.note(2).replace(b"\n", b"\r\n")),
        request(0, [], b"\xff" + LOG.note(2)),
        request(0, [], signed(f"{ORIGIN}\n2\n")),
        request(0, [], signed(f"{ORIGIN}\n2\n{ROOT}\nextension\n")),
        request(0, [], signed(f"{ORIGIN}\n02\n{ROOT}\n")),
        request(0, [], signed(f"{ORIGIN}\n{2**63}\n{ROOT}\n")),
        request(0, [], signed(f"{ORIGIN}\n2\n{ROOT[:-1]}\n")),
        request(0, [], signed(f"\n2\n{ROOT}\n")),
    ],
)  # fmt: skip
def test_what_is_not_of_the_form_is_refused_with_400(body: bytes) -> None:
    """Also where a lenient reader could guess what was meant."""
    refused = answer(body)
    assert isinstance(refused, Refused)
    assert refused.status == 400


def test_the_longest_proof_fits() -> None:
    """63 hashes, and a note with room for many signatures."""
    body = request(1, [bytes(32)] * MAX_PROOF, LOG.note(2))
    assert len(Request.parse(body).proof) == MAX_PROOF
    assert len(body) < MAX_BODY_BYTES / 16


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_garbage_is_refused(body: bytes) -> None:
    """With 400 and nothing else: no other exception, no cosignature."""
    refused = answer(body)
    assert isinstance(refused, Refused)
    assert refused.status == 400


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF),
    st.integers(0, 40),
)
@settings(max_examples=50)
def test_what_is_written_is_read_back(old: int, proof: list[bytes], size: int) -> None:
    """All members of a request."""
    found = Request.parse(request(old, proof, LOG.note(size)))
    assert (found.old, list(found.proof), found.note) == (old, proof, LOG.note(size))
    assert (found.origin, found.size, found.root) == (ORIGIN, size, LOG.checkpoint(size).root)


def test_no_changed_bit_gets_another_checkpoint_cosigned() -> None:
    """Of all copies with one bit changed, none is cosigned but with the very same text."""
    body, known = LOG.body(3, 6), LOG.note(3)
    text = LOG.checkpoint(6).text().encode()
    for flipped in flips(body):
        given = answer(flipped, known)
        assert isinstance(given, Refused) or given.note.startswith(text + b"\n")


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from([LOG, FORK])), max_size=12))
@settings(max_examples=60)
def test_no_two_cosigned_trees_are_inconsistent(asked: list[tuple[int, int, GrowingLog]]) -> None:
    """Whatever is asked in whatever order: all that is cosigned lies on one history, and never shrinks."""
    known, sizes = None, [0]
    histories = {"log": True, "fork": True}
    for old, size, log in asked:
        given = answer(log.body(min(old, size), size), known)
        if isinstance(given, Cosigned):
            known = given.note
            sizes.append(size)
            text = given.note.decode().partition("\n\n")[0] + "\n"
            histories["log"] &= text == LOG.checkpoint(size).text()
            histories["fork"] &= text == FORK.checkpoint(size).text()
    assert any(histories.values())
    assert sizes == sorted(sizes)


def test_a_witness_needs_logs_and_their_keys() -> None:
    """Not none, and not that of another witness."""
    with pytest.raises(ConfigError, match="at least one log"):
        TrustedLogs([])
    with pytest.raises(ConfigError, match="not that of a log"):
        TrustedLogs([WITNESS.verifier])
    assert TrustedLogs([LOG.signer.verifier]).get(ORIGIN) == (Verifier.parse(LOG.signer.vkey),)
