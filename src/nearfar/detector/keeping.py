"""What a detector keeps of its clips, so that it can learn more without the recordings.

Of each clip it keeps the embedding by each branch, as it came from the pooling; its name, domain, attributes and
group; its fingerprint; and what ``inspection.traits`` keeps of its sound. Conditioning and back end are then
fitted again to the embeddings of all clips. So learning is exact for all of them, and the threshold comes from the
same folds as of one fit to all clips. Sums would do for a covariance alone. For each domain, they take the place of
twice as many embeddings as these have dimensions, and they cannot say what a clip scores by a fit without its day.

Rows are not kept: an autoencoder's residuals are some hundred times as many numbers as one embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from nearfar.backends import part
from nearfar.recordings.clips import Clip, Domain
from nearfar.recordings.inspection.traits import Traits
from nearfar.recordings.recording import Span
from nearfar.systems.branches import Branch
from nearfar.systems.resolved import ResolvedBranch

SEPARATOR = "\0"  # of texts in one array: no name contains it
TEXTS = ("name", "domain", "attributes", "group")
ROWS = ("contents", "files", "spans")

Embeddings = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Bank:
    """Clips, of which no recording is kept.

    Attributes
    ----------
    name : tuple of str
        As of ``Clip``, or the file's name where that would be its whole path.
    domain, attributes, group : tuple of str
        As of ``Clip``; empty where nothing is told.
    contents : (n,) array of uint64
        The first 64 bits of the digest of each recording: of the part and the channels that are the clip.
    files : (n,) array of uint64
        Fingerprints of the whole recordings.
    spans : (n, 3) array of int
        Of a part of a recording: start, stop and rate, as of ``Span``; 0 of a whole one.
    embeddings : tuple of (n, ...) array or None
        Of each branch; ``None`` where they are not kept: for rows, and for arrays of different shapes.
    """

    name: tuple[str, ...]
    domain: tuple[str, ...]
    attributes: tuple[str, ...]
    group: tuple[str, ...]
    contents: NDArray[np.uint64]
    files: NDArray[np.uint64]
    spans: NDArray[np.int64]
    embeddings: tuple[Embeddings | None, ...]

    def __len__(self) -> int:
        return len(self.name)

    @classmethod
    def of(
        cls,
        clips: Sequence[Clip],
        recordings: Sequence[str],
        files: Sequence[int],
        embeddings: Sequence[Sequence[Embeddings] | None],
    ) -> Self:
        """Of clips, the digests of their recordings, fingerprints of these, and embeddings by each branch."""
        return cls(
            name=tuple(_name(clip) for clip in clips),
            domain=tuple(clip.domain or "" for clip in clips),
            attributes=tuple(clip.attributes for clip in clips),
            group=tuple(clip.group for clip in clips),
            contents=np.array([content_of(sha) for sha in recordings], dtype=np.uint64),
            files=np.array(files, dtype=np.uint64),
            spans=np.array([_span_as_row(clip.span) for clip in clips], dtype=np.int64).reshape(-1, 3),
            embeddings=tuple(stacked(X) for X in embeddings),
        )

    def clips(self, machine: str) -> tuple[Clip, ...]:
        """As ``Clip``, for what takes only names and what is told of them; there are no such files."""
        return tuple(
            Clip(
                Path(_recording(name, span)), machine, 0, "train", key_name(name, content),
                cast("Domain | None", domain or None), "normal", attributes, group=group,
                span=Span(*span) if any(span) else None,
            )
            for name, domain, attributes, group, content, span in zip(
                self.name, self.domain, self.attributes, self.group, self.contents.tolist(), self.spans.tolist(),
                strict=True,
            )
        )  # fmt: skip

    def select(self, which: NDArray[Any]) -> Self:
        """Some of the clips, or all in another order: positions, or True and False."""
        places = np.arange(len(self))[which].tolist()
        texts: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in places) for name in TEXTS}
        embeddings = tuple(None if X is None else X[places] for X in self.embeddings)
        rows: dict[str, Any] = {name: getattr(self, name)[places] for name in ROWS}
        return replace(self, **texts, **rows, embeddings=embeddings)

    def joined(self, other: Bank) -> Self:
        """These clips, then others."""
        texts: dict[str, Any] = {name: (*getattr(self, name), *getattr(other, name)) for name in TEXTS}
        embeddings = tuple(
            None if one is None or more is None else np.concatenate([one, more])
            for one, more in zip(self.embeddings, other.embeddings, strict=True)
        )
        rows: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ROWS
        }
        return replace(self, **texts, **rows, embeddings=embeddings)

    @property
    def order(self) -> NDArray[np.intp]:
        """Positions in the order of a machine's clips, whatever was added when: by recording, then by time."""
        spans = self.spans.tolist()
        keys = [
            (_recording(name, span), span, content)
            for name, span, content in zip(self.name, spans, self.contents.tolist(), strict=True)
        ]
        return np.array(sorted(range(len(self)), key=lambda i: keys[i]), dtype=np.intp)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To save it."""
        found: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in ROWS}
        found |= {name: _as_bytes(getattr(self, name)) for name in TEXTS}
        found |= {f"embeddings.{i}": X for i, X in enumerate(self.embeddings) if X is not None}
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], branches: int) -> Self:
        """What ``arrays`` saved, of a detector with so many branches."""
        n = len(arrays["contents"])
        texts: dict[str, Any] = {name: _from_bytes(arrays[name], n) for name in TEXTS}
        embeddings = tuple(arrays.get(f"embeddings.{i}") for i in range(branches))
        rows: dict[str, Any] = {name: arrays[name] for name in ROWS}
        return cls(**texts, **rows, embeddings=embeddings)


@dataclass(frozen=True, eq=False)
class Kept:
    """What a detector keeps, to learn more.

    Attributes
    ----------
    bank : Bank
        The clips that it is fitted to, by name.
    added : (n,) array of int
        Which entry of the detector's history each of them came with; 0 for the fit.
    traits : Traits or None
        Of the same clips. ``None`` if the fit kept clips that are broken: then what is usual stays as it is.
    far : mapping from int to (n, bands) array
        By the rate in Hz: levels of the same clips at the far microphone, where a threshold's folds go by them.
    unseen : (n, branches) array or None
        Scores of the same clips by fits that had not seen them, NaN where there is none; only if an encoder is
        fitted to the machine, because then they cannot be made again.
    later : Bank or None
        The recordings that ``calibrate`` set the threshold on: the detector is not fitted to them.
    later_scores : (n_later, branches) array or None
        Their scores by each branch.
    """

    bank: Bank
    added: NDArray[np.int32]
    traits: Traits | None
    far: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    unseen: NDArray[np.float64] | None = None
    later: Bank | None = None
    later_scores: NDArray[np.float64] | None = None

    def ordered(self) -> Self:
        """The same, with the clips by name."""
        order = self.bank.order
        return replace(
            self,
            bank=self.bank.select(order),
            added=self.added[order],
            traits=None if self.traits is None else self.traits.select(order),
            far={rate: levels[order] for rate, levels in self.far.items()},
            unseen=None if self.unseen is None else self.unseen[order],
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To save it."""
        parts: dict[str, Mapping[str, NDArray[Any]]] = {
            "bank": self.bank.arrays(),
            "far": {str(rate): levels for rate, levels in self.far.items()},
            "traits": {} if self.traits is None else self.traits.arrays(),
            "later": {} if self.later is None else self.later.arrays(),
        }
        found = {
            f"{name}.{inner}": array for name, arrays in parts.items() for inner, array in arrays.items()
        }
        more = {"added": self.added, "unseen": self.unseen, "later_scores": self.later_scores}
        return found | {name: array for name, array in more.items() if array is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], branches: int) -> Self:
        """What ``arrays`` saved, of a detector with so many branches."""
        bank = Bank.from_arrays(part(arrays, "bank"), branches)
        traits, later = part(arrays, "traits"), part(arrays, "later")
        return cls(
            bank=bank,
            added=arrays["added"],
            traits=Traits.from_arrays(traits, bank.domain) if traits else None,
            far={int(rate): levels for rate, levels in part(arrays, "far").items()},
            unseen=arrays.get("unseen"),
            later=Bank.from_arrays(later, branches) if later else None,
            later_scores=arrays.get("later_scores"),
        )


