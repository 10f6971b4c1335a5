"""Which records to send when: pure bookkeeping between spool, broker and receipts.

A record is *spooled* (on disk, not in the broker), *stored* (in the broker, at a stream sequence)
or *settled* (receipted, gone). The broker's ack never settles; only the learner's receipt does.

  spooled → stored    the broker acked it
  stored  → settled   a receipt names it
  stored  → spooled   the broker lost it: the stream was made anew, is shorter than the sequence,
                      or the learner passed that sequence without receipting the record
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet_contract.messages import Receipt


class Ledger:
    """What this program knows of the broker; a new program knows nothing and sends all again."""

    def __init__(self, spool_id: str, credit: int) -> None:
        """`credit`: most records in the broker that no receipt has settled, at least 1."""
        self.spool_id = spool_id
        self._credit = max(1, credit)
        self._stored: dict[int, int] = {}  # number → stream sequence
        self._stream_id: str | None = None
        self._epoch = 0
        self._applied: Receipt | None = None

    @property
    def stored(self) -> int:
        """Records in the broker without a receipt."""
        return len(self._stored)

    def due(self, pending: Sequence[int]) -> list[int]:
        """The numbers to send now, oldest first, within the credit; `pending` is the spool's."""
        room = self._credit - len(self._stored)
        return [n for n in pending if n not in self._stored][: max(0, room)]

    def sent(self, numbers: Iterable[int], sequence: int) -> None:
        """The broker acked these at a stream sequence."""
        self._stored.update(dict.fromkeys(numbers, sequence))

    def gone(self, n: int) -> None:
        """The spool holds this record no longer."""
        self._stored.pop(n, None)

    def receipt(self, receipt: Receipt, pending: Sequence[int], *, told: bool = True) -> list[int]:
        """The numbers among `pending` that a receipt settles; what it passed over is due again.

        One for another spool changes nothing, and neither does one seen before that was only found
        lying there. `told` by the learner once more, it counts: of a stream that lost its end and
        grew again it may have passed what was stored there since.
        """
        if receipt.spool_id != self.spool_id or (receipt == self._applied and not told):
            return []
        self._applied = receipt
        rejected = {item.n for item in receipt.rejects}
        settled = [n for n in pending if receipt.settles(n) or n in rejected]
        for n in settled:
            self._stored.pop(n, None)
        # An earlier learner may still speak. What it journaled is journaled, but its position in
        # the stream says nothing about what its successor has seen.
        if receipt.learner_epoch >= self._epoch:
            self._epoch = receipt.learner_epoch
            passed = [n for n, at in self._stored.items() if at <= receipt.stream_position]
            for n in passed:
                del self._stored[n]
        return settled

    def stream(self, stream_id: str, last: int) -> bool:
        """The stream as it stands: its id and newest sequence. True when it lost something."""
        if self._stream_id is None:
            self._stream_id = stream_id
        if stream_id != self._stream_id:
            lost = list(self._stored)
            self._stream_id = stream_id
        else:
            lost = [n for n, at in self._stored.items() if at > last]
        for n in lost:
            del self._stored[n]
        return bool(lost)
