"""Where the samples of an uncompressed recording lie in its file, and what its header says of their length.

Recorders, pipes and power cuts leave headers that are not finished, and files that are shorter than their header
says. libsndfile reads whatever is there without a word, or nothing; so the chunks are looked at here before.

Conventions
-----------
Sizes are in bytes. A *chunk* is a name, a size and that many bytes. Formats: RIFF (WAV), RF64 and BW64, RIFX,
Wave64, AIFF and AIFF-C, CAF, AU.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal

# The GUIDs of Wave64, from the description of the format by Sonic Foundry.
W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
W64_FORMAT = b"fmt " + bytes.fromhex("f3acd3118cd100c04f8edb8a")

EXTENSIBLE = 0xFFFE  # the format tag of a WAV that tells how many of its bits are valid
UNKNOWN_LENGTH = 0x7FFFF000  # from here on a placeholder of a program that could not seek back
UNKNOWN_LENGTH_64 = 1 << 62  # the same of 64-bit sizes
FULL_32 = 0xFFFFFFFF  # in RF64: the size is in the chunk ds64
MOST_CHUNKS = 1000  # that are looked at before the samples
MOST_CONTENT = 2**20  # bytes that are read of a chunk of another kind
TOLERATED = 1024  # that a header may count too many: its own size, or that of other chunks
SMALL_SHARE, TINY_SHARE = 10, 1000  # the tolerated are also at most a tenth; a thousandth is always tolerated

MAGIC = (b"fLaC", b"OggS", b"caff", b".snd", b"dns.")  # beside those that are looked at more closely
BEGINNING = 8192  # bytes, enough for some MPEG frames
MPEG_FRAMES = 3  # in a row; raw samples, too, can look like the head of one
# Of MPEG audio, layer III, by ISO/IEC 11172-3 and 13818-3: kbit/s and Hz by the bits of a frame's head.
MPEG_1_BITRATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MPEG_2_BITRATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MPEG_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


@dataclass(frozen=True, slots=True)
class Family:
    """Formats whose chunks are laid out alike.

    Attributes
    ----------
    first : int
        Where the first chunk begins.
    head : str
        Of a chunk, name and size, as of ``struct``.
    align : int
        Chunks begin at multiples of this.
    sound, format : bytes
        Names of the chunks of the samples, and of their format.
    counts_head : bool
        Whether the size of a chunk counts its head.
    before_sound : int
        Bytes in the chunk of the samples before the first sample.
    """

    first: int
    head: str
    align: int
    sound: bytes
    format: bytes
    counts_head: bool = False
    before_sound: int = 0

    @property
    def head_size(self) -> int:
        return struct.calcsize(self.head)


RIFF = Family(12, "<4sI", 2, b"data", b"fmt ")
RIFX = Family(12, ">4sI", 2, b"data", b"fmt ")
W64 = Family(40, "<16sQ", 8, W64_DATA, W64_FORMAT, counts_head=True)
AIFF = Family(12, ">4sI", 2, b"SSND", b"COMM", before_sound=8)
CAF = Family(8, ">4sQ", 1, b"data", b"desc", before_sound=4)
LARGE_WAV = (b"RF64", b"BW64")  # of these, libsndfile does not skip the padding of chunks of odd size
FAMILIES = {
    b"RIFF": RIFF, b"RF64": RIFF, b"BW64": RIFF, b"RIFX": RIFX, b"riff": W64, b"FORM": AIFF, b"caff": CAF,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk: where its content begins, how long it says to be, where it says so."""

    name: bytes
    start: int
    size: int
    size_at: int


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the samples are.

    Attributes
    ----------
    start : int
        Of the samples.
    claimed : int or None
        How many bytes of them the header promises; ``None``: it says that it does not know.
    available : int
        How many bytes there are from ``start`` to the end of the file.
    is_unfinished : bool
        Whether the header says 0, although samples follow.
    valid_bits : int or None
        How many bits of a sample are used, if the header says so.
    patches : mapping from place to bytes
        What to write there for libsndfile to read all samples.
    """

    start: int
    claimed: int | None
    available: int
    is_unfinished: bool = False
    valid_bits: int | None = None
    patches: dict[int, bytes] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """How many bytes the header promises that are not there."""
        return 0 if self.claimed is None else max(0, self.claimed - self.available)

    @property
    def is_truncated(self) -> bool:
        """Whether so much is missing that it was lost, and not miscounted."""
        claimed = self.claimed or 0
        tolerated = max(min(TOLERATED, claimed // SMALL_SHARE), claimed // TINY_SHARE)
        return self.missing > tolerated


def is_container(beginning: bytes | bytearray) -> bool:
    """Whether a file that begins so is in a known format, and not raw samples."""
    magic = beginning[:4]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return beginning[8:12] == b"WAVE"
    if magic == b"FORM":
        return beginning[8:12] in (b"AIFF", b"AIFC")
    if magic == b"riff":
        return beginning[:16] == W64_RIFF
    return beginning[:4] in MAGIC or beginning[:3] == b"ID3" or _is_mpeg(beginning)


def _is_mpeg(beginning: bytes | bytearray) -> bool:
    """Whether some frames of MPEG audio, layer III, follow each other."""
    place = 0
    for _ in range(MPEG_FRAMES):
        head = int.from_bytes(beginning[place : place + 4], "big")
        version, layer, bitrate, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
        if head >> 21 != 0x7FF or version not in MPEG_RATES or layer != 1 or bitrate in (0, 15) or rate == 3:
            return False
        kbps = (MPEG_1_BITRATES if version == 3 else MPEG_2_BITRATES)[bitrate]
        place += (144 if version == 3 else 72) * 1000 * kbps // MPEG_RATES[version][rate] + (head >> 9 & 1)
    return True


def extent_of(file: BinaryIO, size: int) -> Extent | None:
    """Where the samples of a file are; ``None`` if it is in another format, or has none.

    Parameters
    ----------
    file : binary file
        That can seek.
    size : int
        Of the file.
    """
    file.seek(0)
    magic = file.read(4)
    if magic in (b".snd", b"dns."):
        return _au(file, size, ">" if magic == b".snd" else "<")
    family = FAMILIES.get(magic)
    if family is None:
        return None
    before: dict[bytes, Chunk] = {}
    odd: dict[int, bytes] = {}
    for chunk in _chunks(file, family, family.first):
        if chunk.name == family.sound:
            extent = _extent(file, size, family, before, chunk)
            return replace(extent, patches=odd | extent.patches) if magic in LARGE_WAV else extent
        if chunk.size % 2:
            odd[chunk.size_at] = _fitting(chunk.size + 1, 4, "little")
        before.setdefault(chunk.name, chunk)
    return None


def chunk_of(file: BinaryIO, size: int, name: bytes) -> bytes | None:
    """The content of a chunk of a WAV, before or after the samples; ``None`` if there is none, or no WAV.

    Parameters
    ----------
    file : binary file
        That can seek: RIFF, RIFX, RF64 or BW64.
    size : int
        Of the file.
    name : bytes
        Of the chunk, such as ``b"bext"``. The first one of that name counts; one that is cut off is as it is.

    Examples
    --------
    >>> import io
    >>> from nearfar.recordings.containers import chunk_of
    >>> samples, note = (2).to_bytes(4, "little") + bytes(2), (4).to_bytes(4, "little") + b"hall"
    >>> wav = b"RIFF" + bytes(4) + b"WAVE" + b"data" + samples + b"note" + note
    >>> chunk_of(io.BytesIO(wav), len(wav), b"note")
    b'hall'
    """
    file.seek(0)
    magic = file.read(12)
    family = FAMILIES.get(magic[:4])
    if family not in (RIFF, RIFX) or magic[8:] != b"WAVE":
        return None
    start, large = family.first, None
    for _ in range(2):  # before the samples, then after them
        for chunk in _chunks(file, family, start):
            if chunk.name == name:
                file.seek(chunk.start)
                return file.read(min(chunk.size, MOST_CONTENT, max(size - chunk.start, 0)))
            if chunk.name == b"ds64":
                file.seek(chunk.start + 8)
                large = int.from_bytes(file.read(8), "little")
            if chunk.name == family.sound:
                samples = large if chunk.size == FULL_32 and large is not None else chunk.size
                start = chunk.start + samples + samples % family.align
                break
        else:
            return None
    return None


def _chunks(file: BinaryIO, family: Family, start: int) -> Iterator[Chunk]:
    """The chunks from there on, at most ``MOST_CHUNKS``; the last one may be longer than the file."""
    end = file.seek(0, io.SEEK_END)
    for _ in range(MOST_CHUNKS):
        if start > end:  # a size of 64 bits may lie beyond what any file can have
            return
        file.seek(start)
        head = file.read(family.head_size)
        if len(head) < family.head_size:
            return
        name, size = struct.unpack(family.head, head)
        content = start + family.head_size
        if family.counts_head:
            size = max(size - family.head_size, 0)
        yield Chunk(name, content, size, start + len(name))
        start = content + size
        start += -start % family.align


def _extent(file: BinaryIO, size: int, family: Family, before: dict[bytes, Chunk], sound: Chunk) -> Extent:
    """What the chunk of the samples says, and what is there."""
    file.seek(0)
    magic = file.read(4)
    start = sound.start + family.before_sound
    available = max(size - start, 0)
    claimed, size_at, width = sound.size, sound.size_at, struct.calcsize(family.head[-1])
    if magic in LARGE_WAV and b"ds64" in before and claimed == FULL_32:
        size_at, width = before[b"ds64"].start + 8, 8
        file.seek(size_at)
        claimed = int.from_bytes(file.read(8), "little")
    claimed = max(claimed - family.before_sound, 0)
    patches = {0: b"RF64"} if magic == b"BW64" else {}
    valid_bits = _valid_bits(file, family, before.get(family.format))
    unknown = (UNKNOWN_LENGTH if width == 4 else UNKNOWN_LENGTH_64) - family.before_sound
    is_unfinished = claimed == 0 and available > 0 and not _is_chain(file, family, start, size)
    is_unknown = claimed > available and claimed >= unknown
    if is_unfinished or (
        is_unknown and (family is CAF or magic in LARGE_WAV)
    ):  # libsndfile reads none of these
        counted = available + family.before_sound + (family.head_size if family.counts_head else 0)
        patches |= {size_at: _fitting(counted, width, "big" if family.head[0] == ">" else "little")}
        patches |= _patched_frames(file, family, before, available)
    said = None if is_unfinished or is_unknown else claimed
    return Extent(start, said, available, is_unfinished, valid_bits, patches)


def _fitting(number: int, width: int, order: Literal["big", "little"]) -> bytes:
    """A size in so many bytes; one that is too large for them is as large as they can say."""
    return min(number, 2 ** (8 * width) - 1).to_bytes(width, order)


def _is_chain(file: BinaryIO, family: Family, start: int, size: int) -> bool:
    """Whether nothing but chunks lies between there and the end of the file."""
    start -= family.before_sound  # these bytes are not there in a chunk of size 0
    end = start
    for chunk in _chunks(file, family, start):
        end = chunk.start + chunk.size
        if not all(32 <= letter < 127 for letter in chunk.name[:4]) or end > size:
            return False
    return size - end < family.align


def _valid_bits(file: BinaryIO, family: Family, chunk: Chunk | None) -> int | None:
    """How many bits are used of each sample, of a WAV that says so."""
    if chunk is None or family not in (RIFF, RIFX, W64) or chunk.size < 20:
        return None
    file.seek(chunk.start)
    content = file.read(20)
    if len(content) < 20:
        return None
    tag, *_, valid = struct.unpack(f"{family.head[0]}HHIIHHHH", content)
    return valid if tag == EXTENSIBLE and valid > 0 else None


def _patched_frames(
    file: BinaryIO, family: Family, before: dict[bytes, Chunk], available: int
) -> dict[int, bytes]:
    """The number of frames in the header of an AIFF, which says it beside the size."""
    if family is not AIFF or b"COMM" not in before:
        return {}
    place = before[b"COMM"].start
    file.seek(place)
    channels, _, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
    return {place + 2: _fitting(available // max(channels * -(-bits // 8), 1), 4, "big")}


def _au(file: BinaryIO, size: int, order: str) -> Extent | None:
    """Of an AU file, which has no chunks."""
    head = file.read(8)
    if len(head) < 8:
        return None
    start, claimed = struct.unpack(f"{order}II", head)
    available = max(size - start, 0)
    if claimed == 0 and available:
        patch = _fitting(available, 4, "big" if order == ">" else "little")
        return Extent(start, None, available, True, patches={8: patch})
    return Extent(start, None if claimed >= UNKNOWN_LENGTH and claimed > available else claimed, available)
