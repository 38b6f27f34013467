"""The audit's query service: a board or a party asks over HTTPS, and each row that it gets proves itself.

`rights` says who may ask what, `questions` what can be asked, `people` how a pupil's id leads to leaves. `desk`
answers, and has each question written into the audit before (`record`). `server` is HTTPS around it, `service` the
process, and `client` the other side, which believes nothing without a proof. To run it: docs/howto/audit-service.md.
"""
