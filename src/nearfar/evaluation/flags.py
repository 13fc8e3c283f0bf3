"""How many test clips were flagged, of each machine and domain: false alarms that were got, and faults found."""

from __future__ import annotations

import pandas as pd

CELL = ["seed", "machine", "section", "domain"]
COUNTS = ["normals", "normals_flagged", "anomalies", "anomalies_flagged"]


def flagged(scores: pd.DataFrame) -> pd.DataFrame:
    """Normal and anomalous clips, and how many of each were flagged.

    Parameters
    ----------
    scores : DataFrame
        The scores of a result, with its decisions. Clips whose label or decision is not known do not count.

    Returns
    -------
    DataFrame
        A row for each seed, machine, section and domain, with the columns ``CELL`` and ``COUNTS``, in the order of
        the clips. The domain is missing where it is not known. No row if nothing is known.

    Examples
    --------
    >>> import pandas as pd
    >>> from nearfar.evaluation.flags import flagged
    >>> scores = pd.DataFrame(
    ...     {
    ...         "seed": 1,
    ...         "machine": "fan",
    ...         "section": 0,
    ...         "domain": ["source", "source", "target", "source"],
    ...         "label": ["normal", "normal", "normal", "anomaly"],
    ...         "decision": [0, 1, 1, 1],
    ...     }
    ... )
    >>> flagged(scores).set_index("domain")[["normals", "normals_flagged"]].T.to_dict("list")
    {'source': [2, 1], 'target': [1, 1]}
    """
    known = scores[scores["label"].isin(("normal", "anomaly")) & scores["decision"].notna()]
    if known.empty:
        return pd.DataFrame(columns=[*CELL, *COUNTS])
    is_normal, is_flagged = known["label"] == "normal", known["decision"].astype(float) == 1
    counted = known[CELL].assign(
        normals=is_normal,
        normals_flagged=is_normal & is_flagged,
        anomalies=~is_normal,
        anomalies_flagged=~is_normal & is_flagged,
    )
    return counted.groupby(CELL, sort=False, dropna=False)[COUNTS].sum().astype(int).reset_index()
