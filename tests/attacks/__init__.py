"""What somebody with bad intentions would try; kept, so that no guard is lost unseen.

Each attack says what it gained. The tests hold that it gained nothing, and that it would have gained something with
its guard taken away: an attack that can not succeed proves nothing (see `docs/threat-model.md` for who tries what).
"""
