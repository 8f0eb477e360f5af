"""Reads tables in MATLAB's `.mat` files.

They are read in a separate process, because scipy's compiled reader may crash on a damaged file.  No code in such a
file is run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tpt.errors import UserError

LIMIT_S = 120.0
# Numbers and texts of a vector, or of each field of a vector of structures, as JSON.
_READ = """
import json, sys
import numpy as np
from scipy.io import loadmat
file, name = sys.argv[1:]
table = np.atleast_1d(loadmat(file, squeeze_me=True, variable_names=[name])[name])
fields = table.dtype.names
def plain(value):
    value = np.asarray(value)
    return value.item() if value.ndim == 0 and value.dtype.kind in "biuf" else str(value)
rows = [{f: plain(row[f]) for f in fields} if fields else plain(row) for row in table.ravel()]
print(json.dumps(rows))
"""


def read_table(file: Path, name: str) -> list[Any]:
    """The rows of a variable: numbers, texts, or dictionaries of them; raises a UserError if it cannot be read."""
    command = [sys.executable, "-I", "-c", _READ, str(file), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{file.name}: reading it takes too long") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "its reader broke down"
        raise UserError(f"{file.name}: {reason[:200]}")
    return list(json.loads(done.stdout))
