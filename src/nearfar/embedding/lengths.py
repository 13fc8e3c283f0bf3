"""Clips that an encoder cuts, or fills up with zeros: said once for each machine in a process.

A clip that is cut is not heard to its end. What a clip is filled up with becomes tokens, and these have a part in
its embedding. Neither is an error, but whoever asks for scores must know.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from nearfar.encoders import Encoder, Limited

CUT = "%s: encoder %r does not hear the end of %s (%.4g s of %.4g s are left out); %s"
FILLED = "%s: encoder %r adds zeros to %s (%.4g s beside %.4g s), which have a part in the embedding; %s"

logger = logging.getLogger(__name__)
_said: set[tuple[str, str, str]] = set()


def can_be_unheard(encoder: Encoder) -> bool:
    """Whether there are lengths of clips that this encoder cuts or fills.

    Examples
    --------
    >>> from nearfar.embedding.lengths import can_be_unheard
    >>> from nearfar.encoders.spectral import Spectral
    >>> can_be_unheard(Spectral())
    False
    """
    return isinstance(encoder, Limited) and not encoder.takes_any_length


def warn_of_lengths(encoder: Encoder, name: str, machine: str, seconds: Mapping[str, float]) -> None:
    """Say how many clips an encoder cuts or fills, if it does; each once for an encoder and machine.

    Parameters
    ----------
    encoder : Encoder
    name : str
        Of ``encoders.ENCODERS``.
    machine : str
        Of the clips.
    seconds : mapping from name to float
        How long each clip is.
    """
    if not isinstance(encoder, Limited) or encoder.takes_any_length:
        return
    changed = {clip: encoder.cut_and_filled(round(s * encoder.sample_rate)) for clip, s in seconds.items()}
    for place, message in enumerate((CUT, FILLED)):
        concerned = [clip for clip, by in changed.items() if by[place]]
        if concerned and (machine, name, message) not in _said:
            _said.add((machine, name, message))
            first = concerned[0]
            which = f"{len(concerned)} of {len(seconds)} clips, first {first}" if len(seconds) > 1 else first
            by = changed[first][place]
            logger.warning(message, machine, name, which, by, seconds[first], encoder.length_advice)
