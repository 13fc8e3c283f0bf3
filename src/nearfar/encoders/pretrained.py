"""Pretrained weights: what is known, under which licence, and where they lie on this computer.

Conventions
-----------
Weights that were fetched or added lie in ``weights_folder()/NAME``: one file of tensors, and ``record.json``,
which says what it is, where it came from and whether its licence was accepted. Nothing is fetched unasked.
Facts: the authors' repositories and model cards. A size or checksum that is not known is None.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from nearfar.recordings.clips import unknown

WEIGHTS_VARIABLE = "NEARFAR_WEIGHTS"
RECORD = "record.json"
BYTES_A_PARAMETER = 4  # published in float32
HUB = "https://huggingface.co/{}/{}/main/model.safetensors"  # resolve: the file; raw: its Git LFS pointer


class WeightsError(FileNotFoundError):
    """Weights that are not on this computer; says how to get them."""


@dataclass(frozen=True, slots=True)
class Licence:
    """Under what terms weights may be used; the summary is not the licence."""

    name: str
    url: str
    summary: str
    may_be_passed_on: bool = True


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Published weights.

    Attributes
    ----------
    name, encoder : str
        Of ``PRETRAINED`` and ``ENCODERS``.
    file : str
        As published.
    url : str or None
        Of the file; None if it cannot be fetched without a person.
    page : str
        Where it is described, or to be had by hand.
    licence : Licence
    paper : str
    sample_rate : int
        In Hz.
    dim : int
        Of a token.
    parameters : int
        Of the network, its head included; the file may hold more, which is not loaded.
    size : int or None
        Of the file, in bytes.
    sha256 : str or None
        Of the file.
    pointer : str or None
        Address at which the server names size and checksum, as Git LFS does.
    options : Mapping
        Of the architecture, where one encoder has several.
    must_accept : bool
        Whether the licence must be accepted first.
    """

    name: str
    encoder: str
    file: str
    url: str | None
    page: str
    licence: Licence
    paper: str
    sample_rate: int
    dim: int
    parameters: int
    size: int | None = None
    sha256: str | None = None
    pointer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    must_accept: bool = False

    @property
    def megabytes(self) -> str:
        """How large the file is, in words; where that is not known, what its network takes."""
        if self.size is not None:
            return f"{self.size / 1e6:.0f} MB"
        return f"about {self.parameters * BYTES_A_PARAMETER / 1e6:.0f} MB"

    @property
    def command(self) -> str:
        """What gets it."""
        if self.url is not None:
            return f"nearfar weights get {self.name}"
        return f"nearfar weights add {self.name} FILE" + (" --accept-licence" if self.must_accept else "")


MIT = Licence(
    "MIT",
    "https://opensource.org/license/mit",
    "You may use, change and pass on the weights, also commercially, with their copyright notice.",
)
APACHE = Licence(
    "Apache-2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    "You may use, change and pass on the weights, also commercially, with their notices and what you changed.",
)
NTT = Licence(
    "NTT evaluation licence",
    "https://github.com/nttcslab/m2d/blob/master/LICENSE.pdf",
    "For non-commercial evaluation only, and not to be passed on.",
    may_be_passed_on=False,
)


def _eat(name: str, repository: str, **known: Any) -> Pretrained:
    """EAT; facts: W. Chen et al., and the cards of worstchan/EAT-*."""
    return Pretrained(
        name=name,
        encoder="eat",
        file="model.safetensors",
        url=HUB.format(repository, "resolve"),
        pointer=HUB.format(repository, "raw"),
        page=f"https://huggingface.co/{repository}",
        licence=MIT,
        paper="W. Chen et al., EAT: Self-Supervised Pre-Training with Efficient Audio Transformer, "
        "arXiv:2401.03497",
        sample_rate=16000,
        **known,
    )


def _ced(size: str, **known: Any) -> Pretrained:
    """CED; facts: H. Dinkel et al., and the cards of mispeech/ced-*."""
    return Pretrained(
        name=f"ced_{size}",
        encoder="ced",
        file="model.safetensors",
        url=HUB.format(f"mispeech/ced-{size}", "resolve"),
        pointer=HUB.format(f"mispeech/ced-{size}", "raw"),
        page=f"https://huggingface.co/mispeech/ced-{size}",
        licence=APACHE,
        paper="H. Dinkel et al., CED: Consistent ensemble distillation for audio tagging, arXiv:2308.11957",
        sample_rate=16000,
        **known,
    )


def _m2d(name: str, archive: str, **known: Any) -> Pretrained:
    """M2D; the archive's name tells bands x frames."""
    return Pretrained(
        name=name,
        encoder="m2d",
        file=f"{archive}.zip",
        url=None,
        page="https://github.com/nttcslab/m2d/releases",
        licence=NTT,
        paper="D. Niizumi et al., Masked Modeling Duo: Towards a Universal Audio Pre-training Framework, "
        "arXiv:2404.06095",
        sample_rate=16000,
        dim=768,
        must_accept=True,
        **known,
    )


