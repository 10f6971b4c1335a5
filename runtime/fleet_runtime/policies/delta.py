"""From one safetensors file to the next in few bytes, and back to the last bit. Pure.

A weight that training moved is told by how many representable numbers (ulp) it went up or down.
Adam moves weights by about as much whatever their size, so a small one goes many ulp and a large
one none: weights are sorted by the exponent they had, which the reader knows too, and each group
of exponents is written by itself, in fewer bytes than their common entropy. Tensors whose bytes
stayed (frozen ones) cost nothing; new ones, and those of another shape or type, come whole. Any bit
pattern of any type goes through: the order of numbers is only a way to write bits.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet_contract.messages import digest_of
from fleet_runtime.aside import frozen
from fleet_runtime.policies.members import Members
from fleet_runtime.policies.symbols import Malformed, Reader, array, number, scattered, squeeze

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fleet_runtime.policies.symbols import Numbers, Places

ENCODING = "ulp-zstd-1"
"""Name of what is written here, in manifests; another format is another name."""
_MAGIC = b"FLD1"
_CHECK = 8  # bytes of the base's sha256
_SAME, _MOVED, _WHOLE = range(3)  # what becomes of a tensor
_SEGMENT = 2**20  # numbers written together, so that no step takes long
_WRITERS = 2  # threads that write segments: numpy lets go of Python's lock
_LEAST = 2048  # numbers in a group of exponents
_SPARSE = 16  # numbers, of which one moves: of fewer, all are sorted by group
_FEW = 2**14  # bytes of grouped steps below which they are tried without groups
_WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4} | dict.fromkeys(
    ("BF16", "F16", "I16", "U16"), 2
)  # bytes; what is not here is written byte by byte
_EXPONENTS = {"BF16": (7, 0xFF), "F16": (10, 0x1F), "F32": (23, 0xFF), "F64": (55, 0xFF)}
"""Where an exponent (its upper eight bits) stands: bits to the right, mask."""


class _Tensor(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    start: int  # in the file
    stop: int

    @property
    def width(self) -> int:
        return _WIDTHS.get(self.dtype, 1)


class _Span(NamedTuple):
    """So many bytes, at these places of the base and of the new file."""

    old: int
    new: int
    size: int


def encode(base: bytes, new: bytes, digest: str = "") -> bytes:
    """What makes `new` from `base`; ValueError where either is no safetensors file.

    `digest` is that of the base, where it is known already; so it is below.
    """
    (head, before), (_, after) = _layout(base), _layout(new)
    header = new[: _header_size(new)]
    kinds = [_kind(name, one, before, base, new) for name, one in after.items()]
    out = [_MAGIC, _tag(base, digest)]
    out.append(number(0) if header == head else number(len(header)) + squeeze(header))
    out.append(array(np.array(kinds, np.uint8)))

    def written(segment: tuple[str, list[_Span]]) -> bytes:
        dtype, spans = segment
        return _steps(_gathered(base, spans, dtype, 0), _gathered(new, spans, dtype, 1), dtype)

    with ThreadPoolExecutor(_WRITERS, "delta") as pool:
        out += pool.map(written, _moved(before, after, kinds))
    for one, kind in zip(after.values(), kinds, strict=True):
        for start, stop in _cut(one) if kind == _WHOLE else ():
            out.append(array(np.frombuffer(new[start:stop], f"<u{one.width}")))
    return b"".join(out)


def decode(base: bytes, delta: bytes, size: int, digest: str = "") -> bytes:
    """The file of `size` bytes that `encode` saw; no more than that is ever unpacked.

    `Malformed` where the delta is of another base or is none; otherwise look at the digest.
    """
    return frozen(_read(base, delta, size, digest).data)


def makes(base: bytes, delta: bytes, new: bytes, digest: str = "") -> bool:
    """Whether `decode` gives every bit of `new`; raises as it does."""
    made = _read(base, delta, len(new), digest)
    return np.array_equal(made, np.frombuffer(new, np.uint8))


def _read(base: bytes, delta: bytes, size: int, digest: str) -> NDArray[np.uint8]:
    try:
        return _decoded(base, Reader(delta), size, digest)
    except Malformed:
        raise
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as fault:
        raise Malformed(f"not a delta: {fault!r:.200}") from None


def off(file: bytes, digests: Mapping[str, str]) -> list[str]:
    """Names of tensors that are not in a file with these digests; ValueError as `encode`."""
    _, there = _layout(file)
    view = memoryview(file)
    return [
        name
        for name, digest in digests.items()
        if name not in there or digest_of(view[there[name].start : there[name].stop]) != digest
    ]


def _decoded(base: bytes, reader: Reader, size: int, digest: str) -> NDArray[np.uint8]:
    head, before = _layout(base)
    header = _header(reader, _tag(base, digest), head, size)
    out, older = np.empty(size, np.uint8), np.frombuffer(base, np.uint8)
    out[: len(header)] = np.frombuffer(header, np.uint8)
    _, after = _layout(out.data)
    kinds = reader.array(len(after), 1).tolist()
    _demand_like(before, after, kinds)
    for (name, one), kind in zip(after.items(), kinds, strict=True):
        if kind == _SAME:
            out[one.start : one.stop] = older[before[name].start : before[name].stop]
    for dtype, spans in _moved(before, after, kinds):
        old = _gathered(base, spans, dtype, 0)
        raw, at = _stepped(reader, old, dtype).view(np.uint8), 0
        for span in spans:
            out[span.new : span.new + span.size] = raw[at : at + span.size]
            at += span.size
    for one, kind in zip(after.values(), kinds, strict=True):
        for start, stop in _cut(one) if kind == _WHOLE else ():
            out[start:stop] = reader.array((stop - start) // one.width, one.width).view(np.uint8)
    if not reader.ended:
        raise Malformed("there is more than belongs there")
    return out


def _tag(base: bytes, digest: str) -> bytes:
    return bytes.fromhex((digest or digest_of(base)).removeprefix("sha256:"))[:_CHECK]


def _header(reader: Reader, tag: bytes, head: bytes, size: int) -> bytes:
    """The new file's header, once it is sure that all this is about the base with this tag."""
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise Malformed("not a delta of this kind")
    if reader.take(_CHECK) != tag:
        raise Malformed("it is made for another base")
    if (length := reader.number()) > size:
        raise Malformed("a header longer than its file")
    return reader.squeezed(length) if length else head


