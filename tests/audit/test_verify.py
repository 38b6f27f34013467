"""Tests of `broker.audit.verify`: goldens, every bit, forks and rewritten histories, policies, hostile files."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.audit import verify
from broker.cli.audit import app
from tests.audit import naive_log as naive
from tests.audit.naive_log import LOG, ORIGIN, Signer, decision, decisions

SOURCE = Path(verify.__file__)
W1, W2, W3 = (Signer(f"witness.example/{n}", n.encode(), 4) for n in ("w1", "w2", "w3"))
VALUE = b"filtered avro output"
Run = Callable[..., tuple[int, str]]

# The example lines of the audit design, section 1.2, as they stand there: the golden checkpoint is over these two.
GOLDEN_LINES = (
    '{"ldv":{"attributes":{"dpl.core.data_subject_id":"pv2HXOyNuqj06ALvgBRk-A","dpl.core.data_subject_id_type":"https://broker.example/begrippen/subject-token/v1","dpl.core.foreign_operation.processor":"https://sis.school.example/","dpl.core.processing_activity_id":"https://register.bestuur.example/verwerkingen/lm-bestellen/3"},"end_time":1795305600001,"name":"Bestelling ontvangen","parent_span_id":"b7ad6b7169203331","resource":{"attributes":{"service.name":"broker","service.version":"0.1.0"}},"span_id":"00f067aa0ba902b7","start_time":1795305600000,"status":"Unset","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"},"v":1,"x":{"decision":"received","event":"order.v1","flow":"in/99XX/sis-a/BL/p3","seq":41,"value":"wF1KQovafY8q6eqeRXB5xGXAdMdVOuxNuaRqsiDqYY0"}}',
    '{"ldv":{"attributes":{"dpl.core.data_subject_id":"vKOM-TKZi5N-TG44JZd-rA","dpl.core.data_subject_id_type":"https://broker.example/begrippen/subject-token/v1","dpl.core.foreign_operation.processor":"https://leverancier.example/","dpl.core.processing_activity_id":"https://register.bestuur.example/verwerkingen/lm-bestellen/3"},"end_time":1795305600002,"name":"Bestelling verstrekt aan leverancier","parent_span_id":"00f067aa0ba902b7","resource":{"attributes":{"service.name":"broker","service.version":"0.1.0"}},"span_id":"53995c3f42cd8ad8","start_time":1795305600001,"status":"Unset","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"},"v":1,"x":{"agreement":"VWO-2026-017/4.0","decision":"delivered","dropped":["geboortedatum","geslacht"],"event":"order.v1","flow":"out/99XX/lev-b/BL/p3","kept":["eckId","productId","quantity"],"policy":"sha256:3937db80ed47059d40d8dcfabbf64ac836032e9741fab0d25f7115a1d0e4cb7d","seq":907,"value":"vMTQQFrieByHpGVA3ix1kgTWCadrp9HoK9pWSjmEZ_g"}}',
)
GOLDEN = tuple(line.encode() for line in GOLDEN_LINES)
GOLDEN_SALT = bytes.fromhex("df67839fab8294cc7bd9d774adc19d44f65fef09b54f62877576bad607f3aaed")
GOLDEN_VKEY = "broker.example/audit/test/1/p3+7f4519d3+Aawnxtg4B75l7Z0nkdNbY7nQNvxZ/ad+/DFKV5jBaV9n"
GOLDEN_CHECKPOINT = """broker.example/audit/test/1/p3
2
CbcshkibUoGOyZNFO91MuAa34skVAEuG/ZHnSBijBG4=

— broker.example/audit/test/1/p3 f0UZ05jG8wHJX6enAidrDN+nKdykDarqM0DP3nFcyNYs58Q7traFnlj0bxbBuQ19byDKVQKdfLSwBu4jKGUT9LpkqQo=
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, in this process: exit code and what it printed."""

    def command(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = verify.main([str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return command


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of 300 entries: a full and a partial tile, two levels."""
    return naive.write(tmp_path / "log", decisions(300))


def text(path: Path, content: str) -> Path:
    """A file with this text."""
    path.write_text(content, "utf-8")
    return path


def refused(result: tuple[int, str], *words: str) -> None:
    """The run found something, said what, and ended with one summary line."""
    code, out = result
    assert code == 1, out
    assert all(word in out for word in words), out
    assert out.splitlines()[-1].startswith("NOT VERIFIED: ")
    assert "\nVERIFIED" not in out


def accepted(result: tuple[int, str], *words: str) -> None:
    """The run ended well, with one summary line."""
    code, out = result
    assert code == 0, out
    assert all(word in out for word in words), out
    assert out.splitlines()[-1].startswith("VERIFIED: ")


# ---- one file


