"""The law of the product: routes (what may go where at all) and rules (what of it), both as data.

`Policy.projection` answers for one receiver which attributes pass. It never looks at an event: what was dropped is
the same whether it was filled in or not.
"""

from broker.policy.explain import explain, table
from broker.policy.projection import CHECKED_BY_EXCHANGE, CONDITIONS, DEFAULT_DENY, NOT_IN_AGREEMENT, Projection
from broker.policy.routes import Closing, Route, Routes
from broker.policy.rules import Cell, Policy, Row, Rule
from broker.policy.words import DESTINATIONS, PROCESSES, PRODUCT_TYPES, RECEIVER_ROLES, ROLES, SECTORS

__all__ = [
    "CHECKED_BY_EXCHANGE",
    "CONDITIONS",
    "DEFAULT_DENY",
    "DESTINATIONS",
    "NOT_IN_AGREEMENT",
    "PROCESSES",
    "PRODUCT_TYPES",
    "RECEIVER_ROLES",
    "ROLES",
    "SECTORS",
    "Cell",
    "Closing",
    "Policy",
    "Projection",
    "Route",
    "Routes",
    "Row",
    "Rule",
    "explain",
    "table",
]
