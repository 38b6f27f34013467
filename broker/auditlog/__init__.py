"""The log builder: makes signed transparency logs of the audit topics, one for each partition.

`book` says what a log is called and where it stands; `builder` lets one log grow; `service` runs one builder for each
partition; `epoch` begins a new log when the history behind one was lost; `witnessing` has the logs cosigned by those
who watch them, and `asking` asks one. The formats are in `broker.audit.log`; why each thing is as it is: docs/audit.md.
"""
