"""Tests of `broker.audit.log.policy`: the form of c2sp.org/tlog-policy, and which signatures are enough."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import verify
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.note import Cosigner, Note, NoteError, Signer, open_note, render
from broker.audit.log.policy import Group, KnownLog, Policy, Witness
from broker.errors import ConfigError
from tests.audit.log.tree import NOTE, ORIGIN, TEXT, VKEY, key

LOG = Signer(ORIGIN, key("golden log key"))
X = [Cosigner(f"x{i}.example", key(f"x{i}")) for i in range(1, 4)]
Y = [Cosigner(f"y{i}.example", key(f"y{i}")) for i in range(1, 4)]
EXAMPLE = f"""# The example of the specification.
log {VKEY} https://log.example/

witness X1 {X[0].vkey}
witness X2 {X[1].vkey} https://x2.example/
witness\tX3   {X[2].vkey}
group X-witnesses 2 X1 X2 X3

  witness Y1 {Y[0].vkey}
witness Y2 {Y[1].vkey}
witness Y3 {Y[2].vkey}  \t
group Y-witnesses any Y1 Y2 Y3

\t# Both.
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
POLICY = Policy.parse(EXAMPLE.encode())


def cosigned(*cosigners: Cosigner, log: Signer | None = LOG, text: str = TEXT) -> Note:
    """A checkpoint with these signatures, opened by a reader who knows them all."""
    lines = [*([log.sign(text)] if log else []), *(cosigner.sign(text, 1795305600) for cosigner in cosigners)]
    return open_note(
        render(text, lines), [c.verifier for c in (*X, *Y)] + [LOG.verifier, *([log.verifier] if log else [])]
    )


def test_the_example_of_the_specification_asks_for_two_and_one() -> None:
    """All 64 sets of witnesses: at least two of X and one of Y are enough, nothing less is."""
    for chosen in chain.from_iterable(combinations((*X, *Y), n) for n in range(7)):
        enough = sum(c in X for c in chosen) >= 2 and sum(c in Y for c in chosen) >= 1
        assert POLICY.satisfied(cosigned(*chosen)) is enough


def test_the_log_must_have_signed_under_its_own_name() -> None:
    """Witnesses alone are not enough; nor is a key of another log, or the log's key below another origin."""
    everyone = (*X, *Y)
    assert POLICY.satisfied(cosigned(*everyone))
    assert not POLICY.satisfied(cosigned(*everyone, log=None))
    assert not POLICY.satisfied(cosigned(*everyone, log=Signer(ORIGIN, key("another key"))))
    other = Checkpoint("other.example/log", 2, bytes(32)).text()
    assert not POLICY.satisfied(cosigned(*everyone, text=other))


def test_no_witness_is_asked_for_by_none() -> None:
    """The word is predefined."""
    policy = Policy.parse(f"log {VKEY}\nquorum none\n".encode())
    assert policy == Policy((KnownLog(LOG.verifier),))
    assert policy.satisfied(cosigned())
    assert policy.open(NOTE).text == TEXT


def test_a_single_witness_can_be_the_quorum() -> None:
    """And then no other will do."""
    policy = Policy.parse(f"log {VKEY}\nwitness w {X[0].vkey}\nwitness v {X[1].vkey}\nquorum w\n".encode())
    assert policy.satisfied(cosigned(X[0]))
    assert not policy.satisfied(cosigned(X[1]))


def test_a_policy_without_logs_judges_the_witnesses() -> None:
    """The log's signature is then for the caller to know (tlog-policy)."""
    policy = Policy.parse(f"witness w {X[0].vkey}\nquorum w\n".encode())
    assert policy.satisfied(cosigned(X[0], log=None))
    assert not policy.satisfied(cosigned())


def test_two_keys_of_one_log_are_both_good() -> None:
    """While a key is replaced, either signs."""
    new = Signer(ORIGIN, key("next log key"))
    policy = Policy.parse(f"log {VKEY}\nlog {new.vkey}\nquorum none\n".encode())
    assert policy.satisfied(cosigned())
    assert policy.satisfied(cosigned(log=new))


