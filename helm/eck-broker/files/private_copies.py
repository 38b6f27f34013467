"""Copies mounted secrets to files that nobody but their owner can read.

Usage: private_copies.py TARGET SOURCE...     each SOURCE folder becomes TARGET/<its name>
"""

import os
import shutil
import sys
from pathlib import Path

os.umask(0o077)
target = Path(sys.argv[1])
for source in map(Path, sys.argv[2:]):
    folder = target / source.name
    shutil.rmtree(folder, ignore_errors=True)  # an init container may run again in the same pod
    folder.mkdir(mode=0o700)
    for file in sorted(source.iterdir()):
        if file.is_file():  # the kubelet's own `..data` and what it points to are folders
            copy = os.open(folder / file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
            with os.fdopen(copy, "wb") as out:
                out.write(file.read_bytes())
