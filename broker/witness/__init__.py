"""A witness of transparency logs (c2sp.org/tlog-witness): for a school board or a supplier, beside the broker.

A witness cosigns a checkpoint only if it continues the one that it cosigned before. So a log that shows different
histories to different readers, or takes leaves back, does not get the signatures that readers ask for.

    key       the witness's own key
    state     what was cosigned last of each log, on disk before any answer
    cosign    one request -> a cosignature or a refusal; pure
    server    HTTP, alarms, evidence
"""
