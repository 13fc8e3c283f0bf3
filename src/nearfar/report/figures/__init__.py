"""Figures for papers, slides and reports: each function returns a ``matplotlib.figure.Figure``.

The functions here take plain arrays. Those of ``of_result`` take a result, or its folder::

    from nearfar.report import figures

    figures.roc(anomalous, score).savefig("roc.pdf")
    figures.of_result.roc("results/spectral", "fan").savefig("fan.png", dpi=200)
    figures.explanation(nearfar.explain(detector, "new.wav")).savefig("new.png")

No function uses pyplot or changes matplotlib's settings. Names of files and machines are shown as they are, never
read as mathematics. Notebooks show a figure without more.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearfar.report.figures import of_result
    from nearfar.report.figures.experiments import (
        branch_weights,
        comparison,
        false_alarm_rates,
        heat_map,
        left_out,
        omegas,
        seeds,
    )
    from nearfar.report.figures.explained import explanation
    from nearfar.report.figures.scores import embeddings, roc, score_distributions
    from nearfar.report.figures.sounds import (
        abnormal_map,
        coherence,
        envelope_spectrum,
        levels,
        spectra,
        spectra_by_domain,
    )

_EXPERIMENTS, _SCORES, _SOUNDS = (f"{__name__}.{module}" for module in ("experiments", "scores", "sounds"))
_LOADED_WHEN_USED = {  # the picture of an explanation loads no tables and no statistics
    "abnormal_map": _SOUNDS,
    "branch_weights": _EXPERIMENTS,
    "coherence": _SOUNDS,
    "comparison": _EXPERIMENTS,
    "embeddings": _SCORES,
    "envelope_spectrum": _SOUNDS,
    "explanation": f"{__name__}.explained",
    "false_alarm_rates": _EXPERIMENTS,
    "heat_map": _EXPERIMENTS,
    "left_out": _EXPERIMENTS,
    "levels": _SOUNDS,
    "omegas": _EXPERIMENTS,
    "roc": _SCORES,
    "score_distributions": _SCORES,
    "seeds": _EXPERIMENTS,
    "spectra": _SOUNDS,
    "spectra_by_domain": _SOUNDS,
}

__all__ = [
    "abnormal_map",
    "branch_weights",
    "coherence",
    "comparison",
    "embeddings",
    "envelope_spectrum",
    "explanation",
    "false_alarm_rates",
    "heat_map",
    "left_out",
    "levels",
    "of_result",
    "omegas",
    "roc",
    "score_distributions",
    "seeds",
    "spectra",
    "spectra_by_domain",
]


def __getattr__(name: str) -> Any:
    if name in _LOADED_WHEN_USED:
        return pkgutil.resolve_name(f"{_LOADED_WHEN_USED[name]}:{name}")
    if name == "of_result":
        return pkgutil.resolve_name(f"{__name__}.of_result")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__]