def _demand_like(
    before: Mapping[str, _Tensor], after: Mapping[str, _Tensor], kinds: Sequence[int]
) -> None:
    for (name, one), kind in zip(after.items(), kinds, strict=True):
        there = before.get(name)
        like = there is not None and (there.dtype, there.shape) == (one.dtype, one.shape)
        if kind > _WHOLE or not (like or kind == _WHOLE):
            raise Malformed(f"{name} was of another shape or type")
        if there and like and there.stop - there.start != one.stop - one.start:
            raise Malformed(f"{name} has another size than its shape says")


# --- Files ---------------------------------------------------------------------------------


def _header_size(file: bytes | memoryview) -> int:
    return 8 + int.from_bytes(file[:8], "little")


def _layout(file: bytes | memoryview) -> tuple[bytes, dict[str, _Tensor]]:
    """Header and tensors of a safetensors file, in the order of their bytes, without a hole."""
    begin = _header_size(file)
    if len(file) < begin:
        raise Malformed("no safetensors file")
    header = bytes(file[:begin])
    found = {
        name: _Tensor(
            str(told["dtype"]),
            tuple(map(int, told["shape"])),
            *(begin + int(at) for at in told["data_offsets"]),
        )
        for name, told in json.loads(header[8:]).items()
        if name != "__metadata__"
    }
    ordered = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].stop)))
    ends = [begin, *(one.stop for one in ordered.values())]
    whole = all(
        one.start == end <= one.stop and (one.stop - one.start) % one.width == 0
        for one, end in zip(ordered.values(), ends, strict=False)
    )
    if not whole or ends[-1] != len(file):
        raise Malformed("no safetensors file: its tensors do not fill it")
    return header, ordered


def _kind(name: str, one: _Tensor, before: Mapping[str, _Tensor], base: bytes, new: bytes) -> int:
    there = before.get(name)
    if there is None or (there.dtype, there.shape) != (one.dtype, one.shape):
        return _WHOLE
    same = base[there.start : there.stop] == new[one.start : one.stop]
    return _SAME if same else _MOVED


def _moved(
    before: Mapping[str, _Tensor], after: Mapping[str, _Tensor], kinds: Sequence[int]
) -> Iterator[tuple[str, list[_Span]]]:
    """Moved tensors of one type after those of another, cut into segments."""
    moved = [
        (before[name], one)
        for (name, one), kind in zip(after.items(), kinds, strict=True)
        if kind == _MOVED
    ]
    for dtype in dict.fromkeys(one.dtype for _, one in moved):
        room = most = _SEGMENT * _WIDTHS.get(dtype, 1)
        spans: list[_Span] = []
        for old, new in moved:
            at, size = 0, new.stop - new.start
            while new.dtype == dtype and at < size:
                taken = min(room, size - at)
                spans.append(_Span(old.start + at, new.start + at, taken))
                at, room = at + taken, room - taken
                if not room:
                    yield dtype, spans
                    spans, room = [], most
        if spans:
            yield dtype, spans


