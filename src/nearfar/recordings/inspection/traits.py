"""What is kept of each training clip, so that what is usual can be learnt again without the recordings.

``Usual.of`` takes the measurements of all clips. Most of these are a few numbers for each clip, and are kept as
they are, in single precision. The phases of the cross-spectrum are not: of them, the sum over each domain is kept,
which is all that the templates need, and of each clip how well it agrees with the others of its domain. So what is
usual is learnt again as from all clips at once, with one exception: the agreement of a clip is that with the clips
that were there when it was added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.inspection.measured import Measured
from nearfar.recordings.inspection.usual import (
    NO_RELATION,
    Usual,
    agreement_with_others,
    agreements,
    by_channel,
    by_domain,
    channels_of,
    how_still_by,
    levels_of,
    template_of,
    usual_agreement,
)

Float = NDArray[np.float64]
Single = NDArray[np.float32]
Phases = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Traits:
    """What is kept of n clips; C channels, B bands, F bins as of ``inspection.measured``.

    Attributes
    ----------
    rate : int
        In Hz.
    domain : tuple of str
        Of each clip; empty where it is not told.
    counted : (n,) array of bool
        Whether a clip has a part in what is usual: not if its channels are exchanged against those of most.
    seconds : (n,) array
    level, quiet, mean : (n, C) array
        As of ``usual.by_channel``.
    contrast : (n, B) array
        As of ``Pair``; NaN for a clip that is too short to have it, as in all that follows.
    presence : (n, 1 + PARTS, 3 B) array
    agreement : (n, 2) array
        As of ``usual.agreements``.
    phases : mapping from domain to (F,) complex array
        Sums of ``Pair.phase`` over the clips of each domain that count.
    """

    rate: int
    domain: tuple[str, ...]
    counted: NDArray[np.bool_]
    seconds: Float
    level: Single
    quiet: Single
    mean: Float
    contrast: Single
    presence: Single
    agreement: Single
    phases: Mapping[str, Phases]

    def __len__(self) -> int:
        return len(self.domain)

    @classmethod
    def of(cls, clips: Sequence[Measured], domains: Sequence[str], counted: NDArray[np.bool_]) -> Self:
        """Of clips of one rate and number of channels.

        Parameters
        ----------
        clips : sequence of Measured
        domains : sequence of str
            Of each clip; empty where it is not told.
        counted : (n,) array of bool
            As of the class.
        """
        own = np.flatnonzero(counted & _has_pair(clips)).tolist()
        agreement = np.full((len(clips), 2), np.nan, np.float32)
        if own:
            of_own = np.stack([_phase(clips[i]) for i in own])
            groups = by_domain([domains[i] for i in own])
            templates = np.stack([template_of(of_own[g].mean(axis=0), len(g)) for g in groups])
            agreement[own] = agreements(of_own, groups, templates)
        return cls._described(clips, domains, counted, agreement, _sums(clips, domains, own))

    @classmethod
    def _described(
        cls,
        clips: Sequence[Measured],
        domains: Sequence[str],
        counted: NDArray[np.bool_],
        agreement: Single,
        phases: Mapping[str, Phases],
    ) -> Self:
        seconds, level, quiet, mean = by_channel(clips)
        paired = [clip.pair for clip in clips if clip.pair is not None]
        bands, rows = (paired[0].contrast.shape, paired[0].presence.shape) if paired else ((0,), (0, 0))
        contrast = np.full((len(clips), *bands), np.nan, np.float32)
        presence = np.full((len(clips), *rows), np.nan, np.float32)
        for i, clip in enumerate(clips):
            if clip.pair is not None:
                contrast[i], presence[i] = clip.pair.contrast, clip.pair.presence
        return cls(
            rate=clips[0].rate,
            domain=tuple(domains),
            counted=counted,
            seconds=seconds,
            level=level.astype(np.float32),
            quiet=quiet.astype(np.float32),
            mean=mean,
            contrast=contrast,
            presence=presence,
            agreement=agreement,
            phases=phases,
        )

    def joined(self, clips: Sequence[Measured], domains: Sequence[str]) -> Self:
        """These clips, and others of the same rate and number of channels after them, which all count."""
        own = np.flatnonzero(_has_pair(clips)).tolist()
        phases = dict(self.phases)
        for d, total in _sums(clips, domains, own).items():
            phases[d] = phases.get(d, 0) + total
        new = self._described(
            clips, domains, np.ones(len(clips), bool), np.full((len(clips), 2), np.nan, np.float32), {}
        )
        both = replace(self, phases=phases, **_rows_of_both(self, new), domain=(*self.domain, *new.domain))
        if own:
            paired, groups, templates = both._relation()
            of_clip = {i: g for g, group in enumerate(groups) for i in paired[group].tolist()}
            for i in own:
                g = of_clip[len(self) + i]
                both.agreement[len(self) + i] = agreement_with_others(
                    _phase(clips[i]), templates[g], len(groups[g])
                )
        return both

    def _relation(self) -> tuple[NDArray[np.intp], list[NDArray[np.intp]], NDArray[np.complex64]]:
        """Of the clips that count and have a pair: which they are, their groups, and the template of each."""
        own = np.flatnonzero(
            self.counted & ~np.isnan(self.contrast).any(axis=1) & (self.contrast.shape[1] > 0)
        )
        groups = by_domain([self.domain[i] for i in own])
        sums = [
            np.sum([self.phases[d] for d in sorted({self.domain[i] for i in own[group]})], axis=0)
            for group in groups
        ]
        templates = [template_of(s / len(g), len(g)) for s, g in zip(sums, groups, strict=True)]
        return own, groups, np.stack(templates)

    def usual(self) -> Usual:
        """What the clips have in common, as ``Usual.of`` and ``Usual.allowing`` would learn it from all of them."""
        own = np.flatnonzero(self.counted)
        of_channels = channels_of(
            self.seconds[own],
            self.level[own].astype(np.float64),
            self.quiet[own].astype(np.float64),
            self.mean[own],
            [self.domain[i] for i in own],
        )
        if not self.phases:
            return Usual(rate=self.rate, **of_channels, **NO_RELATION)
        paired, groups, templates = self._relation()
        contrast, presence = (x[paired].astype(np.float64) for x in (self.contrast, self.presence))
        agreement = usual_agreement(self.agreement[paired].astype(np.float64), templates.shape[1])
        levels = levels_of(contrast, presence, groups)
        found = Usual(rate=self.rate, **of_channels, templates=templates, agreement=agreement, **levels)
        heard = self.presence.astype(np.float64)
        known = [None if np.isnan(one).any() else one for one in heard]
        return found.with_limits_of([how_still_by(found, one) for one in known])

    def select(self, order: NDArray[np.intp]) -> Self:
        """The same clips in another order."""
        return replace(
            self,
            domain=tuple(self.domain[i] for i in order),
            **{name: getattr(self, name)[order] for name in ROWS},
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To save it; the domains are known from elsewhere."""
        found: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in ROWS}
        found |= {"counted": self.counted.astype(np.uint8), "rate": np.asarray(self.rate)}
        if self.phases:
            sums = np.stack([self.phases[name] for name in sorted(self.phases)])
            found["phases"] = np.stack([sums.real, sums.imag])
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], domain: Sequence[str]) -> Self:
        """What ``arrays`` saved, of clips of these domains."""
        rows = {name: arrays[name] for name in ROWS} | {"counted": arrays["counted"].astype(bool)}
        phases: dict[str, Phases] = {}
        if "phases" in arrays:
            paired = np.flatnonzero(rows["counted"] & ~np.isnan(rows["contrast"]).any(axis=1))
            real, imaginary = arrays["phases"]
            names = sorted({domain[i] for i in paired.tolist()})
            phases = dict(zip(names, real + 1j * imaginary, strict=True))
        return cls(rate=int(arrays["rate"]), domain=tuple(domain), phases=phases, **rows)


