"""An independent tree: the recursion of RFC 6962 section 2.1 word for word, to compare with; and golden values."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "broker.example/audit/test/1/p3"
VKEY = "broker.example/audit/test/1/p3+7f4519d3+Aawnxtg4B75l7Z0nkdNbY7nQNvxZ/ad+/DFKV5jBaV9n"
# The first example line of the audit design, section 1.2, as it stands there; the second is in `tests.audit.test_leaf`.
LINE_0 = (
    '{"ldv":{"attributes":{"dpl.core.data_subject_id":"pv2HXOyNuqj06ALvgBRk-A","dpl.core.data_subject_id_'
    'type":"https://broker.example/begrippen/subject-token/v1","dpl.core.foreign_operation.processor":"ht'
    'tps://sis.school.example/","dpl.core.processing_activity_id":"https://register.bestuur.example/verwe'
    'rkingen/lm-bestellen/3"},"end_time":1795305600001,"name":"Bestelling ontvangen","parent_span_id":"b7'
    'ad6b7169203331","resource":{"attributes":{"service.name":"broker","service.version":"0.1.0"}},"span_'
    'id":"00f067aa0ba902b7","start_time":1795305600000,"status":"Unset","trace_id":"4bf92f3577b34da6a3ce9'
    '29d0e0e4736"},"v":1,"x":{"decision":"received","event":"order.v1","flow":"in/99XX/sis-a/BL/p3","seq"'
    ':41,"value":"wF1KQovafY8q6eqeRXB5xGXAdMdVOuxNuaRqsiDqYY0"}}'
)
LEAF_0 = "718bd6d6e6759521c9b8bf58c45f91110b5270aca17658c5ca1d7f982fe76070"
LEAF_1 = "5661bf38ed1c70aac3eaac4412e1340c30d521f80a33f956a36ea659a82cb71a"
ROOT_2 = "09b72c86489b52818ec993453bdd4cb806b7e2c915004b86fd91e74818a3046e"
ROOT_10000 = "730ace84ff7ae5c50105c1f9b60f2b03cdfae57b870cc57712fc9b0953cf274a"
TEXT = f"{ORIGIN}\n2\nCbcshkibUoGOyZNFO91MuAa34skVAEuG/ZHnSBijBG4=\n"
NOTE = (
    f"{TEXT}\n— {ORIGIN} f0UZ05jG8wHJX6enAidrDN+nKdykDarqM0DP3nFcyNYs58Q7traFnlj0bxbBuQ19byDKVQKdfLSwBu4jKGUT9LpkqQo=\n"
).encode()


def key(seed: str) -> Ed25519PrivateKey:
    """A test key that is the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest())


def entry(index: int) -> bytes:
    """Of the second golden tree."""
    return b'{"n":%d,"v":"lab"}' % index


class Tree:
    """Leaves, and everything about them by the definitions of RFC 6962."""

    def __init__(self, size: int) -> None:
        self.leaves = [sha256(b"\x00" + entry(i)).digest() for i in range(size)]
        self.root = cache(self._root)

    def _root(self, start: int, end: int) -> bytes:
        """MTH(D[start:end])."""
        if end - start == 0:
            return sha256().digest()
        if end - start == 1:
            return self.leaves[start]
        middle = start + split(end - start)
        return sha256(b"\x01" + self.root(start, middle) + self.root(middle, end)).digest()

    def path(self, index: int, start: int, end: int) -> list[bytes]:
        """PATH(index - start, D[start:end])."""
        if end - start == 1:
            return []
        middle = start + split(end - start)
        if index < middle:
            return [*self.path(index, start, middle), self.root(middle, end)]
        return [*self.path(index, middle, end), self.root(start, middle)]

    def subproof(self, old: int, start: int, end: int, known: bool) -> list[bytes]:
        """SUBPROOF(old - start, D[start:end], known); PROOF is the one that begins with `known`."""
        if old == end:
            return [] if known else [self.root(start, end)]
        middle = start + split(end - start)
        if old <= middle:
            return [*self.subproof(old, start, middle, known), self.root(middle, end)]
        return [*self.subproof(old, middle, end, False), self.root(start, middle)]

    def hash_at(self, level: int, index: int) -> bytes:
        """A complete node."""
        return self.root(index << level, (index + 1) << level)


def split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    half = 1
    while half * 2 < count:
        half *= 2
    return half


def flips(data: bytes) -> list[bytes]:
    """Every copy of these bytes in which one bit is another."""
    return [data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :] for i in range(len(data)) for bit in range(8)]