def _cut(one: _Tensor) -> Iterator[tuple[int, int]]:
    """Segments of a tensor."""
    most = _SEGMENT * one.width
    for start in range(one.start, one.stop, most):
        yield start, min(start + most, one.stop)


def _gathered(file: bytes, spans: Sequence[_Span], dtype: str, which: int) -> Numbers:
    raw = b"".join(file[span[which] : span[which] + span.size] for span in spans)
    return np.frombuffer(raw, f"<u{_WIDTHS.get(dtype, 1)}")


# --- Numbers -------------------------------------------------------------------------------


def _steps(old: Numbers, new: Numbers, dtype: str) -> bytes:
    """By how much `new` is above or below `old`, as few bytes as both ways of grouping offer."""
    moved = np.flatnonzero(old != new)  # mostly few: nothing else is reckoned with
    up = _ordered(new[moved]) - _ordered(old[moved])
    signed = up.view(f"<i{up.itemsize}")
    steps: Numbers = ((signed << 1) ^ (signed >> (8 * up.itemsize - 1))).view(up.dtype)
    apart = b"\1" + b"".join(_apart(old, moved, steps, dtype))
    # Groups cost some bytes each, which only few steps would not earn back.
    if len(apart) > _FEW:
        return apart
    return min(b"\0" + scattered(len(old), moved, steps), apart, key=len)


def _apart(old: Numbers, moved: Places, steps: Numbers, dtype: str) -> Iterator[bytes]:
    """Steps, group after group."""
    of, sizes = _groups(old, dtype)
    if _few(moved, old):
        theirs = of[moved]
        for group, size in enumerate(sizes):
            here = theirs == group
            ranks = Members(of == group).ranks(moved[here])
            yield scattered(size, ranks, steps[here])
    else:
        every = np.zeros_like(old)
        every[moved] = steps
        every = every[np.argsort(of, kind="stable")]
        yield from map(array, np.split(every, np.cumsum(sizes)[:-1]))


def _stepped(reader: Reader, old: Numbers, dtype: str) -> Numbers:
    """What `_steps` was told as `new`."""
    if reader.take(1) == b"\0":
        moved, steps = reader.scattered(len(old), old.itemsize)
    else:
        of, sizes = _groups(old, dtype)
        ranks, told = zip(*(reader.scattered(size, old.itemsize) for size in sizes), strict=True)
        steps = np.concatenate(told)
        if _few(steps, old):
            moved = np.concatenate([Members(of == n).nth(some) for n, some in enumerate(ranks)])
        else:
            firsts = np.repeat(np.cumsum([0, *sizes[:-1]]), [len(some) for some in ranks])
            moved = np.argsort(of, kind="stable")[firsts + np.concatenate(ranks)]
    one = old.dtype.type(1)
    new = old.copy()
    new[moved] = _unordered(_ordered(old[moved]) + ((steps >> one) ^ (~(steps & one) + one)))
    return new


def _few(moved: Sequence[int] | Places | Numbers, old: Numbers) -> bool:
    """Whether finding each in its group is less than sorting all by group."""
    return len(moved) * _SPARSE < len(old)


def _groups(old: Numbers, dtype: str) -> tuple[NDArray[np.uint8], list[int]]:
    """The group of each number, which is of neighbouring exponents, and how many each has."""
    if dtype not in _EXPONENTS:
        return np.zeros(len(old), np.uint8), [len(old)]
    shift, mask = _EXPONENTS[dtype]
    exponent = (old >> old.dtype.type(shift)).astype(np.uint8) & np.uint8(mask)
    names = bytearray()
    sizes: list[int] = []
    held = 0
    for count in _histogram(exponent):
        names.append(len(sizes))
        held += count
        if held >= _LEAST:
            sizes.append(held)
            held = 0
    if held:
        sizes.append(held)
    return np.frombuffer(exponent.tobytes().translate(names), np.uint8), sizes


def _histogram(values: NDArray[np.uint8]) -> list[int]:
    """How often each byte comes; two at a time, which is half the work."""
    pairs = np.bincount(values[: len(values) // 2 * 2].view("<u2"), minlength=2**16)
    table = pairs.reshape(256, 256)
    counts = table.sum(axis=0) + table.sum(axis=1)
    counts[values[len(values) // 2 * 2 :]] += 1
    return [int(count) for count in counts]


def _ordered(bits: Numbers) -> Numbers:
    """Bits of numbers, as whole numbers in the order of the numbers."""
    top = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & top, ~bits, bits | top)


def _unordered(place: Numbers) -> Numbers:
    top = place.dtype.type(1 << (8 * place.itemsize - 1))
    return np.where(place & top, place ^ top, ~place)
