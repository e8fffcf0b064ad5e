"""What the server has is shared among its clients: nobody takes it all, and who has least goes on first."""

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from mmpt.inference.server.service import Busy

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""Whose request is being answered; see `client_of`."""
RECENT = 10.0
"""Seconds for which a client that has nothing more to do still counts as one that is there."""


def client_of(address: str) -> str:
    """Whoever has an address; of IPv6 it is the network of /64, which one subscriber has whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


class Share:
    """`most` of one thing, of which each client may hold as much as is left free (dynamic thresholds, Choudhury and Hahne 1998):
    one alone may hold half, and there is always some left for another."""

    def __init__(self, most: int) -> None:
        self._free, self._held = most, Counter[str]()

    def may(self, client: str, amount: int = 1) -> bool:
        """Whether the client may have so much more."""
        return self._held[client] + amount <= self._free

    def take(self, client: str, amount: int = 1) -> bool:
        """Whether it has got it."""
        if not self.may(client, amount):
            return False
        self._held[client] += amount
        self._free -= amount
        return True

    def give(self, client: str, amount: int = 1) -> None:
        """Give it back."""
        self._free += amount
        self._held[client] -= amount
        if not self._held[client]:
            del self._held[client]

    def holds(self, client: str) -> int:
        """How much it has."""
        return self._held[client]


class Held:
    """What one holder has of a client's share of bytes, as it grows and shrinks."""

    def __init__(self, share: Share, client: str) -> None:
        self._share, self._client, self._amount = share, client, 0

    def be(self, amount: int) -> bool:
        """Whether it may be so much; else it stays as it was."""
        if amount > self._amount and not self._share.take(self._client, amount - self._amount):
            return False
        if amount < self._amount:
            self._share.give(self._client, self._amount - amount)
        self._amount = amount
        return True


class Turn:
    """A place for one piece of a client's work, once it has `come`."""

    def __init__(self, client: str) -> None:
        self.client, self.come = client, asyncio.Event()


class Turns:
    """`places` for work done at once. While several clients are there each has its equal share of them, and next is whoever has
    the fewest; `spare` more are only for those who have none. `waiting`: how many may wait, shared as `Share` does."""

    def __init__(self, places: int, waiting: int, spare: int = 0) -> None:
        self._places, self._spare, self._waiting = places, spare, Share(waiting)
        self._running, self._resting, self._total = Counter[str](), Counter[str](), 0
        self._queues: OrderedDict[str, deque[Turn]] = OrderedDict()  # whoever was served last is last
        self._seen: OrderedDict[str, float] = OrderedDict()

    @property
    def taken(self) -> int:
        """Those that have a place or wait for one."""
        return self._total + sum(map(len, self._queues.values()))

    def full(self, client: str) -> bool:
        """Whether there is no room for one more of the client's even to wait."""
        return not (self._may(client) or self._waiting.may(client))

    @contextmanager
    def turn(self, client: str) -> Iterator[Turn]:
        """Inside, a place or one in the queue. Raises `Busy`."""
        turn = self.enter(client)
        try:
            yield turn
        finally:
            self.leave(turn)

    @asynccontextmanager
    async def place(self, client: str, rest: Callable[[str, float], float] = lambda client, spent: 0.0) -> AsyncIterator[None]:
        """Inside, a place; the client's next comes `rest` seconds after it, of (client, seconds that it took). Raises `Busy`."""
        turn, begun = self.enter(client), None
        try:
            await turn.come.wait()
            begun = time.monotonic()
            yield
        finally:
            self.leave(turn, 0.0 if begun is None else rest(client, time.monotonic() - begun))

    def enter(self, client: str) -> Turn:
        """A place or one in the queue, until `leave`. Raises `Busy`."""
        self._see(client)
        turn = Turn(client)
        if client not in self._queues and self._may(client):
            self._begin(turn)
        elif self._waiting.take(client):
            self._queues.setdefault(client, deque()).append(turn)
        else:
            raise Busy
        return turn

    def leave(self, turn: Turn, rest: float = 0.0) -> None:
        """Give it back; its client gets no other for `rest` seconds."""
        if turn.come.is_set():
            self._total -= 1
            self._running[turn.client] -= 1
            self._running += Counter()  # without those that have none
        else:
            self._unqueue(turn)
        if rest:
            self._resting[turn.client] += 1
            asyncio.get_running_loop().call_later(rest, self._rested, turn.client)
        self._go_on()

    def _rested(self, client: str) -> None:
        self._resting -= Counter([client])
        self._go_on()

    def _go_on(self) -> None:
        """Give free places to those who wait."""
        while free := [client for client in self._queues if self._may(client)]:
            client = min(free, key=self._running.__getitem__)
            following = self._queues[client][0]
            self._unqueue(following)
            if client in self._queues:
                self._queues.move_to_end(client)
            self._begin(following)

    def _begin(self, turn: Turn) -> None:
        self._total += 1
        self._running[turn.client] += 1
        turn.come.set()

    def _unqueue(self, turn: Turn) -> None:
        queue = self._queues[turn.client]
        queue.remove(turn)
        self._waiting.give(turn.client)
        if not queue:
            del self._queues[turn.client]

    def _may(self, client: str) -> bool:
        """Whether it may have one place more."""
        own = self._running[client]
        if self._resting[client]:
            return False
        if not own:
            return self._total < self._places + self._spare
        return self._total < self._places and own < max(1, self._places // len(self._there(client)))

    def crowded(self, client: str) -> bool:
        """Whether there are others."""
        self._see(client)
        return len(self._there(client)) > 1

    def _there(self, client: str) -> set[str]:
        return {client, *self._running, *self._queues, *self._seen}

    def _see(self, client: str) -> None:
        now = time.monotonic()
        self._seen[client] = now
        self._seen.move_to_end(client)
        while next(iter(self._seen.values())) < now - RECENT:
            self._seen.popitem(last=False)
