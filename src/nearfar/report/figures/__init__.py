"""Figures for papers, slides and reports: each function returns a ``matplotlib.figure.Figure``.

The functions here take plain arrays. Those of ``of_result`` take a result, or its folder::

    from nearfar.report import figures

    figures.roc(anomalous, score).savefig("roc.pdf")
    figures.of_result.roc("results/spectral", "fan").savefig("fan.png", dpi=200)

No function uses pyplot or changes matplotlib's settings. Names of files and machines are shown as they are, never
read as mathematics. Notebooks show a figure without more.
"""

from nearfar.report.figures.experiments import (
    branch_weights,
    comparison,
    false_alarm_rates,
    heat_map,
    left_out,
    omegas,
    seeds,
)
from nearfar.report.figures.scores import embeddings, roc, score_distributions
from nearfar.report.figures.sounds import (
    abnormal_map,
    coherence,
    envelope_spectrum,
    levels,
    spectra,
    spectra_by_domain,
)

__all__ = [
    "abnormal_map",
    "branch_weights",
    "coherence",
    "comparison",
    "embeddings",
    "envelope_spectrum",
    "false_alarm_rates",
    "heat_map",
    "left_out",
    "levels",
    "omegas",
    "roc",
    "score_distributions",
    "seeds",
    "spectra",
    "spectra_by_domain",
]
