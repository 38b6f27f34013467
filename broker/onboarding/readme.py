"""The README of a bundle: what is in it, and what to do in which order, in plain words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def readme(party: dict[str, Any], sandbox_files: Iterable[str], keys_folder: str) -> str:
    """The text for a party.

    Args:
        party: the content of `party.json`. sandbox_files: names of the files with events.
    """
    name, topics, sandbox = party["party"], party["topics"], party["sandbox"]
    first = next(iter(sandbox_files), None)
    families = sorted(topics["out"])
    send = (
        f"""broker send {name} {first.removesuffix(".jsonl")} {name}/sandbox/{first} --profiles .
broker receive {name} status --profiles . --idle 10        # what became of it"""
        if first
        else f"broker receive {name} status --profiles . --idle 10        # your roles send nothing; this stays empty"
    )
    receive = "\n".join(f"broker receive {name} {family} --profiles . --idle 10" for family in families)
    received = "\n".join(f"| `{topic}` | {family} for you |" for family, topic in sorted(topics["out"].items()))
    return f"""# {name}: on air

This folder is all that {name} needs to take part. It holds a password and private keys: keep it where you keep
secrets, readable by your software alone, and out of version control.

| file | what it is |
|---|---|
| `connection.json`, `ca.pem` | address, login and authority of the broker, for the Python client |
| `kafka/java.properties` | the same for Java's Kafka client |
| `kafka/librdkafka.properties` | the same for librdkafka: C, Go, .NET, PHP, JavaScript |
| `kafka/python.json` | the same for confluent-kafka in Python |
| `{keys_folder}/*.jwk` | your private key: what comes to you is sealed for it |
| `{keys_folder}/record-key.secret` | makes the keys of your records, so that events of one pupil stay in order |
| `party.json` | who you are and which topics are yours, for programs; no secret in it |
| `schemas/*.avsc` | Avro schemas of what you send and receive |
| `sandbox/*.jsonl` | events that are ready to be sent |

Paths in `kafka/` are relative to this folder, which can stand anywhere. Start your program in it, or have it put the
folder before `ssl.ca.location` and `ssl.truststore.location`.

## What you need

The broker's source: ask the operator where it is. With Python 3.11 or newer, `pip install .` there, in a virtual
environment, gives you the command `broker`, which steps 1 to 3 use. Without Python there are programs in Java,
JavaScript and Go, in its folder `examples/clients`: build one as its README says, and give it this folder:

| here | there |
|---|---|
| `broker send {name} FAMILY FILE --profiles .` | `send {name} FAMILY FILE` |
| `broker receive {name} FAMILY --profiles . --idle 10` | `receive --idle 10 {name} FAMILY` |

## In this order

1. **Check.** In the folder above this one:

   ```
   broker party check {name}
   ```

   Each line says ok, or what is missing and what to do about it.

2. **Send** to the sandbox. School {sandbox["school"]} does not exist, and neither do its pupils; there is nobody whom
   you could harm. At the other side stands `zandbak`, which plays every other role.

   ```
{indented(send)}
   ```

3. **Receive.** Ask the operator to run `broker party sandbox {name}`: it sends you one event of each family.

   ```
{indented(receive)}
   ```

4. **Build.** In Python with `broker.client`; in other languages with `docs/wire-format.md` of the broker, which has
   test vectors, and with what you take over from the programs in `examples/clients`. Read your topics with
   `read_committed`, in groups whose names begin with `{party["group_prefix"]}`.

5. **Go live.** A school switches its link with you on, and the operator puts your agreement with its board into the
   registry. Nothing changes in your software but the school and the pupils.

## Your topics

| topic | what is on it |
|---|---|
| `{topics["in"]}` | what you send; only you may write there, and nobody but the broker reads it |
| `{topics["status"]}` | what became of each event, with a code and a sentence |
| `{topics["quarantine"]}` | what was set aside, sealed for you |
{received}
| `{topics["schemas"]}`, `{topics["broker_keys"]}` | published for everybody: schemas, and the key to seal for |

Lost the password, or seen it in the wrong place? Tell the operator at once: one command shuts it out, and you get
another.
"""


def indented(text: str) -> str:
    """Under an item of a list."""
    return "\n".join(f"   {line}" for line in text.splitlines())
