"""What is asked at the same moment is answered together.

To look up one row in a store costs a statement or a round trip, and to look up thirty costs little more. While the event loop is busy with
one answer, requests come in; they are collected until it gets to them. Nobody waits for others to come.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

# An answer to more of them would keep everything else waiting.
_MOST = 64


class Together(Generic[Question, Answer]):
    """Collects questions of one event loop.

    Args:
        answer: answers one or several, in their order; an error stands where the answer to one of them would, and is raised where it was
            asked. What it raises itself is raised by all of them.
    """

    def __init__(self, answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer | Exception]]]) -> None:
        self._answer = answer
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> Answer:
        """The answer to a question."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((question, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._begin)
        return await future

    def _begin(self) -> None:
        asked, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        loop = asyncio.get_running_loop()
        if self._waiting:
            loop.call_soon(self._begin)
        # The loop itself keeps no task alive.
        task = loop.create_task(self._told(asked))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _told(self, asked: Sequence[tuple[Question, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._answer([question for question, _ in asked])
        except Exception as error:
            answers = [error] * len(asked)
        for (_, future), answer in zip(asked, answers, strict=True):
            # Who asked may have gone.
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
