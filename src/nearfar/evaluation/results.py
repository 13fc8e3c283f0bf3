"""The tables of a result folder, read exactly as they were written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TEXT = ("key", "machine", "split", "domain", "label")
WHOLE = ("section", "seed")


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV table. An empty field is unknown, and nothing else is.

    Every number is the one that was written, to the last bit. Python converts the numbers, because what pandas does
    depends on its version.
    """
    table = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
    for column in table.columns.difference(TEXT):
        table[column] = [float("nan") if pd.isna(text) else float(text) for text in table[column]]
    whole = [column for column in WHOLE if column in table]
    return table.astype(dict.fromkeys(whole, int))
