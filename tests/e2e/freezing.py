"""A worker that stops itself (SIGSTOP) at the worst moment: after its last look at the registry, before its commit.

    python -m tests.e2e.freezing <file> <time-outs as JSON> worker --connection ...

It does so once, at the first commit of a lane of the publisher's after `file` was made; then the file is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

from aiokafka import AIOKafkaProducer

from broker import settings
from broker.cli import main
from broker.demo import story
from broker.engine import EngineConfig


def arm(file: Path) -> None:
    """Stop the process within `commit_transaction`, before anything of it was done."""
    commit = AIOKafkaProducer.commit_transaction

    async def frozen(producer: AIOKafkaProducer) -> None:
        if f"in.{story.PUBLISHER}." in producer._txn_manager.transactional_id and file.exists():  # noqa: ASYNC240
            file.unlink()  # noqa: ASYNC240
            os.kill(os.getpid(), signal.SIGSTOP)
        await commit(producer)

    AIOKafkaProducer.commit_transaction = frozen


if __name__ == "__main__":
    arm(Path(sys.argv[1]))
    settings.EngineConfig = partial(EngineConfig, **json.loads(sys.argv[2]))  # type: ignore[misc, assignment]
    sys.argv[1:] = sys.argv[3:]
    sys.exit(main())
