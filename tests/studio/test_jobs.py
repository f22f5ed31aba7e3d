"""Jobs in turn: side by side, bounded, ended where nobody listens; no listener stops another."""

import asyncio
import threading
import time

import pytest

from fv_jax.studio.jobs import Canceled, Full, Job, Jobs


class Counting(Job):
    """Tells a number each turn."""

    def __init__(self, turns, order=None, gate=None, error=None):
        super().__init__()
        self.many, self.order, self.gate, self.error = turns, order, gate, error

    def turns(self):
        for number in range(self.many):
            if self.gate is not None:
                self.gate.wait(20)
            self.check()
            if self.order is not None:
                self.order.append((self.name, number))
            self.tell("number", number=number)
            yield
        if self.error is not None:
            raise self.error


@pytest.fixture
def jobs():
    jobs = Jobs(waiting=4, kept=2)
    yield jobs
    jobs.close()
    assert not jobs._thread.is_alive()


def until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


def heard(job, after=-1):
    async def all_of_them():
        return [text async for text in job.events(after) if not text.startswith(":")]

    texts = asyncio.run(asyncio.wait_for(all_of_them(), 20))
    return [text.split("\n")[1].removeprefix("event: ") for text in texts]


def test_jobs_take_turns(jobs):
    order, gate = [], threading.Event()
    first, second = Counting(3, order, gate), Counting(3, order, gate)
    first.name, second.name = "first", "second"
    jobs.add(first), jobs.add(second)
    gate.set()
    until(lambda: first.ended and second.ended)
    assert order == [(name, i) for i in range(3) for name in ("first", "second")]
    assert heard(first) == ["waiting", "number", "number", "number", "done"]
    assert heard(first, after=2) == ["number", "done"]
    assert heard(first, after=99) == []


def test_a_queue_is_bounded_and_takes_more_when_it_is_shorter(jobs):
    gate = threading.Event()
    running = jobs.add(Counting(1, gate=gate))
    until(lambda: running.state == "running")
    waiting = [jobs.add(Counting(1)) for _ in range(4)]
    with pytest.raises(Full):
        jobs.add(Counting(1))
    gate.set()
    until(lambda: all(job.ended for job in waiting))
    jobs.add(Counting(1))


def test_what_fails_ends_alone_and_says_why(jobs, caplog):
    wrong = jobs.add(Counting(0, error=ValueError("a prompt\nis empty")))
    fault = jobs.add(Counting(0, error=RuntimeError("secret")))
    well = jobs.add(Counting(1))
    until(lambda: well.state == "done")
    assert (wrong.state, fault.state) == ("failed", "failed")
    assert '"error":"a prompt is empty"' in wrong._told[-1]
    assert "secret" not in fault._told[-1]
    assert "RuntimeError: secret" in caplog.text


def test_ended_jobs_are_kept_for_a_while(jobs):
    ended = []
    for _ in range(5):
        ended.append(jobs.add(Counting(1)))
        until(lambda: ended[-1].ended)
    assert [jobs.get(job.id) is not None for job in ended] == [False, False, True, True, True]
    assert jobs.counts == {"waiting": 0, "resting": 0, "kept": 3}


def test_a_job_that_was_canceled_ends_at_its_next_look(jobs):
    gate = threading.Event()
    job = jobs.add(Counting(9, gate=gate))
    until(lambda: job.state == "running")
    job.cancel()
    gate.set()
    until(lambda: job.ended)
    assert (job.state, heard(job)) == ("canceled", ["waiting", "canceled"])


def test_a_job_whose_last_listener_went_away_is_canceled_and_one_without_any_is_not(jobs):
    gate = threading.Event()
    left, never, back = (jobs.add(Counting(1, gate=gate)) for _ in range(3))
    for job in (left, never, back):
        job.patience = 0.05

    async def listen_shortly(job):
        events = job.events()
        await anext(events)
        await events.aclose()

    asyncio.run(listen_shortly(left))
    asyncio.run(listen_shortly(back))
    time.sleep(0.1)
    with pytest.raises(Canceled):
        left.check()

    async def return_and_hear_all():
        events = back.events()
        await anext(events)
        gate.set()
        async for _ in events:
            pass

    asyncio.run(return_and_hear_all())
    until(lambda: left.ended and never.ended)
    assert (left.state, never.state, back.state) == ("canceled", "done", "done")


def test_a_listener_that_is_stuck_stops_nobody(jobs):
    async def stuck_and_quick():
        job = Counting(50)
        stuck = job.events()
        jobs.add(job)
        await anext(stuck)  # and reads no more
        quick = [text async for text in job.events()]
        late = [text async for text in stuck]
        return quick, late

    quick, late = asyncio.run(asyncio.wait_for(stuck_and_quick(), 20))
    assert len(quick) == 52
    assert late == quick[1:]


def test_what_only_the_thread_may_do_comes_first(jobs):
    gate, order = threading.Event(), []
    running = jobs.add(Counting(1, gate=gate))
    until(lambda: running.state == "running")
    late = Counting(1, order)
    late.name = "late"
    jobs.add(late)
    name = jobs.do(lambda: order.append("errand") or threading.current_thread().name)
    gate.set()
    assert name.result(20) == "fv studio"
    until(lambda: late.ended)
    assert order == ["errand", ("late", 0)]
    with pytest.raises(ValueError, match="no"):
        jobs.do(lambda: (_ for _ in ()).throw(ValueError("no"))).result(20)


def test_only_the_last_events_of_an_endless_job_are_kept(jobs):
    class Endless(Counting):
        remembers = 4

    job = jobs.add(Endless(100))
    until(lambda: job.ended)
    assert heard(job) == ["number"] * 3 + ["done"]
