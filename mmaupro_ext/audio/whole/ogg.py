"""Is an Ogg file whole? Judged by its pages, which have numbers, checksums and a mark on the last one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from mmaupro_ext.audio.whole import PRIMING, STRAY_BYTES, DamagedError, Verdict

REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# First bytes of the first packet of an Ogg stream that is audio.
OGG_AUDIO = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
LIBSNDFILES = OGG_AUDIO[:2]


def of_ogg(content: bytes) -> Verdict:
    """Judge an Ogg file: Vorbis, Opus, FLAC or Speex.

    Parameters
    ----------
    content : bytes
        The file.

    Raises
    ------
    DamagedError
        If a page is damaged, missing or cut, the stream's last page is not there, or there is more
        than one stream of audio, side by side or one after the other.
    """
    backwards = content.translate(REVERSED_BITS)
    pages: dict[int, int] = {}  # number of the last page of each stream
    ended: dict[int, bool] = {}
    granules: dict[int, int] = {}
    audio: list[int] = []
    at, by_ffmpeg = 0, False
    for number, (begin, segments, end) in enumerate(_ogg_pages(content)):
        head = content[begin : begin + 27]
        flags, granule, serial, page = struct.unpack_from("<5xBqII", head)
        # The CRC counts from the highest bit down, zlib's from the lowest up.
        crc = zlib.crc32(backwards[begin : begin + 22], 0xFFFFFFFF)
        crc = zlib.crc32(bytes(4), crc)
        crc = zlib.crc32(backwards[begin + 26 : end], crc) ^ 0xFFFFFFFF
        if crc != int.from_bytes(backwards[begin + 22 : begin + 26], "big"):
            raise DamagedError(f"is damaged: page {number} of the Ogg file fails its checksum")
        if flags & 2:
            if content.startswith(OGG_AUDIO, begin + 27 + segments):
                audio.append(serial)
                by_ffmpeg = not content.startswith(LIBSNDFILES, begin + 27 + segments)
            ended[serial], granules[serial] = False, -1
        elif serial not in pages or page != pages[serial] + 1 or ended[serial]:
            raise DamagedError(
                f"is damaged: pages are missing before page {number} of the Ogg file"
            )
        if granule != -1:
            if granule < granules[serial]:
                raise DamagedError(f"is damaged: time runs backwards in page {number}")
            granules[serial] = granule
        pages[serial], ended[serial] = page, bool(flags & 4)
        at = end
    if len(audio) > 1:
        raise DamagedError(f"holds {len(audio)} streams of audio")
    if not all(ended[serial] for serial in audio):
        raise DamagedError("is cut short: the last page of its Ogg stream is missing")
    if content.find(b"OggS", at) >= 0 or len(content) - at > STRAY_BYTES:
        raise DamagedError(f"has {len(content) - at} bytes after its last page")
    return Verdict(media="OGG" if by_ffmpeg else None, slack=PRIMING if by_ffmpeg else 0)


def _ogg_pages(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield begin, number of segments and end of each page."""
    at = 0
    while content.startswith(b"OggS", at):
        segments = content[at + 26] if at + 26 < len(content) else 0
        body = at + 27 + segments
        end = body + sum(content[at + 27 : body])
        if at + 27 > len(content) or end > len(content):
            raise DamagedError("is cut short: it ends inside a page")
        yield at, segments, end
        at = end