def test_the_file_stands_alone(tmp_path: Path) -> None:
    """Only the standard library and `cryptography`; copied to an empty folder it runs there, isolated."""
    names = set()
    for node in ast.walk(ast.parse(SOURCE.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add((node.module or "").split(".")[0])
    assert names - {"cryptography"} <= sys.stdlib_module_names
    stick = tmp_path / "stick"
    stick.mkdir()
    shutil.copy(SOURCE, stick / "verify.py")
    naive.write(stick / "log", GOLDEN)
    command = [sys.executable, "-I", "verify.py", "log", "log", "--key", GOLDEN_VKEY]
    done = subprocess.run(command, cwd=stick, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("VERIFIED: size 2, ")


def test_the_broker_has_the_same_command(log: Path) -> None:
    """`broker audit verify …` takes the same arguments, and ends with the same code."""
    good = CliRunner().invoke(app, ["verify", "log", str(log), "--key", LOG.vkey])
    assert good.exit_code == 0
    assert "VERIFIED: size 300" in good.output
    assert CliRunner().invoke(app, ["verify", "log", str(log), "--key", W1.vkey]).exit_code == 2
    (log / "tile/0/000").write_bytes(bytes(8192))
    assert CliRunner().invoke(app, ["verify", "log", str(log), "--key", LOG.vkey]).exit_code == 1
    assert "usage" in CliRunner().invoke(app, ["verify", "--help"]).output


# ---- goldens and sizes


def test_the_golden_log_is_verified(tmp_path: Path, run: Run) -> None:
    """Key, checkpoint and the two leaves of the audit design; the summary names size, root, origin and key."""
    log = naive.write(tmp_path, GOLDEN)
    assert LOG.vkey == GOLDEN_VKEY
    assert (log / "checkpoint").read_text("utf-8") == GOLDEN_CHECKPOINT
    root = "CbcshkibUoGOyZNFO91MuAa34skVAEuG/ZHnSBijBG4="
    for how in ("shape", "all", "hashes"):
        result = run("log", log, "--key", GOLDEN_VKEY, "--entries", how)
        accepted(result, f"VERIFIED: size 2, root {root}, origin '{ORIGIN}', signed by key '{ORIGIN}+7f4519d3'")


def test_the_golden_root_of_ten_thousand_leaves(tmp_path: Path, run: Run) -> None:
    """Computed alike by three implementations; these leaves are no decisions, so only their hashes are asked for."""
    log = naive.write(tmp_path, [b'{"n":%d,"v":"lab"}' % n for n in range(10_000)])
    root = b64encode(bytes.fromhex("730ace84ff7ae5c50105c1f9b60f2b03cdfae57b870cc57712fc9b0953cf274a")).decode()
    accepted(run("log", log, "--key", LOG.vkey, "--entries", "hashes"), f"size 10000, root {root}")


def test_the_golden_receipt_is_verified(tmp_path: Path, run: Run) -> None:
    """The golden commitment over the golden value; a sentence says what was decided, by names only."""
    said = naive.carried(GOLDEN[1], GOLDEN_SALT)
    receipt = text(tmp_path / "a.tlog-proof", naive.receipt(GOLDEN, 1, said=said))
    value = tmp_path / "value"
    value.write_bytes(VALUE)
    result = run("receipt", receipt, "--value", value, "--key", GOLDEN_VKEY)
    accepted(result, "what went out", "2026-11-22 00:00:00", "'order.v1'", "'delivered'", "'eckId', 'productId'")
    value.write_bytes(VALUE + b"\n")
    refused(run("receipt", receipt, "--value", value, "--key", GOLDEN_VKEY), "is not the value")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537, 70000])
def test_a_log_of_any_size_is_verified(size: int, tmp_path: Path, run: Run) -> None:
    """Around the widths of tiles of two levels; the last tile of all levels is read: each is missed when it is gone."""
    log = naive.write(tmp_path, decisions(size))
    old = text(tmp_path / "old", naive.checkpoint(decisions(size)[: size * 2 // 3]))
    accepted(run("log", log, "--key", LOG.vkey, "--old", old), f"size {size}, ")
    for level in range(3):
        for tile in sorted(path for path in (log / "tile" / str(level)).rglob("*") if path.is_file())[-1:]:
            tile.rename(tmp_path / "away")
            refused(run("log", log, "--key", LOG.vkey), str(tile), "missing")
            (tmp_path / "away").rename(tile)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 257, 300])
def test_a_receipt_of_any_place_is_verified(size: int, tmp_path: Path, run: Run) -> None:
    """First, last and each place near a power of two; at another index it is refused."""
    for index in sorted({i for i in (0, 1, 2, 3, 4, 6, 7, 255, 256, size - 2, size - 1) if 0 <= i < size}):
        proof = naive.receipt(decisions(size), index)
        accepted(run("receipt", text(tmp_path / "r", proof), "--key", LOG.vkey), f"entry {index} of")
        moved = proof.replace(f"\nindex {index}\n", f"\nindex {index ^ 1}\n")
        refused(run("receipt", text(tmp_path / "r", moved), "--key", LOG.vkey))


# ---- every bit


def flips(data: bytes) -> list[bytes]:
    """The data with each of its bits turned once."""
    return [data[: i // 8] + bytes([data[i // 8] ^ 1 << i % 8]) + data[i // 8 + 1 :] for i in range(len(data) * 8)]


def test_every_bit_of_a_log_counts(tmp_path: Path, run: Run) -> None:
    """No bit of checkpoint, cosigned checkpoint, key, bundle or tile may be turned without being found."""
    log = naive.write(tmp_path / "log", [decision(0), b'{"control":{"kind":"registry"},"v":1}', decision(2)])
    text(log / "log.vkey", LOG.vkey + "\n")
    text(log / "checkpoint.w", naive.checkpoint([decision(0)]))
    accepted(run("log", log))
    files = [path for path in sorted(log.rglob("*")) if path.is_file()]
    assert len(files) == 5
    for file in files:
        kept = file.read_bytes()
        for number, flipped in enumerate(flips(kept)):
            file.write_bytes(flipped)
            assert run("log", log, "--entries", "hashes")[0] != 0, f"bit {number} of {file}"
        file.write_bytes(kept)
    accepted(run("log", log))


def test_every_bit_of_a_receipt_counts(tmp_path: Path, run: Run) -> None:
    """Nor of a receipt, its value, or the policy's names of those who must have signed."""
    entries = [decision(n, value=naive.commitment(VALUE)) for n in range(3)]
    receipt = text(tmp_path / "r.tlog-proof", naive.receipt(entries, 1, LOG, W1, W2))
    value, policy = tmp_path / "value", text(tmp_path / "policy", POLICY.replace("any w1 w2", "all w1 w2"))
    value.write_bytes(VALUE)
    arguments = ("receipt", receipt, "--value", value, "--policy", policy)
    accepted(run(*arguments))
    for file in (receipt, value):
        kept = file.read_bytes()
        for number, flipped in enumerate(flips(kept)):
            file.write_bytes(flipped)
            assert run(*arguments)[0] != 0, f"bit {number} of {file}"
        file.write_bytes(kept)
    accepted(run(*arguments))


def test_every_bit_of_the_receipt_of_an_erasure_counts(tmp_path: Path, run: Run) -> None:
    """It commits to no value and has no salt; there is nothing else in it that could be another."""
    erased = b'{"erased":{"event":"e","id":"AAAAAAAAAAAAAAAAAAAAAA","school":"99PA","time":1},"v":1}'
    proof = naive.receipt([decision(0), erased, decision(2)], 1, said=naive.carried(erased, None))
    receipt = text(tmp_path / "r.tlog-proof", proof)
    accepted(run("receipt", receipt, "--key", LOG.vkey), "erased", "99PA")
    kept = receipt.read_bytes()
    for number, flipped in enumerate(flips(kept)):
        receipt.write_bytes(flipped)
        assert run("receipt", receipt, "--key", LOG.vkey)[0] != 0, f"bit {number}"
    receipt.write_bytes(kept)
    value = tmp_path / "value"
    value.write_bytes(b"")
    refused(run("receipt", receipt, "--key", LOG.vkey, "--value", value), "is not the value")


# ---- logs that are not what was signed


def test_reordered_leaves_are_found(tmp_path: Path, run: Run) -> None:
    """Two entries changed places, in the bundle and in the tiles alike."""
    entries = list(decisions(300))
    log = naive.write(tmp_path, entries)
    kept = (log / "checkpoint").read_bytes()
    entries[3], entries[260] = entries[260], entries[3]
    naive.write(tmp_path, entries)
    (log / "checkpoint").write_bytes(kept)
    refused(run("log", log, "--key", LOG.vkey), "REWRITTEN")


def test_a_tile_that_is_not_of_the_entries_is_found(log: Path, run: Run) -> None:
    """At each level, with the place: the root alone would not show it, as it is made from the entries."""
    for name, place in {"tile/0/000": "entry 0", "tile/0/001.p/44": "entry 256", "tile/1/000.p/1": "hash 0"}.items():
        kept = (log / name).read_bytes()
        (log / name).write_bytes(bytes(32) + kept[32:])
        refused(run("log", log, "--key", LOG.vkey), f"Tile {name} is not what the entries give, from {place} on")
        (log / name).write_bytes(kept)


@pytest.mark.parametrize("name", ["tile/entries/000", "tile/entries/001.p/44", "tile/0/000", "tile/0/001.p/44"])
def test_a_file_that_is_missing_cut_off_or_too_long_is_found(name: str, log: Path, run: Run) -> None:
    """With its name; nothing behind the last entry is overlooked."""
    kept = (log / name).read_bytes()
    for wrong in (kept[:-1], kept[:-32], kept + b"\x00", kept + b"\x00\x00", kept + kept[-32:], b""):
        (log / name).write_bytes(wrong)
        refused(run("log", log, "--key", LOG.vkey), name)
    (log / name).unlink()
    refused(run("log", log, "--key", LOG.vkey), name, "missing")


def test_a_full_tile_stands_in_for_a_partial_one(tmp_path: Path, run: Run) -> None:
    """tlog-tiles lets a log delete a partial tile once the full one is there; a checkpoint can be of before."""
    log = naive.write(tmp_path / "log", decisions(600))
    text(log / "checkpoint", naive.checkpoint(decisions(300)))
    shutil.rmtree(log / "tile/1")
    naive.write(tmp_path / "small", decisions(300))
    shutil.copytree(tmp_path / "small/tile/1", log / "tile/1")
    accepted(run("log", log, "--key", LOG.vkey), "size 300,")
    bundle = log / "tile/entries/001"
    bundle.write_bytes(bundle.read_bytes() + b"\x00")
    refused(run("log", log, "--key", LOG.vkey), "tile/entries/001")


WRONG_ENTRIES = {
    "no json": b"leerling",
    "another version": b'{"ldv":{},"v":2,"x":{}}',
    "true as version": b'{"ldv":{},"v":true,"x":{}}',
    "no version": b'{"ldv":{},"x":{}}',
    "no evidence": b'{"ldv":{},"v":1}',
    "unknown kind": b'{"gossip":{},"v":1}',
    "two kinds": b'{"control":{},"v":1,"window":{}}',
    "kind that is no object": b'{"control":1,"v":1}',
    "white space": b'{"control":{}, "v":1}',
    "names out of order": b'{"v":1,"control":{}}',
    "name twice": b'{"control":{},"control":{},"v":1}',
    "float": b'{"control":{"n":1.5},"v":1}',
    "nan": b'{"control":{"n":NaN},"v":1}',
    "number too large": b'{"control":{"n":9007199254740992},"v":1}',
    "escaped letter": b'{"control":{"n":"\\u0061"},"v":1}',
    "half a surrogate": b'{"control":{"n":"\\ud800"},"v":1}',
    "no utf-8": b'{"control":{"n":"\xff"},"v":1}',
    "deep": b'{"control":' + b"[" * 60_000,
    "empty": b"",
    "a list": b"[]",
    "another name for ldv": b'{"abc":{},"v":1,"x":{}}',
    "a space at the end": b'{"ldv":{},"v":1,"x":{}} ',
    "long number": b'{"control":{"n":' + b"9" * 5000 + b'},"v":1}',
}


@pytest.mark.parametrize("case", WRONG_ENTRIES)
def test_an_entry_that_is_no_leaf_is_a_finding(case: str, tmp_path: Path, run: Run) -> None:
    """By its number, in both ways that look at entries, never a crash; `--entries hashes` does not look."""
    log = naive.write(tmp_path, [*decisions(299), WRONG_ENTRIES[case]])
    for how in ("shape", "all"):
        refused(run("log", log, "--key", LOG.vkey, "--entries", how), "Bundle tile/entries/001.p/44: entry 299 is not")
    accepted(run("log", log, "--key", LOG.vkey, "--entries", "hashes"))


def test_what_only_a_parser_sees_is_found_by_all_and_often_by_chance(tmp_path: Path, run: Run) -> None:
    """A decision with white space in its middle: `all` finds each, the default one in 32 of them."""
    log = naive.write(tmp_path, [b'{"ldv":{"a": 1},"v":1,"x":{}}'] * 64)
    refused(run("log", log, "--key", LOG.vkey, "--entries", "all"), "entry 49 is not", "64 finding(s)", "only counted")
    assert "entry 50" not in run("log", log, "--key", LOG.vkey, "--entries", "all")[1]
    refused(run("log", log, "--key", LOG.vkey), "2 finding(s)")


@pytest.mark.parametrize("kind", ["control", "window", "count", "epoch", "key", "erased", "digest"])
def test_each_kind_of_leaf_is_known(kind: str, tmp_path: Path, run: Run) -> None:
    """A receipt of one tells its content."""
    content = '{"n":9007199254740991,"none":null,"why":"Één"}'
    entries = [f'{{"v":1,"{kind}":{content}}}' if kind > "v" else f'{{"{kind}":{content},"v":1}}']
    log = naive.write(tmp_path / "log", [entry.encode() for entry in entries])
    accepted(run("log", log, "--key", LOG.vkey))
    entry = entries[0].encode()
    said = naive.carried(entry, None if kind == "erased" else naive.SALT)
    receipt = text(tmp_path / "r", naive.receipt([entry], 0, said=said))
    accepted(run("receipt", receipt, "--key", LOG.vkey), kind, "9007199254740991")
    # An erasure commits to no value and so has no salt; whatever else does.
    other = naive.carried(entry, naive.SALT if kind == "erased" else None)
    refused(run("receipt", text(tmp_path / "r", naive.receipt([entry], 0, said=other)), "--key", LOG.vkey), "a salt")


# ---- history


def test_an_older_checkpoint_must_be_a_beginning(log: Path, tmp_path: Path, run: Run) -> None:
    """Of each older size, also where it lies within a tile; a history signed anew is found out."""
    other = (decision(0), *decisions(300)[1:])
    for size in (1, 255, 256, 257, 299, 300):
        old = text(tmp_path / "old", naive.checkpoint(decisions(300)[:size]))
        accepted(run("log", log, "--key", LOG.vkey, "--old", old))
        old = text(tmp_path / "old", naive.checkpoint(other[:size]))
        word = "FORK" if size == 300 else "REWRITTEN"
        refused(run("log", log, "--key", LOG.vkey, "--old", old), word, str(old), f"size {size}, root")


def test_a_rollback_is_found(log: Path, tmp_path: Path, run: Run) -> None:
    """The checkpoint of an earlier day put back: valid in itself, but a later one was seen."""
    old = text(tmp_path / "old", naive.checkpoint(decisions(300)))
    naive.write(tmp_path / "log", decisions(256))
    accepted(run("log", log, "--key", LOG.vkey))
    refused(run("log", log, "--key", LOG.vkey, "--old", old), "ROLLED BACK", "size 300", "size 256")
    text(log / "checkpoint.w", naive.checkpoint(decisions(300)))
    refused(run("log", log, "--key", LOG.vkey), "ROLLED BACK", "checkpoint.w")


def test_consistency_of_two_checkpoints(log: Path, tmp_path: Path, run: Run) -> None:
    """From the tiles alone, the entries may be gone; neither a fork nor a rewritten history gets through."""
    shutil.rmtree(log / "tile/entries")
    new = text(tmp_path / "new", naive.checkpoint(decisions(300)))
    other = (decision(0), *decisions(300)[1:])
    for size in (0, 1, 256, 299, 300):
        old = text(tmp_path / "old", naive.checkpoint(decisions(300)[:size]))
        accepted(run("consistency", old, new, "--log", log, "--key", LOG.vkey), f"size {size},", "size 300,")
    for size in (1, 256, 299):
        old = text(tmp_path / "old", naive.checkpoint(other[:size]))
        refused(run("consistency", old, new, "--log", log, "--key", LOG.vkey), "REWRITTEN")
    fork = text(tmp_path / "old", naive.checkpoint(other))
    roots = [b64encode(naive.mth(naive.leaf_hashes(entries))).decode() for entries in (other, decisions(300))]
    refused(run("consistency", fork, new, "--log", log, "--key", LOG.vkey), "FORK", *roots, LOG.name)
    old = text(tmp_path / "old", naive.checkpoint(decisions(100)))
    refused(run("consistency", new, old, "--log", log, "--key", LOG.vkey), "ROLLED BACK")
    tile = log / "tile/0/000"
    tile.write_bytes(bytes(8192))
    code, out = run("consistency", old, new, "--log", log, "--key", LOG.vkey)
    assert (code, "prove nothing" in out) == (2, True)
    tile.unlink()
    assert run("consistency", old, new, "--log", log, "--key", LOG.vkey)[0] == 2


def test_another_origin_is_refused(log: Path, tmp_path: Path, run: Run) -> None:
    """A checkpoint of another partition, signed by the right key, says nothing of this one; nor does an older one."""
    p4 = "broker.example/audit/test/1/p4"
    other = Signer(p4, b"golden log key")
    new = text(tmp_path / "new", naive.checkpoint(decisions(300)))
    old = text(tmp_path / "old", naive.checkpoint(decisions(100), other, origin=p4))
    keys = text(tmp_path / "keys", f"{LOG.vkey}\n{Signer(p4, b'4').vkey}\n")
    refused(run("log", log, "--key-file", keys, "--old", old), "not signed by a known key of that origin")
    apart = Signer(p4, b"4")
    old = text(tmp_path / "old", naive.checkpoint(decisions(100), apart, origin=p4))
    refused(run("log", log, "--key-file", keys, "--old", old), "of which no whole log is here")
    refused(run("consistency", old, new, "--log", log, "--key-file", keys), "ANOTHER LOG")
    text(log / "checkpoint", naive.checkpoint(decisions(300), LOG, origin=p4))
    refused(run("log", log, "--key", LOG.vkey), "not signed by a known key of that origin")
    text(log / "checkpoint", naive.checkpoint(decisions(300), apart, origin=p4))
    text(log / "checkpoint.w", naive.checkpoint(decisions(100)))
    refused(run("log", log, "--key-file", keys), "ANOTHER LOG")


def test_folders_of_logs_are_all_verified(tmp_path: Path, run: Run) -> None:
    """One wrong log refuses all; the same log twice is where another should stand; older ones go to theirs."""
    signers = [Signer(f"broker.example/audit/test/1/p{n}", b"%d" % n) for n in range(3)]
    for n, signer in enumerate(signers):
        folder = naive.write(tmp_path / f"logs/1/p{n}", decisions(n + 5), signer, origin=signer.name)
        text(folder / "log.vkey", signer.vkey)
    old = text(tmp_path / "old", naive.checkpoint(decisions(4), signers[1], origin=signers[1].name))
    accepted(run("log", tmp_path / "logs", "--old", old), "NOTE", "size 5, ", "size 6, ", "size 7, ")
    shutil.copytree(tmp_path / "logs/1/p1", tmp_path / "logs/1/p2", dirs_exist_ok=True)
    keys = text(tmp_path / "keys", "\n".join(signer.vkey for signer in signers))
    refused(run("log", tmp_path / "logs", "--key-file", keys), "same origin")
    refused(run("log", tmp_path / "logs"), "same origin")  # with the keys beside them, of which two are one
    (tmp_path / "logs/1/p0/tile/entries/000.p/5").unlink()
    refused(run("log", tmp_path / "logs", "--key-file", keys), "p0", "same origin", "000.p/5 is missing")


# ---- signatures and policies

POLICY = f"""# who counts
log {LOG.vkey} https://broker.example/
witness w1 {W1.vkey}
\twitness w2 {W2.vkey} https://w2.example/ \n
witness w3 {W3.vkey}
group schools any w1 w2
group all all schools w3
quorum schools
"""


def test_signatures_of_strangers_are_ignored(log: Path, run: Run) -> None:
    """As signed-note has it; even under the log's name, since another key has another id. Alone they do not count."""
    namesake = Signer(ORIGIN, b"another key")
    text(log / "checkpoint", naive.checkpoint(decisions(300), W1, namesake, LOG, W2))
    accepted(run("log", log, "--key", LOG.vkey))
    text(log / "checkpoint", naive.checkpoint(decisions(300), W1, namesake))
    refused(run("log", log, "--key", LOG.vkey), "is not signed by a known key")


@pytest.mark.parametrize(
    ("quorum", "signers", "enough"),
    [
        ("none", [], True), ("w1", [], False), ("w1", [W1], True), ("w1", [W2], False), ("schools", [W2], True),
        ("schools", [W3], False), ("all", [W1, W2], False), ("all", [W1, W3], True), ("all", [W3], False),
    ],
)  # fmt: skip
def test_the_quorum_of_the_policy_must_have_signed(
    quorum: str, signers: list[Signer], enough: bool, tmp_path: Path, run: Run
) -> None:
    """For logs, of the newest checkpoint or the newest that witnesses signed; for receipts, of the one inside."""
    policy = text(tmp_path / "policy", POLICY.replace("quorum schools", f"quorum {quorum}"))
    log = naive.write(tmp_path / "log", decisions(3))
    receipt = text(tmp_path / "r", naive.receipt(decisions(3), 1, LOG, *signers))
    verdict = accepted if enough else refused
    verdict(run("receipt", receipt, "--policy", policy))
    text(log / "checkpoint.w", naive.checkpoint(decisions(2), LOG, *signers))
    verdict(run("log", log, "--policy", policy))
    (log / "checkpoint.w").unlink()
    text(log / "checkpoint", naive.checkpoint(decisions(3), LOG, *signers))
    verdict(run("log", log, "--policy", policy))


def test_a_wrong_signature_of_a_known_witness_refuses_the_whole(tmp_path: Path, run: Run) -> None:
    """Even if the quorum does not need it; without the policy the witness is a stranger, and the standard ignores it."""
    policy = text(tmp_path / "policy", POLICY.replace("quorum schools", "quorum none"))
    good = naive.checkpoint(decisions(3), LOG, W1)
    wrong = good.replace(W1.line(good.partition("\n\n")[0] + "\n"), W1.line("another text\n"))
    assert wrong != good
    log = naive.write(tmp_path / "log", decisions(3))
    text(log / "checkpoint", wrong)
    refused(run("log", log, "--policy", policy), "wrong signature", W1.name)
    accepted(run("log", log, "--key", LOG.vkey))


WRONG_POLICIES = {
    "no quorum": POLICY.replace("quorum schools", ""),
    "two quorums": POLICY + "quorum none\n",
    "quorum of nobody": POLICY.replace("quorum schools", "quorum parents"),
    "no log": POLICY.replace("log ", "# "),
    "key twice": POLICY + f"log {LOG.vkey}\n",
    "witness key as log": POLICY + f"log {W1.vkey}\n",
    "log key as witness": POLICY + f"witness w4 {Signer('a', b'a').vkey}\n",
    "name twice": POLICY + f"witness schools {Signer('a', b'a', 4).vkey}\n",
    "witness none": POLICY + f"witness none {Signer('a', b'a', 4).vkey}\n",
    "member twice": POLICY.replace("any w1 w2", "any w1 w1"),
    "member of two groups": POLICY.replace("all schools w3", "all schools w1"),
    "member none": POLICY.replace("all schools w3", "all schools none"),
    "member before it is defined": POLICY.replace("any w1 w2", "any w1 all"),
    "no members": POLICY.replace("any w1 w2", "all"),
    "threshold 0": POLICY.replace("any w1", "0 w1"),
    "threshold too high": POLICY.replace("any w1 w2", "3 w1 w2"),
    "threshold with a sign": POLICY.replace("any w1 w2", "+1 w1 w2"),
    "unknown line": POLICY + "trust everybody\n",
    "control character": POLICY + "# \r\n",
    "key id of another": POLICY.replace(LOG.vkey, LOG.vkey.replace("7f4519d3", "7f4519d4")),
}


@pytest.mark.parametrize("case", WRONG_POLICIES)
def test_a_policy_that_is_not_one_checks_nothing(case: str, log: Path, tmp_path: Path, run: Run) -> None:
    """Exit code 2: better no answer than one by a policy that was misread."""
    assert run("log", log, "--policy", text(tmp_path / "good", POLICY.replace("quorum schools", "quorum none")))[0] == 0
    code, out = run("log", log, "--policy", text(tmp_path / "policy", WRONG_POLICIES[case]))
    assert (code, out.splitlines()[-1].startswith("NOT VERIFIED: it could not be checked")) == (2, True), out


BODY = GOLDEN_CHECKPOINT.partition("\n\n")[0] + "\n"
WRONG_BODIES = {
    "extension line": BODY + "more\n",
    "leading zero": BODY.replace("\n2\n", "\n02\n"),
    "sign": BODY.replace("\n2\n", "\n+2\n"),
    "other digits": BODY.replace("\n2\n", "\n２\n"),
    "short root": BODY.replace("CbcshkibUoGOyZNFO91MuAa34skVAEuG/ZHnSBijBG4=", "Cbcs"),
    "loose root": BODY.replace("BG4=", "BG5="),
    "no origin": BODY.partition("\n")[2],
    "control character": BODY.replace(".example", ".\texample"),
}


@pytest.mark.parametrize("case", WRONG_BODIES)
def test_a_checkpoint_has_one_writing(case: str, tmp_path: Path, run: Run) -> None:
    """Even rightly signed, another way of writing is not read."""
    log = naive.write(tmp_path, GOLDEN)
    text(log / "checkpoint", WRONG_BODIES[case] + "\n" + LOG.line(WRONG_BODIES[case]))
    refused(run("log", log, "--key", LOG.vkey))


# ---- receipts

ENTRIES = tuple(
    decision(n, value=naive.commitment(b"%d" % n), **{"in": {"value": naive.commitment(b"in")}}) for n in range(3)
)
GOOD_EXTRA = naive.carried(ENTRIES[1])
WRONG_EXTRAS = {
    "one more member": GOOD_EXTRA.replace(b'"v":1}', b'"v":1,"x":"y"}'),
    "version 2": GOOD_EXTRA.replace(b'"v":1}', b'"v":2}'),
    "version true": GOOD_EXTRA.replace(b'"v":1}', b'"v":true}'),
    "no version": GOOD_EXTRA.replace(b',"v":1}', b"}"),
    "white space": GOOD_EXTRA + b" ",
    "salt of 31 bytes": naive.carried(ENTRIES[1], naive.SALT[:31]),
    "salt of 33 bytes": naive.carried(ENTRIES[1], naive.SALT + b"x"),
    "salt of 29 bytes": naive.carried(ENTRIES[1], naive.SALT[:29]),
    "salt with padding": GOOD_EXTRA.replace(b'","v"', b'=","v"'),
    "salt is a number": b'{"entry":"","salt":1,"v":1}',
    "entry is an object": b'{"entry":{},"salt":"","v":1}',
    "no json": b"extra",
    "a list": b"[]",
    "nothing": b"",
}


@pytest.mark.parametrize("case", WRONG_EXTRAS)
def test_the_extra_data_of_a_receipt_has_one_writing(case: str, tmp_path: Path, run: Run) -> None:
    """It is not signed, so a loose reader would accept bits that mean nothing."""
    accepted(
        run("receipt", text(tmp_path / "r", naive.receipt(ENTRIES, 1)), "--key", LOG.vkey), "value was not checked"
    )
    wrong = text(tmp_path / "r", naive.receipt(ENTRIES, 1, said=WRONG_EXTRAS[case]))
    refused(run("receipt", wrong, "--key", LOG.vkey))


def test_a_receipt_of_what_is_no_leaf_is_refused(tmp_path: Path, run: Run) -> None:
    """It stands in the log, but says nothing that this tool could read out."""
    gossip = b'{"gossip":{},"v":1}'
    for said in (naive.carried(gossip), naive.carried(gossip, None)):
        receipt = text(tmp_path / "r", naive.receipt([gossip], 0, said=said))
        refused(run("receipt", receipt, "--key", LOG.vkey), "is not canonical JSON of a known kind of leaf")


def test_receipts_can_not_be_swapped(tmp_path: Path, run: Run) -> None:
    """Neither the entry of another place, nor the checkpoint of another tree, nor a longer or shorter path."""
    key = ("--key", LOG.vkey)
    proof = naive.receipt(ENTRIES, 1)
    head, _, signed = proof.partition("\n\n")
    step = head.rsplit("\n", 1)[1]
    for wrong in (
        naive.receipt(ENTRIES, 1, said=naive.carried(ENTRIES[2])),
        f"{head}\n\n{naive.checkpoint(ENTRIES[:2])}",
        f"{head}\n{step}\n\n{signed}",
        f"{head.rsplit(chr(10), 1)[0]}\n\n{signed}",
        f"{head}\n\n{naive.checkpoint(())}",
        proof.replace("index 1", "index 01"),
        proof.replace("index 1", "index 7"),
        proof.replace("@v1", "@v2"),
        proof + "\n",
    ):
        refused(run("receipt", text(tmp_path / "r", wrong), *key))
    with pytest.raises(AssertionError):
        refused(run("receipt", text(tmp_path / "r", proof), *key))


def test_the_value_is_what_came_in_or_what_went_out(tmp_path: Path, run: Run) -> None:
    """A sender holds the receipt of what it sent, a receiver of what it got; another event's value is neither."""
    receipt, value = text(tmp_path / "r", naive.receipt(ENTRIES, 1)), tmp_path / "value"
    for content, said in ((b"in", "came in"), (b"1", "went out")):
        value.write_bytes(content)
        accepted(run("receipt", receipt, "--key", LOG.vkey, "--value", value), said)
    value.write_bytes(b"2")
    refused(run("receipt", receipt, "--key", LOG.vkey, "--value", value), "is not the value")
    control = [b'{"control":{},"v":1}']
    refused(run("receipt", text(tmp_path / "c", naive.receipt(control, 0)), "--key", LOG.vkey, "--value", value))


def test_a_leaf_can_not_write_on_the_terminal(tmp_path: Path, run: Run) -> None:
    """What files say is printed short and in ASCII; odd types in a leaf are no crash."""
    for entry in (
        decision(0, event="\x1b[2J" + "e" * 5000, kept=["\x07", 3, None]), decision(0, kept=[], sender=None),
        decision(0, kept="groep", event={"a": 1}, **{"in": "x"}), b'{"ldv":{"end_time":"x"},"v":1,"x":{}}',
        b'{"ldv":{"end_time":9007199254740991},"v":1,"x":{"value":["x"]}}',
        decision(0, event=["e" * 9]), b'{"control":{"a":"\\u001b[2J"},"v":1}',
    ):  # fmt: skip
        value = tmp_path / "value"
        value.write_bytes(b"v")
        receipt = text(tmp_path / "r", naive.receipt([entry], 0))
        code, out = run("receipt", receipt, "--key", LOG.vkey)
        assert code == 0, out
        assert out.isascii()
        assert all(c.isprintable() or c == "\n" for c in out)
        assert len(out) < 3000
        assert run("receipt", receipt, "--key", LOG.vkey, "--value", value)[0] == 1


# ---- hostile files and wrong usage


@pytest.mark.parametrize("name", [b"log\x1b[2J", b"log\nVERIFIED: size 3", b"log\xff", "log\u202e".encode()])
def test_the_name_of_a_folder_can_not_write_on_the_terminal(name: bytes, tmp_path: Path, run: Run) -> None:
    """Who hands over a stick chooses its names: no control character of them is printed, no name is a crash."""
    log = naive.write(tmp_path / os.fsdecode(name), decisions(3))
    (log / "tile/0/000.p/3").unlink()
    code, out = run("log", tmp_path, "--key", LOG.vkey)
    assert (code, out.isascii(), "\x1b" in out, "\nVERIFIED" in out) == (1, True, False, False)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["checkpoint", "checkpoint.w", "log.vkey", "tile/entries/000.p/3", "tile/0/000.p/3", "policy", "receipt", "old"]),
    data=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda said: said.encode("utf-8", "replace"))),
    cut=st.integers(0, 400),
)  # fmt: skip
def test_no_bytes_in_any_file_are_a_crash(
    name: str, data: bytes, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random bytes, alone or after the beginning of what belongs there, end with an exit code, not with a traceback."""
    log = naive.write(tmp_path_factory.mktemp("log"), decisions(3))
    text(log / "log.vkey", LOG.vkey)
    text(log / "checkpoint.w", naive.checkpoint(decisions(2)))
    text(log / "policy", POLICY)
    text(log / "old", naive.checkpoint(decisions(1)))
    text(log / "receipt", naive.receipt(ENTRIES, 1, LOG, W1))
    (log / name).write_bytes((log / name).read_bytes()[:cut] + data)
    policy = ["--policy", str(log / "policy")]
    for command in (
        ["log", str(log), "--old", str(log / "old")],
        ["log", str(log), "--entries", "all", *policy],
        ["receipt", str(log / "receipt"), "--value", str(log / name), *policy],
        ["consistency", str(log / "old"), str(log / "checkpoint"), "--log", str(log)],
    ):
        assert verify.main(command) in (0, 1, 2)


def test_sizes_and_lengths_of_files_are_not_trusted(tmp_path: Path, run: Run) -> None:
    """A signed size without end stops at the first file that is missing; too large a file is not read whole."""
    log = naive.write(tmp_path / "log", decisions(3))
    text(log / "checkpoint", naive.note(10**18, bytes(32)))
    refused(run("log", log, "--key", LOG.vkey), "tile/entries/000 is missing")
    with (log / "checkpoint").open("wb") as file:
        file.truncate(1 << 40)
    refused(run("log", log, "--key", LOG.vkey), "is larger than")
    naive.write(tmp_path / "log", decisions(3))
    shutil.rmtree(log / "tile/0/000.p/")
    (log / "tile/0/000.p/3").mkdir(parents=True)
    refused(run("log", log, "--key", LOG.vkey), "tile/0/000.p/3")


def test_what_can_not_be_checked_ends_with_two(log: Path, tmp_path: Path, run: Run) -> None:
    """A missing file, a missing key, a key that is none."""
    receipt = text(tmp_path / "r", naive.receipt(ENTRIES, 1))
    for arguments in (
        ("log", tmp_path / "nowhere", "--key", LOG.vkey),
        ("log", log),
        ("log", log, "--key", "x"),
        ("log", log, "--key", LOG.vkey, "--key", LOG.vkey),
        ("log", log, "--key-file", tmp_path / "nowhere"),
        ("log", log, "--policy", tmp_path / "nowhere"),
        ("log", log, "--key", LOG.vkey, "--old", tmp_path / "nowhere"),
        ("receipt", receipt),
        ("receipt", tmp_path / "nowhere", "--key", LOG.vkey),
        ("receipt", receipt, "--key", LOG.vkey, "--value", tmp_path / "nowhere"),
        ("consistency", log / "checkpoint", tmp_path / "nowhere", "--log", log, "--key", LOG.vkey),
    ):
        code, out = run(*arguments)
        assert (code, out.splitlines()[-1][:37]) == (2, "NOT VERIFIED: it could not be checked"), out


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["log"], ["log", "a", "b"], ["receipt", "a", "b"], ["consistency", "a"], ["consistency", "a", "b"],
        ["tree", "a"], ["receipt", "a", "--old", "b"], ["log", "a", "--value", "b"], ["receipt", "a", "--log", "b"],
        ["log", "a", "--key", "b", "--policy", "c"], ["log", "a", "--entries", "some"],
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An option of another command is not silently ignored."""
    with pytest.raises(SystemExit) as ended:
        verify.main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_key_beside_the_log_is_said(log: Path, run: Run) -> None:
    """Who changes a log can change the key that lies beside it."""
    text(log / "log.vkey", LOG.vkey + "\n")
    accepted(run("log", log), "NOTE", "compare with the published ones", LOG.vkey)
    assert "NOTE" not in run("log", log, "--key", LOG.vkey)[1]


def test_the_naive_log_is_right() -> None:
    """RFC 6962 section 2.1.3, the tree of seven leaves; else verifier and test could be wrong alike."""
    a = naive.leaf_hashes([b"%d" % n for n in range(7)])
    h = [sha256(b"\x01" + a[n] + a[n + 1]).digest() for n in (0, 2, 4)]
    k, m = sha256(b"\x01" + h[0] + h[1]).digest(), sha256(b"\x01" + h[2] + a[6]).digest()
    assert naive.mth(a) == sha256(b"\x01" + k + m).digest()
    assert naive.path(6, a) == [h[2], k]
    assert naive.path(0, a) == [a[1], h[1], m]
