"""What may happen between the operator and its API server, one fault a class.

A write's number is its place among those that came through the proxy. The order of an operator's
writes differs a little from run to run, so a number stands for a moment, not for one request.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

from faults.bench import Bench
from helpers.proxy import Answer, ApiProxy, Call, Cut, Fault, refusal, status_object

TOO_OLD = "too old resource version: 1 (2)"
Harm = Callable[[], Awaitable[None]]
REFUSALS = {
    "409": refusal(409, "Conflict", "the object has been modified"),
    "429": refusal(429, "TooManyRequests", "too many requests", **{"Retry-After": "1"}),
    "500": refusal(500, "InternalError", "etcdserver: leader changed"),
    "503": refusal(503, "ServiceUnavailable", "the server is currently unable"),
    "504": refusal(504, "Timeout", "request did not complete within the allotted timeout"),
}


class KillBefore(Fault):
    """The operator dies by kill -9, and the write never gets to the server."""

    def __init__(self, number: int, bench: Bench) -> None:
        self.number, self.bench = number, bench

    async def before(self, call: Call) -> Answer | None:
        if call.number != self.number:
            return None
        await self.bench.crash(str(call))
        raise Cut


class KillAfter(KillBefore):
    """The write is done, and the operator dies before it learns of it."""

    async def before(self, call: Call) -> Answer | None:
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        if self._meant(call):
            await self.bench.crash(str(call))
            raise Cut
        return answer

    def _meant(self, call: Call) -> bool:
        return 0 < call.number == self.number


class LostReply(KillBefore):
    """The write is done, the connection ends without a word, and the operator lives."""

    async def before(self, call: Call) -> Answer | None:
        return None

    async def after(self, call: Call, answer: Answer) -> Answer:
        if call.number == self.number:
            self.bench.hit = str(call)
            raise Cut
        return answer


class Refused(Fault):
    """Three writes from this one on are refused so."""

    def __init__(self, number: int, bench: Bench, said: str) -> None:
        self.numbers, self.bench, self.said = range(number, number + 3), bench, said

    async def before(self, call: Call) -> Answer | None:
        if call.number not in self.numbers:
            return None
        self.bench.hit = str(call)
        return REFUSALS[self.said]


class Throughout(Fault):
    """Strikes by chance for as long as the scenario lasts."""

    def __init__(self, seed: int, bench: Bench) -> None:
        self.random, self.bench = random.Random(seed), bench


class Storm(Throughout):
    """One call in five, reads and the beginnings of watches too, fails in some way."""

    async def before(self, call: Call) -> Answer | None:
        if self.random.random() > 0.1:
            return None
        self.bench.hit = "a tenth before, a tenth after"
        said = self.random.choice([*REFUSALS, "cut"])
        if said == "cut":
            raise Cut
        # A read has nothing to conflict with.
        return REFUSALS["500" if said == "409" and not call.number else said]

    async def after(self, call: Call, answer: Answer) -> Answer:
        if self.random.random() > 0.1:
            return answer
        raise Cut


class Slow(Throughout):
    """Every fifth answer comes a second and a half late."""

    async def after(self, call: Call, answer: Answer) -> Answer:
        if self.random.random() < 0.2:
            self.bench.hit = "a fifth"
            await asyncio.sleep(1.5)
        return answer


class Watches(Fault):
    """At this write something happens to all watches that stand, as ``harm`` does it."""

    def __init__(self, number: int, bench: Bench, harm: Callable[[ApiProxy], Awaitable[None]]):
        self.number, self.bench, self.harm = number, bench, harm

    async def after(self, call: Call, answer: Answer) -> Answer:
        if call.number == self.number:
            self.bench.hit = str(call)
            await self.harm(self.bench.proxy)
        return answer


async def expire(proxy: ApiProxy) -> None:
    """410 as the last event of each, as when etcd was compacted."""
    expired = json.loads(status_object(410, "Expired", TOO_OLD))
    await proxy.say(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")


async def fail(proxy: ApiProxy) -> None:
    """Another error than 410 as the last event of each."""
    broken = json.loads(status_object(500, "InternalError", "etcdserver: no leader"))
    await proxy.say(json.dumps({"type": "ERROR", "object": broken}).encode() + b"\n")


async def cut(proxy: ApiProxy) -> None:
    proxy.cut()


async def stall(proxy: ApiProxy) -> None:
    """Open and silent, until the probe has the operator started anew."""
    proxy.silence()


class Gone(Watches):
    """Watches are cut, and the next ones are answered 410 instead of begun."""

    def __init__(self, number: int, bench: Bench) -> None:
        super().__init__(number, bench, cut)
        self.left = 0

    async def before(self, call: Call) -> Answer | None:
        if call.verb != "watch" or self.left < 1:
            return None
        self.left -= 1
        return refusal(410, "Expired", TOO_OLD)

    async def after(self, call: Call, answer: Answer) -> Answer:
        if call.number == self.number:
            self.left = 5
        return await super().after(call, answer)


class Swallowed(Throughout):
    """Every second event of a watch is never seen."""

    def line(self, call: Call, line: bytes) -> bytes:
        self.bench.hit = "half of all events"
        return line if self.random.random() < 0.5 else b""


class Stale(KillAfter):
    """The operator dies after this write, and its successor is first shown lists as they once were.

    For the first ``SHOWN`` times each list is answered as it was ``back`` changes ago; ``back`` 0:
    as it was before there was anything.
    """

    SHOWN = 3

    def __init__(self, number: int, bench: Bench, *, back: int) -> None:
        super().__init__(number, bench)
        self.back = back
        self.known: dict[str, list[Answer]] = {}
        self.left: dict[str, int] = {}

    async def before(self, call: Call) -> Answer | None:
        key = self._key(call)
        if self.left.get(key, 0) < 1:
            return None
        self.left[key] -= 1
        if self.back:
            return self.known[key][-self.back - 1 :][0]
        return emptied(self.known[key][-1])

    async def after(self, call: Call, answer: Answer) -> Answer:
        if call.verb == "list" and answer.status == 200 and not self.bench.hit:
            known = self.known.setdefault(self._key(call), [])
            if not known or _items(known[-1]) != _items(answer):
                known.append(answer)
        if self._meant(call):
            self.left = dict.fromkeys(self.known, self.SHOWN)
        return await super().after(call, answer)

    @staticmethod
    def _key(call: Call) -> str:
        return f"{call.url.raw_path_qs} {call.headers.get('Accept')}"


def _items(answer: Answer) -> object:
    return json.loads(answer.body).get("items")


def emptied(answer: Answer) -> Answer:
    """A list as it was before there was anything."""
    body = json.loads(answer.body)
    body |= {"items": [], "metadata": {"resourceVersion": "1"}}
    return answer._replace(body=json.dumps(body).encode())


class KillWhere(KillAfter):
    """The operator dies after the first write of a resource that says a certain thing."""

    def __init__(self, bench: Bench, resource: str, said: str) -> None:
        super().__init__(0, bench)
        self.resource, self.said = resource, said.encode()

    def _meant(self, call: Call) -> bool:
        writes = call.number > 0 and call.resource == self.resource
        return writes and not self.bench.hit and self.said in call.body


class StaleWhere(Stale):
    """The same, and its successor is first shown that there is nothing."""

    def __init__(self, bench: Bench, resource: str, said: str) -> None:
        super().__init__(0, bench, back=0)
        self.where = KillWhere(bench, resource, said)

    async def after(self, call: Call, answer: Answer) -> Answer:
        if self.where._meant(call):
            self.number = call.number
        return await super().after(call, answer)
