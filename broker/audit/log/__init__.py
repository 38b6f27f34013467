"""A transparency log, in the formats of C2SP: notes, checkpoints, tiles, proofs, trust policies.

Pure: bytes in, bytes out. Only `directory` touches a disk.

    note         text signed by named keys, and cosignatures with a time     c2sp.org/signed-note, tlog-cosignature
    checkpoint   origin, size and root: what a log signs                     c2sp.org/tlog-checkpoint
    merkle       hashes, roots and proofs                                    RFC 6962, RFC 9162
    tiles        the tree and its entries as immutable files                 c2sp.org/tlog-tiles
    directory    those files in a folder, safe under a kill at any moment
    proof        one entry, its path and the checkpoint, in one file         c2sp.org/tlog-proof
    policy       whose signatures count                                      c2sp.org/tlog-policy
"""