def content_of(sha: str) -> int:
    """The first 64 bits of a digest."""
    return int(sha[:16], 16)


def key_name(name: str, content: int) -> str:
    """What a clip is called whose recording is gone: no other has this name, whatever its file was called."""
    return f"{name}#{content:016x}"


def is_fitted_to_machine(branches: Iterable[ResolvedBranch]) -> bool:
    """Whether an encoder is, so that clips of the fit cannot be scored as unseen without training it again."""
    return any(branch.training is not None for branch in branches)


def refuse_rows(bank: Bank, branches: Sequence[Branch]) -> None:
    """Raise if a back end learns from rows, which are not kept.

    Raises
    ------
    ValueError
    """
    for branch, X in zip(branches, bank.embeddings, strict=True):
        if X is None and not learns_nothing(branch):
            raise ValueError(
                f"back end {branch.resolved.backend.name!r} learns from all rows of a clip "
                f"(pooling={branch.resolved.pooling!r}), which are too many to be kept in a detector; fit again to "
                "all recordings, the old ones and the new ones"
            )


def learns_nothing(branch: Branch) -> bool:
    """Whether more normal clips change no score of a branch."""
    return bool(getattr(branch.backend, "LEARNS_NOTHING", False)) and not branch.conditioning


def stacked(X: Sequence[Embeddings] | None) -> Embeddings | None:
    """The embeddings of clips as one array; ``None`` of arrays of different shapes, and of none."""
    return None if X is None or len({x.shape for x in X}) > 1 else np.stack(list(X))


def _name(clip: Clip) -> str:
    """The name of a clip, without the folder that it was found in."""
    folder = f"{PurePath(clip.path).parent}/"
    return clip.name.removeprefix(folder) if clip.name.startswith(str(clip.path)) else clip.name


def _span_as_row(span: Span | None) -> tuple[int, int, int]:
    return (0, 0, 0) if span is None else (span.start, span.stop, span.rate)


def _recording(name: str, span: Sequence[int]) -> str:
    """The name of the recording that a clip is of."""
    return name.rpartition("#")[0] if any(span) else name


def _as_bytes(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(SEPARATOR.join(texts).encode("utf-8", "surrogatepass"), dtype=np.uint8)


def _from_bytes(array: NDArray[np.uint8], n: int) -> tuple[str, ...]:
    return tuple(array.tobytes().decode("utf-8", "surrogatepass").split(SEPARATOR)) if n else ()