def _beats(name: str, file: str) -> Pretrained:
    """BEATs; the links on its page are often broken, so there is none here."""
    return Pretrained(
        name=name,
        encoder="beats",
        file=file,
        url=None,
        page="https://github.com/microsoft/unilm/tree/master/beats",
        licence=MIT,
        paper="S. Chen et al., BEATs: Audio Pre-Training with Acoustic Tokenizers, arXiv:2212.09058",
        sample_rate=16000,
        dim=768,
        parameters=90_311_792,
    )


_EVERY = (
    _eat("eat", "worstchan/EAT-base_epoch30_finetune_AS2M", dim=768, parameters=90_379_535),
    _eat(
        "eat_pretrained",
        "worstchan/EAT-base_epoch30_pretrain",
        dim=768,
        parameters=89_972_736,
        sha256="8623072d09aac4f3ad1168b4fed3a24e4f68fe1da25b9fe733375efb237e5f48",  # not the authors' word
    ),
    _eat("eat_large", "worstchan/EAT-large_epoch20_finetune_AS2M", dim=1024, parameters=309_409_295),
    _eat("eat_large_pretrained", "worstchan/EAT-large_epoch20_pretrain", dim=1024, parameters=308_867_072),
    _ced("tiny", dim=192, parameters=5_503_183),
    _ced("mini", dim=256, parameters=9_696_655),
    _ced("small", dim=384, parameters=21_622_543),
    _ced("base", dim=768, parameters=85_711_759),
    _m2d(
        "m2d",
        "m2d_vit_base-80x608p16x16-221006-mr7",
        options={"bands": 80, "frames": 608},
        parameters=85_400_832,
    ),
    _m2d(
        "m2d_as",
        "m2d_as_vit_base-80x608p16x16-240213",
        options={"bands": 80, "frames": 608},
        parameters=85_400_832,
    ),
    _m2d(
        "m2d_as_finetuned",
        "m2d_as_vit_base-80x1001p16x16-240213_AS-FT_enconly",
        options={"bands": 80, "frames": 1001},
        parameters=85_492_992,
    ),
    _beats("beats_iter3", "BEATs_iter3.pt"),
    _beats("beats_iter3_plus", "BEATs_iter3_plus_AS2M.pt"),
    Pretrained(
        name="mn04_as",
        encoder="efficientat",
        file="mn04_as_mAP_432.pt",
        url="https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt",
        page="https://github.com/fschmid56/EfficientAT",
        licence=MIT,
        paper="F. Schmid et al., Efficient Large-scale Audio Tagging via Transformer-to-CNN Knowledge "
        "Distillation, arXiv:2211.04772",
        sample_rate=32000,
        dim=384,
        parameters=983_599,
        size=4_066_513,
        sha256="899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    ),
)
PRETRAINED = {record.name: record for record in _EVERY}


def weights_folder() -> Path:
    """``$NEARFAR_WEIGHTS``, or the user's data folder of this operating system."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named) if named else platformdirs.user_data_path("nearfar") / "weights"


def stored(name: str) -> dict[str, Any] | None:
    """The ``record.json`` of weights that lie in the folder; None if they do not."""
    place = weights_folder() / name / RECORD
    return json.loads(place.read_text()) if place.is_file() else None


def find(name_or_path: str | Path) -> Path:
    """The file of weights that are named, or whose path is given.

    Raises
    ------
    WeightsError
        If it is not on this computer; says what it is, how large, under which licence, and what gets it.
    ValueError
        If no weights have this name.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in PRETRAINED:
        known = stored(name)
        if known is None:
            raise WeightsError(missing(PRETRAINED[name]))
        path = weights_folder() / name / known["file"]
    refuse_unknown(name)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights")
    return path


def refuse_unknown(name_or_path: str) -> None:
    """Raise if this is neither a name of weights nor like the path of a file.

    Raises
    ------
    ValueError
        If so; names the nearest.
    """
    path = Path(name_or_path)
    if name_or_path not in PRETRAINED and not path.suffix and path.name == name_or_path:
        raise ValueError(unknown("weights", name_or_path, PRETRAINED) + "; or give the path of a file")


def missing(record: Pretrained) -> str:
    """What to do about weights that are not here."""
    return f"the weights {described(record)} are not in {weights_folder()}; {advice(record)}"


def described(record: Pretrained) -> str:
    """Which weights these are, how large, and under which licence."""
    licence = record.licence
    return f"{record.name!r} ({record.file}, {record.megabytes}, licence {licence.name}: {licence.url})"


def advice(record: Pretrained) -> str:
    """How to get them."""
    if record.url is not None:
        return f"run `{record.command}`"
    read = "read the licence, " if record.must_accept else ""
    return f"{read}download the file from {record.page}, unpack it if it is an archive, and run `{record.command}`"