def test_one_key_may_sign_several_logs() -> None:
    """As it does all logs of a broker, each under its own name, and one file has them all."""
    other = Signer("broker.example/audit/p1/1", key("golden log key"))
    data = f"log {VKEY}\nlog {other.vkey}\nwitness w {X[0].vkey}\nquorum w\n".encode()
    policy = Policy.parse(data)
    assert policy.render() == data
    text = Checkpoint(other.verifier.name, 2, bytes(32)).text()
    assert policy.satisfied(cosigned(X[0]))
    assert policy.satisfied(cosigned(X[0], log=other, text=text))
    assert not policy.satisfied(cosigned(X[0], log=LOG, text=text))


def test_opening_a_checkpoint_asks_for_the_quorum() -> None:
    """In one step, with the policy's own keys."""
    enough = [LOG.sign(TEXT), X[0].sign(TEXT, 1), X[1].sign(TEXT, 2), Y[2].sign(TEXT, 3)]
    assert len(POLICY.open(render(TEXT, enough)).verified) == 4
    with pytest.raises(NoteError, match="does not have the signatures"):
        POLICY.open(render(TEXT, enough[:-1]))
    with pytest.raises(NoteError, match="does not verify"):
        POLICY.open(render(TEXT, enough).replace(TEXT.encode(), TEXT.replace("\n2\n", "\n3\n").encode()))


def test_what_is_no_checkpoint_has_no_origin_to_judge() -> None:
    """A signed note of another kind is refused, not taken for false."""
    with pytest.raises(NoteError, match="not three lines"):
        POLICY.satisfied(cosigned(text="hello\n"))


def test_a_policy_comes_back_as_it_was_written() -> None:
    """URLs, groups and all; the written form is the shortest."""
    assert Policy.parse(POLICY.render()) == POLICY
    assert POLICY.render().decode() == (
        f"log {VKEY} https://log.example/\nwitness X1 {X[0].vkey}\nwitness X2 {X[1].vkey} https://x2.example/\n"
        f"witness X3 {X[2].vkey}\nwitness Y1 {Y[0].vkey}\nwitness Y2 {Y[1].vkey}\nwitness Y3 {Y[2].vkey}\n"
        "group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\ngroup X-and-Y all X-witnesses Y-witnesses\n"
        "quorum X-and-Y\n"
    )


def test_names_are_octets() -> None:
    """A Kelvin sign is not a K, and what is no UTF-8 is a name all the same."""
    data = f"log {VKEY}\nwitness K {X[0].vkey}\nwitness \u212a {X[1].vkey}\n".encode()
    data += b"witness \xff\xa0 " + X[2].vkey.encode() + b"\nquorum \xff\xa0\n"
    policy = Policy.parse(data)
    assert policy.render() == data
    assert policy.satisfied(cosigned(X[2]))
    assert not policy.satisfied(cosigned(X[0], X[1]))


HEAD = f"log {VKEY}\nwitness a {X[0].vkey}\nwitness b {X[1].vkey}\n"
BAD = {
    "empty": "",
    "no quorum": HEAD,
    "two quorums": HEAD + "quorum a\nquorum a\n",
    "quorum unknown": HEAD + "quorum c\n",
    "quorum before its witness": f"log {VKEY}\nquorum a\nwitness a {X[0].vkey}\n",
    "quorum of two": HEAD + "quorum a b\n",
    "no newline": HEAD + "quorum a",
    "carriage return": (HEAD + "quorum a\n").replace("\n", "\r\n"),
    "form feed": HEAD + "quorum\fa\n",
    "unknown word": HEAD + "witnesses a\nquorum a\n",
    "upper case": HEAD + "QUORUM a\n",
    "log without key": "log\nquorum none\n",
    "log with three": f"log {VKEY} https://a/ b\nquorum none\n",
    "log key damaged": f"log {VKEY[:-1]}\nquorum none\n",
    "log key of a witness": f"log {X[0].vkey}\nquorum none\n",
    "witness key of a log": f"witness a {VKEY}\nquorum a\n",
    "same log twice": f"log {VKEY}\nlog {VKEY} https://a/\nquorum none\n",
    "witness with the key of a log": HEAD + f"witness c {Cosigner('c', key('golden log key')).vkey}\nquorum a\n",
    "log with the key of a witness": HEAD + f"log {Signer('c', key('x1')).vkey}\nquorum a\n",
    "same witness key, other name": HEAD + f"witness c {Cosigner('c', key('x1')).vkey}\nquorum a\n",
    "same witness twice": HEAD + f"witness c {X[0].vkey}\nquorum a\n",
    "same name twice": HEAD + f"witness a {X[2].vkey}\nquorum a\n",
    "named none": f"witness none {X[0].vkey}\nquorum none\n",
    "group named none": HEAD + "group none any a b\nquorum none\n",
    "group of a witness's name": HEAD + "group a any a b\nquorum a\n",
    "group without members": HEAD + "group g any\nquorum g\n",
    "group of unknown": HEAD + "group g any a c\nquorum g\n",
    "group of none": HEAD + "group g any a none\nquorum g\n",
    "group of itself": HEAD + "group g any a g\nquorum g\n",
    "group of a later group": HEAD + "group g any a h\ngroup h any b\nquorum g\n",
    "member twice": HEAD + "group g 2 a a\nquorum g\n",
    "member of two groups": HEAD + "group g any a b\ngroup h all g a\nquorum h\n",
    "needs none": HEAD + "group g 0 a b\nquorum g\n",
    "needs too many": HEAD + "group g 3 a b\nquorum g\n",
    "needs a leading zero": HEAD + "group g 01 a b\nquorum g\n",
    "needs minus one": HEAD + "group g -1 a b\nquorum g\n",
    "needs other digits": HEAD + "group g \u0661 a b\nquorum g\n",
    "needs most": HEAD + "group g most a b\nquorum g\n",
    "too many lines": HEAD + "quorum a\n" + "\n" * 1000,
}


