"""On air in an hour: what a new party gets, a school to try it with, somebody to talk to, and a check of it all."""
