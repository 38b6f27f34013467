"""The audit log: leaves now; trees, proofs and receipts build on them."""