@pytest.mark.parametrize("case", BAD)
def test_a_policy_that_is_not_clear_is_refused(case: str) -> None:
    """Each rule of the specification; an operator must correct it."""
    with pytest.raises(ConfigError) as problem:
        Policy.parse(BAD[case].encode())
    assert problem.value.code == "log.policy"


LAX = {"no newline", "too many lines"}  # what is read no other way than it is meant


@pytest.mark.parametrize("case", sorted(BAD.keys() - LAX))
def test_the_auditors_verifier_refuses_what_is_refused_here(case: str) -> None:
    """It reads the same files by code of its own."""
    with pytest.raises((OSError, ValueError)):
        verify.read_policy(BAD[case], "policy")


def test_the_auditors_verifier_reads_what_is_read_here() -> None:
    """The same keys, groups and quorum; also of logs that share a key."""
    more = f"log {Signer('other.example/log', key('golden log key')).vkey}\n"
    trust = verify.read_policy(more + EXAMPLE, "policy")
    policy = Policy.parse((more + EXAMPLE).encode())
    assert set(trust.keys) == {(each.name, each.key_id) for each in policy.verifiers}
    assert trust.groups == {group.name: (group.needed, list(group.members)) for group in policy.groups}
    assert trust.quorum == policy.quorum


def test_a_problem_names_its_line() -> None:
    """Counted as an editor does."""
    with pytest.raises(ConfigError, match="trust policy, line 4: "):
        Policy.parse((HEAD + "group g 3 a b\nquorum g\n").encode())


@pytest.mark.parametrize("url", ["", "a b", "a\nquorum none"])
def test_a_policy_that_could_not_be_read_again_is_not_made(url: str) -> None:
    """No line can be put in through a URL or a name."""
    with pytest.raises(ConfigError):
        Policy((KnownLog(LOG.verifier, url),))
    with pytest.raises(ConfigError):
        Policy((), (Witness("w" + url + " ", X[0].verifier),))


@given(st.data())
def test_more_signatures_never_make_a_checkpoint_worse(data: st.DataObject) -> None:
    """Any thresholds, any witnesses: a superset of enough is enough."""
    witnesses = tuple(Witness(c.name, c.verifier) for c in (*X, *Y))
    x = Group("x", data.draw(st.integers(1, 3)), tuple(c.name for c in X))
    y = Group("y", data.draw(st.integers(1, 3)), tuple(c.name for c in Y))
    policy = Policy(
        (KnownLog(LOG.verifier),), witnesses, (x, y, Group("q", data.draw(st.integers(1, 2)), ("x", "y"))), "q"
    )
    assert Policy.parse(policy.render()) == policy
    some = data.draw(st.sets(st.sampled_from((*X, *Y))))
    more = some | data.draw(st.sets(st.sampled_from((*X, *Y))))
    assert policy.satisfied(cosigned(*more)) >= policy.satisfied(cosigned(*some))
    assert policy.satisfied(cosigned(*X, *Y))
