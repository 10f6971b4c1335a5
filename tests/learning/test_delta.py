"""Deltas of weights: every bit comes back, and nothing hostile costs more than its bytes."""

import random

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fleet_contract.messages import digest_of
from fleet_runtime.policies import delta, symbols

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
TYPES = {  # of torch, by the bytes of a number
    1: (torch.uint8, torch.int8, torch.bool, torch.float8_e4m3fn),
    2: (torch.bfloat16, torch.float16, torch.int16),
    4: (torch.float32, torch.int32),
    8: (torch.float64, torch.int64),
}
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)


def tensor(draw: st.DrawFn, width: int, kind: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Any bit pattern there is: NaNs with payloads, negative zeros, subnormals."""
    high = 1 if kind is torch.bool else 2 ** (8 * width) - 1
    bits = draw(hnp.arrays(UNSIGNED[width], shape, elements=st.integers(0, high)))
    return torch.from_numpy(bits.reshape(-1).view(np.uint8)).view(kind).reshape(shape)


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two files: tensors that stay, move a little, change altogether, come and go."""
    before, after = {}, {}
    for number in range(draw(st.integers(0, 5))):
        name = f"layer.{number}"
        width = draw(st.sampled_from([1, 2, 2, 4, 8]))
        kind, shape = draw(st.sampled_from(TYPES[width])), draw(SHAPES)
        one = tensor(draw, width, kind, shape)
        fate = draw(st.sampled_from(["same", "moved", "other", "new", "gone", "shape", "type"]))
        if fate != "new":
            before[name] = one
        if fate == "moved" and kind is not torch.bool and one.numel():
            bits = one.clone().reshape(-1).view(torch.uint8)
            bits[draw(st.integers(0, len(bits) - 1))] += draw(st.integers(0, 255))
            one = bits.view(kind).reshape(shape)
        elif fate == "other":
            one = tensor(draw, width, kind, shape)
        elif fate == "shape":
            one = tensor(draw, width, kind, draw(SHAPES))
        elif fate == "type":
            one = tensor(draw, width, draw(st.sampled_from(TYPES[width])), shape)
        if fate != "gone":
            after[name] = one
    told = draw(st.sampled_from([None, {"format": "pt"}]))
    return safetensors.torch.save(before), safetensors.torch.save(after, told)


@given(files())
def test_any_file_comes_back_from_any_other_to_the_last_bit(pair: tuple[bytes, bytes]) -> None:
    base, new = pair
    assert delta.decode(base, delta.encode(base, new), len(new)) == new


@given(
    st.sampled_from([1, 2, 4, 8]).flatmap(
        lambda width: hnp.arrays(
            UNSIGNED[width],
            st.integers(0, 300),
            elements=st.integers(0, 2 ** (8 * width) - 1) | st.integers(0, 4),
            fill=st.just(0),
        )
    )
)
def test_any_array_of_numbers_is_read_as_it_was_written(values: np.ndarray) -> None:
    reader = symbols.Reader(symbols.array(values))
    found = reader.array(len(values), values.itemsize)
    assert reader.ended
    assert found.dtype == values.dtype
    assert found.tolist() == values.tolist()


def weights(seed: int, count: int = 60_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator) / 16


def trained(old: torch.Tensor, seed: int, by: float) -> torch.Tensor:
    """As Adam moves them: each by about as much."""
    generator = torch.Generator().manual_seed(seed)
    return old + by * torch.randn(old.shape, generator=generator)


def entropy(old: torch.Tensor, new: torch.Tensor) -> float:
    """Bytes of the steps in ulp, each coded for itself by their common frequencies."""

    def place(x: torch.Tensor) -> np.ndarray:
        bits = x.view(torch.int16).numpy().astype(np.int32)
        return np.where(bits < 0, -(bits & 0x7FFF), bits)

    _, counts = np.unique(place(new) - place(old), return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


@pytest.mark.parametrize("by", [1e-6, 1e-5, 1e-4, 1e-3])
def test_steps_of_training_cost_less_than_their_common_entropy(by: float) -> None:
    old = weights(1).bfloat16()
    new = trained(weights(1), 2, by).bfloat16()
    base, file = (safetensors.torch.save({"w": x, "frozen": weights(3)}) for x in (old, new))
    told = delta.encode(base, file)
    assert delta.decode(base, told, len(file)) == file
    assert len(told) < 1.05 * entropy(old, new) + 64


def test_a_large_tensor_goes_in_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "_SEGMENT", 7_001)
    old = {"a": weights(1), "b": weights(2, 20_000).half(), "c": weights(3, 9_000)}
    new = {name: trained(x.float(), 4, 1e-3).to(x.dtype) for name, x in old.items()}
    base, file = safetensors.torch.save(old), safetensors.torch.save(new)
    assert delta.decode(base, delta.encode(base, file), len(file)) == file


def test_what_is_frozen_costs_nothing() -> None:
    old = {"frozen": weights(1), "head": weights(2, 500)}
    base = safetensors.torch.save(old)
    same = len(delta.encode(base, base))
    moved = safetensors.torch.save(old | {"head": trained(old["head"], 3, 1e-2)})
    alone = [
        safetensors.torch.save({"head": x}) for x in (old["head"], trained(old["head"], 3, 1e-2))
    ]
    assert same < 32
    assert len(delta.encode(base, moved)) <= len(delta.encode(alone[0], alone[1])) + 8


def test_a_delta_of_another_base_is_refused() -> None:
    base, new, other = (safetensors.torch.save({"w": weights(n, 100)}) for n in (1, 2, 3))
    with pytest.raises(symbols.Malformed, match="another base"):
        delta.decode(other, delta.encode(base, new), len(new))


def test_files_that_are_not_of_tensors_have_no_delta() -> None:
    base = safetensors.torch.save({"w": weights(1, 100)})
    for other in (b"", b"{}", base[:-1], base + b"x", b"\xff" * 64):
        with pytest.raises(ValueError, match="safetensors"):
            delta.encode(base, other)


def test_damaged_bytes_raise_or_show_in_the_digest_and_never_do_worse() -> None:
    base, new = (safetensors.torch.save({"w": weights(n, 3_000).bfloat16()}) for n in (1, 2))
    told, dice = delta.encode(base, new), random.Random(0)
    for _ in range(400):
        hurt = bytearray(told[: dice.choice([len(told), dice.randrange(len(told))])])
        for _ in range(dice.randrange(1, 4)):
            if hurt:
                hurt[dice.randrange(len(hurt))] ^= 1 << dice.randrange(8)
        try:
            found = delta.decode(base, bytes(hurt), len(new))
        except symbols.Malformed:
            continue
        assert len(found) == len(new)


def test_a_bomb_is_never_unpacked_beyond_what_belongs_there() -> None:
    """Frames that tell their size and frames that do not; both would unpack to 256 MiB."""
    zeros = bytes(2**28)
    for tells in (True, False):
        parameters = zstandard.ZstdCompressionParameters(write_content_size=tells)
        bomb = zstandard.ZstdCompressor(compression_params=parameters).compress(zeros)
        reader = symbols.Reader(symbols.number(len(bomb) << 1 | 1) + bomb)
        with pytest.raises(symbols.Malformed, match=r"size|zstd"):
            reader.squeezed(1_000)


def test_the_tensors_that_are_off_are_named() -> None:
    file = safetensors.numpy.save({"a": np.zeros(4, np.float32), "b": np.ones(3, np.float32)})
    ones = digest_of(np.ones(3, np.float32).tobytes())
    assert delta.off(file, {"b": ones}) == []
    assert delta.off(file, {"a": ones, "b": ones, "c": ones}) == ["a", "c"]


def test_what_a_delta_makes_is_compared_bit_by_bit_and_a_known_digest_changes_nothing() -> None:
    old = weights(1).bfloat16()
    base, new, other = (
        safetensors.torch.save({"w": x})
        for x in (old, trained(old.float(), 2, 1e-5).bfloat16(), trained(old.float(), 3, 1e-5))
    )
    told = delta.encode(base, new)
    assert delta.encode(base, new, digest_of(base)) == told
    assert delta.decode(base, told, len(new), digest_of(base)) == new
    assert delta.makes(base, told, new, digest_of(base))
    assert not delta.makes(base, told, new[:-1] + bytes([new[-1] ^ 1]))
    with pytest.raises(symbols.Malformed, match="another base"):
        delta.makes(base, told, new, digest_of(other))
