"""Arrays of small whole numbers in few bytes; what deltas of weights are written in. Pure.

An array of unsigned numbers is written in the shortest of three forms:

gaps    where what is not zero stands, as Rice codes of the gaps, then these numbers less one
packed  1, 2, 4 or 8 bits a number, the greatest of them for "more", then by how much more
planes  the lowest byte of each number, then the next …

Bytes are squeezed by zstd, whose Huffman stage comes close to their entropy; packing lets it see
several small numbers at once, for it spends at least a bit on each byte. A reader knows how many
numbers of what width it wants, so it knows the size of everything before it unpacks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Numbers = NDArray[np.unsignedinteger[Any]]
    Places = NDArray[np.int64]

PLANES, GAPS = 0, 16
PACKED = (1, 2, 4, 8)  # a packed form is told by its bits
MOST_RICE = 24  # bits of a gap's remainder
# Weights hardly repeat: what short matches save they cost again.
_SQUEEZE = zstandard.ZstdCompressionParameters.from_level(
    1, min_match=7, write_content_size=False, write_checksum=False
)


class Malformed(ValueError):
    """Bytes that no writer here has written."""


class Reader:
    """Takes from bytes in order; every taking is checked (`Malformed`)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        """The next bytes as they are."""
        if size > len(self._data) - self._at:
            raise Malformed("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        """A number of up to 63 bits."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:  # noqa: PLR2004
                return value
        raise Malformed("a number without an end")

    def squeezed(self, size: int) -> bytes:
        """What `squeeze` wrote, exactly `size` bytes of it."""
        head = self.number()
        data = self.take(head >> 1)
        if head & 1:
            try:
                # A frame that tells another size would be given that much memory.
                if zstandard.frame_content_size(data) not in {-1, size}:
                    raise Malformed("a frame of another size")
                data = zstandard.ZstdDecompressor().decompress(
                    data, max_output_size=size, allow_extra_data=False
                )
            except zstandard.ZstdError as fault:
                raise Malformed(f"zstd: {fault}") from None
        if len(data) != size:
            raise Malformed(f"{len(data)} bytes where {size} belong")
        return data

    def array(self, count: int, width: int) -> Numbers:
        """`count` numbers of `width` bytes each, as `array` wrote them."""
        return _read(self, count, width, nested=False) if count else _empty(width)

    def scattered(self, count: int, width: int) -> tuple[Places, Numbers]:
        """Of `count` numbers those that are not zero, and where they stand."""
        if count and self._data[self._at : self._at + 1] == bytes([GAPS]):
            self._at += 1
            return _read_gaps(self, count, width)
        values = self.array(count, width)
        places = np.flatnonzero(values != 0)
        return places, values[places]


def number(value: int) -> bytes:
    """A number of up to 63 bits, seven in each byte."""
    out = bytearray()
    while value > 127:  # noqa: PLR2004
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def squeeze(data: bytes) -> bytes:
    """Bytes behind their length, by zstd where that is shorter."""
    short = zstandard.ZstdCompressor(compression_params=_SQUEEZE).compress(data)
    if len(short) < len(data):
        return number(len(short) << 1 | 1) + short
    return number(len(data) << 1) + data


def array(values: Numbers) -> bytes:
    """Unsigned numbers in the shortest form; none at all are no bytes."""
    places = np.flatnonzero(values != 0)  # several times sooner than of the values
    return scattered(len(values), places, values[places])


def scattered(count: int, places: Places, there: Numbers) -> bytes:
    """As `array`, of so many numbers that are zero but for those `there`, in these places."""
    return min(_forms(count, places, there), key=len) if count else b""


def _forms(count: int, places: Places, there: Numbers) -> Iterator[bytes]:
    # Forms that cannot win are not tried: gaps of a dense array, packs of one nearly empty …
    if len(there) * 4 <= count:
        yield bytes([GAPS]) + _gaps(places, there)
        if len(there) * 64 < count:
            return
    values = there
    if len(there) < count:
        values = np.zeros(count, there.dtype)
        values[places] = there
    yield from _dense(values)


def _dense(values: Numbers) -> Iterator[bytes]:
    # … and packs of other bits than most of these numbers have.
    bits = int(values.mean()).bit_length() + 1
    for each in PACKED:
        if each <= 2 * bits <= 4 * each:
            yield bytes([each]) + _packed(values, each)
    if bits >= 8 or int(values.max()) > 255:  # noqa: PLR2004
        yield bytes([PLANES]) + _planes(values)


def _read(reader: Reader, count: int, width: int, *, nested: bool) -> Numbers:
    form = reader.take(1)[0]
    if form == PLANES:
        return _read_planes(reader, count, width)
    if form in PACKED:
        return _read_packed(reader, count, width, form)
    if form == GAPS and not nested:
        values = np.zeros(count, f"<u{width}")
        places, there = _read_gaps(reader, count, width)
        values[places] = there
        return values
    raise Malformed(f"a form {form} is not known here")


def _planes(values: Numbers) -> bytes:
    if not len(values):
        return b""
    planes = max(1, -(-int(values.max()).bit_length() // 8))
    split = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    return bytes([planes]) + b"".join(squeeze(split[:, n].tobytes()) for n in range(planes))


def _read_planes(reader: Reader, count: int, width: int) -> Numbers:
    if not count:
        return _empty(width)
    if not 0 < (planes := reader.take(1)[0]) <= width:
        raise Malformed(f"{planes} planes of numbers of {width} bytes")
    split = np.zeros((count, width), np.uint8)
    for n in range(planes):
        split[:, n] = np.frombuffer(reader.squeezed(count), np.uint8)
    return split.view(f"<u{width}").reshape(-1)


def _packed(values: Numbers, bits: int) -> bytes:
    most, each = (1 << bits) - 1, 8 // bits
    small = np.zeros((-(-len(values) // each), each), np.uint8)
    np.minimum(values, most, out=small.reshape(-1)[: len(values)], casting="unsafe")
    packed = small[:, 0].copy()
    for n in range(1, each):
        packed |= small[:, n] << np.uint8(n * bits)
    more = values[values >= most]
    return squeeze(packed.tobytes()) + _planes(more - more.dtype.type(most))


def _read_packed(reader: Reader, count: int, width: int, bits: int) -> Numbers:
    most, each = (1 << bits) - 1, 8 // bits
    packed = np.frombuffer(reader.squeezed(-(-count // each)), np.uint8)
    small = packed[:, None] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8(most)
    values = small.reshape(-1)[:count].astype(f"<u{width}")
    more = values == most
    values[more] += _read_planes(reader, int(np.count_nonzero(more)), width)
    return values


def _gaps(places: Places, there: Numbers) -> bytes:
    gaps = np.diff(places, prepend=-1) - 1
    if not len(places):
        return number(0)
    guess = int(gaps.mean()).bit_length()
    rice = min(
        range(max(0, guess - 2), min(MOST_RICE, guess + 1) + 1),
        key=lambda bits: len(gaps) * bits + int((gaps >> bits).sum()),
    )
    ends = np.cumsum((gaps >> rice) + 1) - 1
    unary = np.zeros(ends[-1] + 1, np.uint8)
    unary[ends] = 1
    rest = (gaps[:, None] >> np.arange(rice) & 1).astype(np.uint8)
    told = np.packbits(unary).tobytes()
    return (
        number(len(places))
        + bytes([rice])
        + number(len(told))
        + told
        + np.packbits(rest).tobytes()
        + min(_dense(there - there.dtype.type(1)), key=len)
    )


def _read_gaps(reader: Reader, count: int, width: int) -> tuple[Places, Numbers]:
    there = reader.number()
    if not there:
        return np.zeros(0, np.int64), _empty(width)
    if there > count or (rice := reader.take(1)[0]) > MOST_RICE:
        raise Malformed("more numbers than there is room for")
    told = np.frombuffer(reader.take(reader.number()), np.uint8)
    ends = np.flatnonzero(np.unpackbits(told))
    if len(ends) != there:
        raise Malformed(f"{len(ends)} gaps for {there} numbers")
    rest = np.frombuffer(reader.take(-(-there * rice // 8)), np.uint8)
    bits = np.unpackbits(rest, count=there * rice).reshape(there, rice)
    low = bits.astype(np.int64) @ (1 << np.arange(rice, dtype=np.int64))
    places = np.cumsum((np.diff(ends, prepend=-1) - 1 << rice) + low + 1) - 1
    if places[-1] >= count:
        raise Malformed("a number outside its array")
    values = _read(reader, there, width, nested=True)
    return places, values + values.dtype.type(1)


def _empty(width: int) -> Numbers:
    return np.zeros(0, f"<u{width}")
