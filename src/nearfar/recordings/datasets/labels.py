"""Which label the name of a folder or file says, in the words of the data sets that there are.

A name says a label by whole words, never by a part of one: ``01_NG``, ``fault_ball`` and ``AnomalousSound`` are
anomalous, ``normal_fan`` and ``failover_hall`` are not. A word with "no" before it says the opposite: ``no_fault``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from nearfar.recordings.clips import Label

# without accents, in lower case: English, German, French, Italian, Spanish, Japanese in Latin letters
_ANOMALOUS = """
abnormal abnormality abnormalities anomal anomaly anomalies anomalous anormal unnormal outlier outliers
fault faults faulty defect defects defective broken damage damages damaged fail fails failed failing failure
failures malfunction malfunctions malfunctioning unhealthy bad ng nok nogood reject rejects rejected
anomalie anomalien abnorm fehler fehlerhaft fehlerhafte defekt defekte kaputt schaden schadhaft schaeden
beschadigt beschaedigt gestort gestoert storung stoerung storungen stoerungen schlecht ausschuss nio
defaut defauts defectueux panne pannes mauvais
anomalia anomalias guasto guasti difetto difetti difettoso
falla fallas fallo fallos averia averias defecto defectos defectuoso
ijo ijou izyo izyou koshou kosho furyou furyo furyohin furyouhin kekkan
"""
_NORMAL = """
normal normals good ok okay healthy io intact nominal faultfree faultless defectfree nofault nodefect
normale gut intakt fehlerfrei bon sain buono sano bueno
seijo seijou seizyou ryohin ryouhin
"""
_NEUTRAL = "sound sounds clip clips data audio wav wavs recording recordings sample samples"
_NEGATING = "no non not without n ohne kein keine keinen nicht sans pas sin senza zero"  # before a word
_FREEING = "free frei less los"  # after a word

ANOMALOUS, NORMAL = frozenset(_ANOMALOUS.split()), frozenset(_NORMAL.split())
NEUTRAL, NEGATING, FREEING = (frozenset(words.split()) for words in (_NEUTRAL, _NEGATING, _FREEING))
COMPOUND = ("fault", "schaden", "fehler", "defekt", "storung", "stoerung")  # ballfault, Lagerschaden
NO_COMPOUND = frozenset(("default",))
ANOMALOUS_CHARACTERS = ("異常", "不良", "故障", "欠陥", "异常", "缺陷", "불량")
NORMAL_CHARACTERS = ("正常", "良品")

_NONE = ("なし", "無し")  # after a word in Japanese

_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_CAPITALS = re.compile(r"[A-Z]{2,}(?=[a-z]{2})|[A-Z]?[a-z]+|[A-Z]+")  # NGclips


def says_anomaly(name: str) -> bool:
    """Whether a word of a name says that what it names is not normal.

    Examples
    --------
    >>> from nearfar.recordings.datasets.labels import says_anomaly
    >>> [name for name in ("abnormal-2", "01_NG", "n.i.O.", "normal_fan", "no_fault") if says_anomaly(name)]
    ['abnormal-2', '01_NG', 'n.i.O.']
    """
    return "anomaly" in _said(name)


def is_normal(name: str) -> bool:
    """Whether a name says that what it names is normal, and nothing else."""
    if any(characters in name for characters in NORMAL_CHARACTERS):
        return not says_anomaly(name)
    known = NEUTRAL | NORMAL | ANOMALOUS | NEGATING | FREEING
    return _said(name) == {"normal"} and any(known.issuperset(_words(name, p)) for p in (_WORD, _CAMEL))


def label_of(name: str) -> Label | None:
    """The label that a folder of test clips says; None if it says none.

    Examples
    --------
    >>> from nearfar.recordings.datasets.labels import label_of
    >>> [label_of(name) for name in ("normal", "OK", "01_NG", "fault_ball", "heavyload", "normal_fan")]
    ['normal', 'normal', 'anomaly', 'anomaly', None, None]
    """
    if says_anomaly(name):
        return None if "normal" in _said(name) else "anomaly"
    return "normal" if is_normal(name) else None


def _said(name: str) -> set[Label]:
    """All labels that words of a name say."""
    found: set[Label] = set()
    for characters in ANOMALOUS_CHARACTERS:
        if characters in name:
            found.add("normal" if any(characters + none in name for none in _NONE) else "anomaly")
    for pattern in (_WORD, _CAMEL, _CAPITALS):
        found.update(_of_words(_words(name, pattern)))
    return found


def _of_words(words: Sequence[str]) -> Iterator[Label]:
    for place, word in enumerate(words):
        label = _of_word(word)
        if label is None:
            continue
        is_negated = (place > 0 and words[place - 1] in NEGATING) or (
            place + 1 < len(words) and words[place + 1] in FREEING
        )
        yield "anomaly" if (label == "anomaly") != is_negated else "normal"


def _of_word(word: str) -> Label | None:
    if word in NORMAL:
        return "normal"
    is_compound = word.endswith(COMPOUND) and word not in NO_COMPOUND
    return "anomaly" if word in ANOMALOUS or is_compound else None


def _words(name: str, pattern: re.Pattern[str]) -> list[str]:
    """Words in lower case without accents; letters that stand alone are one word, as in n.i.O."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    found: list[str] = []
    was_letter = False
    for word in (part for whole in _WORD.findall(plain) for part in pattern.findall(whole)):
        is_letter = len(word) == 1
        if is_letter and was_letter:
            found[-1] += word.lower()
        else:
            found.append(word.lower())
        was_letter = is_letter
    return found
