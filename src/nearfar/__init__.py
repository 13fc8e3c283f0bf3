"""Hears that a machine is failing: anomalous sound detection with a near and a far microphone.

The public names load what they need when they are first used, so that ``import nearfar`` costs nothing.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nearfar.detector.drifting import drift as drift
    from nearfar.detector.fitted import Detector as Detector
    from nearfar.detector.fitted import Verdict as Verdict
    from nearfar.evaluation.results import Result as Result
    from nearfar.evidence.explanation import Explanation as Explanation
    from nearfar.evidence.explanation import explain as explain
    from nearfar.listening.events import Event as Event
    from nearfar.listening.events import events_of as events_of
    from nearfar.listening.scoring import WindowVerdict as WindowVerdict
    from nearfar.listening.scoring import listen as listen
    from nearfar.recordings.clips import Clip as Clip
    from nearfar.recordings.clips import Dataset as Dataset
    from nearfar.recordings.clips import Machine as Machine
    from nearfar.recordings.datasets import load as load_dataset
    from nearfar.recordings.datasets import load_machine as load_machine
    from nearfar.research.experiment import run as run
    from nearfar.simulation import simulate as simulate
    from nearfar.simulation import simulate_stream as simulate_stream
    from nearfar.systems.fusion import load_any as load_system

    fit = Detector.fit

_PUBLIC = {
    "Clip": "nearfar.recordings.clips:Clip",
    "Dataset": "nearfar.recordings.clips:Dataset",
    "Detector": "nearfar.detector.fitted:Detector",
    "Event": "nearfar.listening.events:Event",
    "Explanation": "nearfar.evidence.explanation:Explanation",
    "Machine": "nearfar.recordings.clips:Machine",
    "Result": "nearfar.evaluation.results:Result",
    "Verdict": "nearfar.detector.fitted:Verdict",
    "WindowVerdict": "nearfar.listening.scoring:WindowVerdict",
    "drift": "nearfar.detector.drifting:drift",
    "events_of": "nearfar.listening.events:events_of",
    "explain": "nearfar.evidence.explanation:explain",
    "fit": "nearfar.detector.fitted:Detector.fit",
    "listen": "nearfar.listening.scoring:listen",
    "load_dataset": "nearfar.recordings.datasets:load",
    "load_machine": "nearfar.recordings.datasets:load_machine",
    "load_system": "nearfar.systems.fusion:load_any",
    "run": "nearfar.research.experiment:run",
    "simulate": "nearfar.simulation:simulate",
    "simulate_stream": "nearfar.simulation:simulate_stream",
}

__all__ = [
    "Clip",
    "Dataset",
    "Detector",
    "Event",
    "Explanation",
    "Machine",
    "Result",
    "Verdict",
    "WindowVerdict",
    "__version__",
    "drift",
    "events_of",
    "explain",
    "fit",
    "listen",
    "load_dataset",
    "load_machine",
    "load_system",
    "run",
    "simulate",
    "simulate_stream",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return pkgutil.resolve_name(_PUBLIC[name])
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}"
    )