ROWS = ("counted", "seconds", "level", "quiet", "mean", "contrast", "presence", "agreement")


def _rows_of_both(first: Traits, second: Traits) -> dict[str, Any]:
    """The rows of the first, then those of the second; where one has no bands, all of its are NaN."""
    both = {}
    for name in ROWS:
        one, other = getattr(first, name), getattr(second, name)
        if one.shape[1:] != other.shape[1:]:
            shape = max(one.shape[1:], other.shape[1:])
            one, other = (
                x if x.shape[1:] == shape else np.full((len(x), *shape), np.nan, np.float32)
                for x in (one, other)
            )
        both[name] = np.concatenate([one, other])
    return both


def _has_pair(clips: Sequence[Measured]) -> NDArray[np.bool_]:
    return np.array([clip.pair is not None for clip in clips], dtype=bool)


def _phase(clip: Measured) -> NDArray[np.complex64]:
    assert clip.pair is not None
    return clip.pair.phase


def _sums(clips: Sequence[Measured], domains: Sequence[str], which: Sequence[int]) -> dict[str, Phases]:
    """The sums of the phases of some clips, (F,), by domain."""
    found: dict[str, Phases] = {}
    for i in which:
        found[domains[i]] = found.get(domains[i], 0) + _phase(clips[i]).astype(np.complex128)
    return found
