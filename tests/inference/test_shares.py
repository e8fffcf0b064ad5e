"""How what there is becomes several clients', and whose turn it is."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from mmpt.inference.server import chat
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.service import Busy
from mmpt.inference.server.serving import Serving
from mmpt.inference.server.shares import CLIENT, Share, Turns, client_of

from .asking import data_url, user
from .live import serving as live


@pytest.mark.parametrize(("clients", "most"), [(1, 50), (2, 33), (4, 20), (9, 10)])
def test_each_client_gets_as_much_as_is_left_free(clients, most):
    """k greedy clients hold 1 / (k + 1) each: the fixed point of dynamic thresholds."""
    share, held = Share(100), dict.fromkeys(map(str, range(clients)), 0)
    for _ in range(200):
        for client in held:
            held[client] += share.take(client)
    assert all(abs(own - most) <= 1 for own in held.values()) and share.take("another")
    for client, own in held.items():
        share.give(client, own)
    share.give("another")
    assert share.may("0", 50) and not share.may("0", 101)


def test_one_client_alone_has_all_places_and_the_next_gets_a_spare_one():
    async def scene():
        turns = Turns(4, 20, spare=1)
        greedy = [turns.enter("a") for _ in range(10)]
        assert [turn.come.is_set() for turn in greedy] == [True] * 4 + [False] * 6
        first, second = turns.enter("b"), turns.enter("b")
        assert first.come.is_set() and not second.come.is_set() and turns.taken == 12
        turns.leave(greedy[0])  # a has three, b one: each may have two
        assert not greedy[4].come.is_set() and not second.come.is_set()  # five places are taken with the spare one
        turns.leave(greedy[1])
        assert second.come.is_set() and not greedy[4].come.is_set()
        for turn in (*greedy[2:], first, second):
            turns.leave(turn)
        assert turns.taken == 0 and not turns.full("a")

    asyncio.run(scene())


def test_who_was_there_a_moment_ago_finds_room():
    async def scene():
        turns = Turns(4, 20)
        turns.leave(turns.enter("b"))
        greedy = [turns.enter("a") for _ in range(4)]
        assert [turn.come.is_set() for turn in greedy] == [True, True, False, False]
        assert turns.enter("b").come.is_set() and turns.crowded("a")

    asyncio.run(scene())


def test_who_waits_is_bounded_and_leaving_the_queue_frees_it():
    async def scene():
        turns = Turns(1, 4)
        kept = [turns.enter("a") for _ in range(3)]  # one has the place, two wait: as many as are left free
        assert turns.full("a") and not turns.full("b")
        with pytest.raises(Busy):
            turns.enter("a")
        turns.leave(kept.pop())
        assert not turns.full("a")
        other = turns.enter("b")
        turns.leave(kept.pop(0))
        assert kept[0].come.is_set() or other.come.is_set()

    asyncio.run(scene())


def test_places_go_round():
    async def scene():
        turns, order = Turns(1, 100), []

        async def work(client):
            async with turns.place(client):
                order.append(client)
                await asyncio.sleep(0)

        await asyncio.gather(*[work("a") for _ in range(6)], *[work("b") for _ in range(3)], work("c"))
        assert sorted(order[1:4]) == ["a", "b", "c"] and turns.taken == 0

    asyncio.run(scene())


def test_who_rests_holds_up_nobody():
    async def scene():
        turns, order, begun = Turns(1, 100), [], time.monotonic()

        async def work(client):
            async with turns.place(client, lambda *_: 0.1):
                order.append((client, time.monotonic() - begun))

        await asyncio.gather(work("a"), work("a"), work("b"), work("c"))
        assert [client for client, _ in order] == ["a", "b", "c", "a"]
        assert order[2][1] < 0.1 <= order[3][1] and turns.taken == 0

    asyncio.run(scene())


def test_sounds_of_one_client_do_not_hold_up_those_of_another(model):
    serving, go, order = Serving(model, "tiny", Limits(spare=1), None, None), threading.Event(), []

    async def decoded(client: str) -> None:
        CLIENT.set(client)

        def work() -> None:
            order.append(client)
            go.wait(20)

        await serving.decoded(work)

    async def scene() -> None:
        tasks = [asyncio.create_task(decoded(client)) for client in "aaaaabb"]
        for _ in range(200):
            await asyncio.sleep(0.01)
            if len(order) == 3:
                break
        assert order == ["a", "a", "b"]  # both places, and the spare one
        go.set()
        await asyncio.gather(*tasks)
        assert "b" in order[3:5]

    asyncio.run(scene())


def test_a_place_that_nobody_waits_for_any_more_is_not_lost():
    async def scene():
        turns = Turns(1, 10)
        first = turns.enter("a")

        async def waits():
            async with turns.place("b"):
                pass

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        turns.leave(first)
        assert turns.taken == 0 and turns.enter("c").come.is_set()

    asyncio.run(scene())


def test_media_of_who_has_gone_are_not_read(model, monkeypatch):
    go, read = threading.Event(), []
    understood = chat._prompt

    def watched(serving, given, parts):
        read.append(given.messages[0].content[0].text)
        go.wait(20)
        return understood(serving, given, parts)

    monkeypatch.setattr(chat, "_prompt", watched)
    image = {"type": "image_url", "image_url": {"url": data_url()}}
    with live(model) as (address, _), ThreadPoolExecutor(3) as clients:

        def ask(name: str, seconds: float) -> int:
            body = {"messages": user({"type": "text", "text": name}, image), "max_tokens": 2}
            return httpx.post(f"{address}/v1/chat/completions", json=body, timeout=seconds).status_code

        stay = [clients.submit(ask, name, 60) for name in ("a", "b")]
        while len(read) < 2:  # both places
            time.sleep(0.01)
        with pytest.raises(httpx.ReadTimeout):
            ask("gone", 0.3)
        stay.append(clients.submit(ask, "c", 60))
        time.sleep(0.3)
        go.set()
        assert [one.result() for one in stay] == [200] * 3
    assert sorted(read) == ["a", "b", "c"]


def test_whose_an_address_is():
    assert client_of("10.0.0.1") != client_of("10.0.0.2")
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1:2:3") != client_of("2001:db8:0:1::1")
    assert client_of("::ffff:10.0.0.1") == "10.0.0.1" and client_of("") == ""
    assert client_of("fe80::1%eth0") == client_of("fe80::2")
