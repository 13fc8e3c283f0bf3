"""Reports of results that were never run, made in moments; names in them try to be markup."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from explanations_made import HOSTILE
from scored import make_clips, make_scores
from test_overview import made

from nearfar.evaluation.results import Result
from nearfar.recordings.clips import Clip
from nearfar.recordings.datasets.validation import Problem
from nearfar.research import reported
from nearfar.research.embedded import LEVELS, EmbeddingMap
from nearfar.research.leaving_out import Branches
from nearfar.research.listened import Heard, Listened
from nearfar.research.reported import Reported

RATE = 16000
MACHINE = f"fan {HOSTILE.replace('/', '_')}"


def hostile(clips: pd.DataFrame) -> pd.DataFrame:
    """The same clips of machines and with names that try to be markup."""
    machine = clips["machine"].replace("fan", MACHINE)
    keys = [f"{name}/test/{place} {HOSTILE}" for name, place in zip(machine, range(len(clips)), strict=True)]
    return clips.assign(machine=machine).set_index(pd.Index(keys, name="key"))


def result(
    name: str = HOSTILE, *, seeds: int = 2, machines: tuple[str, ...] = ("fan", "pump"), decides: bool = True
) -> Result:
    """A result of clips with hostile names."""
    rng = np.random.default_rng(len(name))
    clips = hostile(make_clips(machines))
    scores = make_scores(clips, rng, dict.fromkeys(range(1, seeds + 1), 1.0))
    system = {"source": HOSTILE, "branch": {"view": HOSTILE}}
    return made(clips, scores, rate=0.2 if decides else None, references=30, system=system, name=name)


def branches_of(found: Result) -> Branches:
    """Two branches that were never fused."""
    names = ("near", HOSTILE)
    weights = pd.DataFrame({"seed": 1, "machine": list(found.run.machines), "near": 0.75, HOSTILE: 0.25})
    columns = ["omega", "low", "high", "without", "adds", "adds_low", "adds_high"]
    table = pd.DataFrame(
        [[0.6, 0.5, 0.7, 0.55, 0.05, -0.01, 0.1], [0.5, 0.4, 0.6, np.nan, np.nan, np.nan, np.nan]],
        index=list(names), columns=columns,
    )  # fmt: skip
    return Branches(names, weights, table, "Chosen by nobody.", (f"{HOSTILE} is not in the folder.",))


def listened(found: Result, played: tuple[str, ...], *, seconds: float = 1.0) -> Listened:
    """What was heard of clips that nobody recorded."""
    rng = np.random.default_rng(3)
    table = found.scores.drop_duplicates("key").set_index("key")
    clips = [
        Clip(Path("x.wav"), row["machine"], 0, "test", key.split("/", 2)[2], row["domain"], row["label"])
        for key, row in table.iterrows()
    ]
    train = [
        Clip(Path("x.wav"), MACHINE, 0, "train", f"{i} {HOSTILE}", "source" if i else "target", "normal")
        for i in range(6)
    ]
    shown = (*train, *(clip for clip in clips if clip.machine == MACHINE))
    places = rng.standard_normal((len(shown), 2))
    heard = {}
    for clip in clips:
        if clip.key in played:
            sounds = {v: (0.01 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)
                      for v in ("near", "far", "cancelled")}  # fmt: skip
            heard[clip.key] = Heard(clip, RATE, seconds, sounds)
    problems = (
        Problem("warning", "clipped", clips[0].key, f"near clips in {HOSTILE}"),
        Problem("error", "truncated", clips[1].key, "the file is cut off"),
    )
    of_map = EmbeddingMap(MACHINE, LEVELS, (HOSTILE,), "", shown, places, np.array([0.5, 0.2]))
    unheard = {key: "it cannot be read" for key in played if key not in heard}
    return Listened(
        problems, len(clips), True, (of_map,), (f"{HOSTILE}: no encoder",), heard, unheard, ("fan", "saw")
    )


@cache
def report(*, seconds: float = 1.0, clips: int = 4) -> Reported:
    """Two results with everything that a page can show."""
    one, two = result(), result("plain", seeds=1)
    found = reported.gather([one, two])
    first = replace(found.results[0], branches=branches_of(one))
    played = (*found.results[0].wrong["key"][:clips], f"{MACHINE}/test/gone {HOSTILE}")
    return replace(
        found,
        results=(first, found.results[1]),
        played=played,
        listened=listened(one, played, seconds=seconds),
    )
