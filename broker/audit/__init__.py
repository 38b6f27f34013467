"""The audit log: leaves, the transparency log that holds them (`log`), and the receipts it gives."""
