"""The exchange: what happens to one event, from its bytes to its decisions.

Read the steps in their order; each is a module and one verb:

1. `open`       framing, schema, decoding, sealed parts
2. `check`      envelope against the registry, forms, PGN screen
3. `authorise`  route and the four gates
4. `swap`       local id -> ECK iD, ECK iD -> known at this school
5. `minimise`   only what this receiver may have
6. `seal`       one output per receiver
7. `decide`     audit leaf, status, quarantine, incident

`pipeline` puts them in this order; `setaside` is for an event that they fail on; `model`, `state`, `keys` and
`outcomes` are what they speak in. Nothing here knows Kafka: `exchange(state, inputs, views, keys, ...)` is a function
of values.
"""

from broker.exchange.keys import ExchangeKeys
from broker.exchange.model import Decision, InputRecord, Outcome, Outgoing, Parked, StateDelta, Step, Views
from broker.exchange.outcomes import CODES, meaning
from broker.exchange.pipeline import exchange
from broker.exchange.setaside import set_aside
from broker.exchange.state import LaneState

__all__ = [
    "CODES",
    "Decision",
    "ExchangeKeys",
    "InputRecord",
    "LaneState",
    "Outcome",
    "Outgoing",
    "Parked",
    "StateDelta",
    "Step",
    "Views",
    "exchange",
    "meaning",
    "set_aside",
]
