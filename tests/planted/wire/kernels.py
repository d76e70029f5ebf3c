"""Faults of kernels at work: one text to all prompts, logprobs that are no numbers, a grammar that is not kept."""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncIterator

from tests.planted.events import Event, choices_of, with_text
from tests.planted.messages import Request, Whole
from tests.planted.proxy import Fault

Events = AsyncIterator[Event]


class StuckSampler(Fault):
    """Every sampled answer says the same, as after logits that are NaN; greedy ones are as they were."""

    said = "!" * 16

    async def whole(self, request: Request, response: Whole) -> Whole:
        stuck = self._applies(request) and response.status == 200
        return response.saying(with_text(response.payload, self.said)) if stuck else response

    async def events(self, request: Request, events: Events) -> Events:
        left = self.said
        async for event in events:
            if event.text and self._applies(request):
                yield event.with_text(left)
                left = ""
            else:
                yield event

    def _applies(self, request: Request) -> bool:
        return request.generates and request.payload.get("temperature") != 0


class NanLogprobs(Fault):
    """The logprobs of whole answers are NaN, as Python's json writes it."""

    async def whole(self, request: Request, response: Whole) -> Whole:
        payload = copy.deepcopy(response.payload)
        for choice in choices_of(payload):
            for token in (choice.get("logprobs") or {}).get("content") or []:
                token["logprob"] = math.nan
        return response.saying(payload) if request.generates else response


class IgnoresSchema(Fault):
    """What form an answer must have is not passed on."""

    async def ask(self, request: Request) -> Request | Whole:
        return request.asking(response_format=None) if request.payload.get("response_format") else request
