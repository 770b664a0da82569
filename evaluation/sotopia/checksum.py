"""The checksum of a journal's row."""

import hashlib

NUM_BYTES = 16


def checksum(*fields: int | str | None) -> bytes:
    """A digest of a row's table and fields, which also tells 1 from "1" and (ab, c) from (a, bc).

    BLAKE2b of 128 bits: CRC-32 lets one in 4 billion garbled rows pass, and saves about a microsecond a row.
    """
    parts = []
    for field in fields:
        text = str(field).encode()
        parts.append(b"%b %d %b " % (type(field).__name__.encode(), len(text), text))
    return hashlib.blake2b(b"".join(parts), digest_size=NUM_BYTES).digest()
