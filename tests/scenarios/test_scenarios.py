"""All scenarios of this folder, one feature file each. The words are in `steps_*` and `words`."""

from pytest_bdd import scenarios

pytest_plugins = (
    "tests.scenarios.steps_people",
    "tests.scenarios.steps_registry",
    "tests.scenarios.steps_sending",
    "tests.scenarios.steps_receiving",
    "tests.scenarios.steps_evidence",
    "tests.scenarios.steps_quarantine",
    "tests.scenarios.steps_sealed",
    "tests.scenarios.steps_sources",
    "tests.scenarios.steps_erasure",
)

scenarios(".")
