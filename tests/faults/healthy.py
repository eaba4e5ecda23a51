"""What a healthy vLLM answers, without vLLM: the formulas of the known-answer models.

Bodies are those of vLLM 0.32: fields, error texts, text and finish_reason in one last chunk.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from pytest_vllm.models.known_answer import Step, is_known_answer, predictor
from tests.faults.reply import Reply, error, page, stream

Body = dict[str, Any]

NO_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a "
    "chat template if the tokenizer does not define one."
)
VERSION = "0.32.0"
TOKENS_PER_CHUNK = 2


class Healthy:
    """A model behind the routes of an OpenAI-compatible server.

    A model that is not a known-answer one speaks like the one with (or without) chat template.
    """

    def __init__(self, model: str, *, chat: bool) -> None:
        stand_in = "known-answer/chat" if chat else "known-answer/base"
        self.model = model
        self.chat_template = chat
        self.mind = predictor(model if is_known_answer(model) else stand_in)
        self.routes: dict[tuple[str, str], Callable[[Body], Reply]] = {
            ("GET", "/health"): lambda _: Reply(),
            ("GET", "/version"): lambda _: Reply({"version": VERSION}),
            ("GET", "/docs"): lambda _: page("<!DOCTYPE html><title>Swagger UI</title>"),
            ("GET", "/openapi.json"): lambda _: self._openapi(),
            ("GET", "/v1/models"): lambda _: self._models(),
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/chat/completions"): self._chat,
        }

    def reply(self, method: str, path: str, body: Body) -> Reply:
        """Answer a request."""
        route = self.routes.get((method, path))
        if route is None:
            return Reply({"detail": "Not Found"}, status=404)
        if method == "POST" and body.get("model", self.model) != self.model:
            message = f"The model `{body['model']}` does not exist."
            return error(404, message, "NotFoundError")
        return route(body)

    def _openapi(self) -> Reply:
        paths: dict[str, Body] = {}
        for method, path in self.routes:
            if path not in ("/docs", "/openapi.json"):
                paths.setdefault(path, {})[method.lower()] = {}
        return Reply({"openapi": "3.1.0", "info": {"title": "FastAPI"}, "paths": paths})

    def _models(self) -> Reply:
        entry = {
            "id": self.model,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "vllm",
            "root": self.model,
            "parent": None,
            "max_model_len": 4096,
        }
        return Reply({"object": "list", "data": [entry]})

    def _tokenize(self, body: Body) -> Reply:
        if "messages" in body and not self.chat_template:
            return error(400, NO_TEMPLATE)
        ids = self._prompt_ids(body)
        return Reply({"count": len(ids), "max_model_len": 4096, "tokens": ids, "token_strs": None})

    def _prompt_ids(self, body: Body) -> list[int]:
        if "messages" in body:
            return self.mind.chat_prompt_ids(body["messages"])
        prompt = body["prompt"]
        return self.mind.encode(prompt) if isinstance(prompt, str) else list(prompt)

    def _completion(self, body: Body) -> Reply:
        ids = self._prompt_ids(body)
        steps = self.mind.greedy(ids, body.get("max_tokens", 16), top=body.get("logprobs") or 1)
        head = self._head("cmpl", "text_completion")
        if body.get("stream"):
            pieces = [{"text": piece} for piece in self._pieces(steps)]
            return stream(self._chunks(body, head, pieces, ids, steps))
        choice = {
            "index": 0,
            "text": self.mind.decode(step.token_id for step in steps),
            "logprobs": self._logprobs(steps) if body.get("logprobs") else None,
            "finish_reason": self._finish(steps),
            "stop_reason": None,
        }
        return Reply(head | {"choices": [choice], "usage": _usage(ids, steps)})

    def _chat(self, body: Body) -> Reply:
        if not self.chat_template:
            return error(400, NO_TEMPLATE)
        ids = self._prompt_ids(body)
        steps = self.mind.greedy(ids, body.get("max_tokens", 64))
        if body.get("stream"):
            head = self._head("chatcmpl", "chat.completion.chunk")
            opening: Body = {"delta": {"role": "assistant", "content": ""}}
            pieces = [{"delta": {"content": piece}} for piece in self._pieces(steps)]
            return stream(self._chunks(body, head, [opening, *pieces], ids, steps))
        content = self.mind.decode(step.token_id for step in steps)
        message = {"role": "assistant", "content": content, "tool_calls": []}
        choice = {"index": 0, "message": message, "finish_reason": self._finish(steps)}
        head = self._head("chatcmpl", "chat.completion")
        return Reply(head | {"choices": [choice], "usage": _usage(ids, steps)})

    def _head(self, prefix: str, kind: str) -> Body:
        created = int(time.time())
        answer_id = f"{prefix}-{uuid.uuid4().hex}"
        return {"id": answer_id, "object": kind, "created": created, "model": self.model}

    def _finish(self, steps: list[Step]) -> str:
        return "stop" if steps and steps[-1].token_id == self.mind.eos_id else "length"

    def _pieces(self, steps: list[Step]) -> Iterator[str]:
        """Cut the text as a server does: by tokens, never inside a character."""
        shown = ""
        for end in range(TOKENS_PER_CHUNK, len(steps) + TOKENS_PER_CHUNK, TOKENS_PER_CHUNK):
            text = self.mind.decode(step.token_id for step in steps[:end])
            ready = text if end >= len(steps) else text.rstrip("\ufffd")
            yield ready[len(shown) :]
            shown = ready

    def _chunks(
        self, body: Body, head: Body, pieces: list[Body], ids: list[int], steps: list[Step]
    ) -> list[Body]:
        choices = [{"index": 0, **piece, "finish_reason": None} for piece in pieces]
        choices[-1]["finish_reason"] = self._finish(steps)
        chunks: list[Body] = [head | {"choices": [choice]} for choice in choices]
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append(head | {"choices": [], "usage": _usage(ids, steps)})
        return chunks

    def _logprobs(self, steps: list[Step]) -> Body:
        def name(token: int) -> str:
            return self.mind.decode([token], skip_special_tokens=False)

        return {
            "tokens": [step.text for step in steps],
            "token_logprobs": [step.logprob for step in steps],
            "top_logprobs": [{name(i): logprob for i, logprob in step.top} for step in steps],
            "text_offset": [0 for _ in steps],
        }


def _usage(ids: list[int], steps: list[Step]) -> Body:
    total = len(ids) + len(steps)
    return {
        "prompt_tokens": len(ids),
        "total_tokens": total,
        "completion_tokens": len(steps),
        "prompt_tokens_details": None,
    }
