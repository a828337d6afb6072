"""Streams by the real OpenAI client, many at once, each compared with the same one undisturbed.

`chaos_client.py BASE_URL MODEL STREAMS`. Speaks JSON lines: says `reference` when it knows what each answer is, begins at
`go` on stdin, ends each stream at stdin's end, and then says `done` with what it saw. Nothing is tried again here.
"""

import asyncio
import json
import sys
import time

import openai

PROMPTS = [
    "What is the capital of France?",
    "Count from one to ten.",
    "Tell me a story about a bee.",
    "Name three colours.",
    "Why is the sky blue?",
    "Write a poem about rain.",
    "Was ist Honig? Schön kurz, bitte.",
    "Say something with emoji 🐝.",
]
ERRORS_KEPT = 20


def jobs():
    for number, prompt in enumerate(PROMPTS):
        message = [{"role": "user", "content": prompt}]
        yield {"messages": message, "max_tokens": 24 + number, "temperature": 0, "seed": 1}
        yield {"messages": message, "max_tokens": 24 + number, "temperature": 0.9, "top_p": 0.95, "seed": 100 + number}


class Tap:
    """What the client's parser throws away: comments, and whether the stream said that it is done."""

    def __init__(self):
        self.lines = b""
        self.resumed = 0
        self.done = 0

    def see(self, piece):
        *lines, self.lines = (self.lines + piece).split(b"\n")
        for line in lines:
            if line.startswith(b": x-rbee-resumed:"):
                self.resumed += int(line.rsplit(b":", 1)[1])
            elif line.startswith(b": rbee"):
                raise AssertionError(f"queen's own line reached the client: {line!r}")
            elif line.strip() == b"data: [DONE]":
                self.done += 1


def tapped(response, tap):
    """Puts the tap between the connection and the client."""
    base = sys.modules[type(response).__module__.split(".")[0]].AsyncByteStream
    stream = response.stream

    class Tapped(base):
        async def __aiter__(self):
            async for piece in stream:
                tap.see(piece)
                yield piece

        async def aclose(self):
            await stream.aclose()

    response.stream = Tapped()


async def one(base_url, model, job, http):
    """One stream, with all that must be true of any."""
    client, taps = http
    tap = Tap()
    request = asyncio.current_task()
    taps[request] = tap
    text, ids, roles, reasons, usage, first = "", set(), 0, [], [], None
    begun = time.monotonic()
    try:
        stream = await client.chat.completions.create(
            model=model, stream=True, stream_options={"include_usage": True}, **job
        )
        async for chunk in stream:
            ids.add((chunk.id, chunk.created))
            for choice in chunk.choices:
                assert not reasons, "something after the end"
                if choice.delta.content:
                    first = first or time.monotonic() - begun
                    text += choice.delta.content
                roles += choice.delta.role is not None
                if choice.finish_reason:
                    reasons.append(choice.finish_reason)
            if chunk.usage:
                usage.append(chunk.usage.model_dump(exclude_none=True))
    except Exception as error:
        # Nothing is known of how far it came unless it is told.
        raise RuntimeError(f"{error!r} after {time.monotonic() - begun:.1f} s and {text!r}") from error
    finally:
        taps.pop(request, None)
    assert tap.done == 1, f"{tap.done} times [DONE], after {text!r}"
    assert len(ids) == 1, f"ids {ids}"
    assert roles <= 1, f"{roles} roles"
    assert len(reasons) == 1 and len(usage) == 1, f"finish reasons {reasons}, usage {usage}"
    for each in usage:
        # What was found in a cache depends on who answers.
        each.pop("prompt_tokens_details", None)
    answer = {"text": text, "finish_reason": reasons[0], "usage": usage[0]}
    return answer, tap.resumed, time.monotonic() - begun, first


def say(**words):
    print(json.dumps(words), flush=True)


async def main():
    base_url, model, streams = sys.argv[1], sys.argv[2], int(sys.argv[3])
    taps = {}

    async def on_response(response):
        tap = taps.get(asyncio.current_task())
        if tap is not None:
            tapped(response, tap)

    transport = openai.DefaultAsyncHttpxClient(event_hooks={"response": [on_response]}, timeout=180)
    client = openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=180, http_client=transport)
    http = (client, taps)
    todo = list(jobs())
    wanted = [(await one(base_url, model, job, http))[0] for job in todo]
    again = (await one(base_url, model, todo[1], http))[0]
    assert again == wanted[1], f"undisturbed and not the same twice: {wanted[1]}, {again}"
    say(said="reference", answers=len(wanted))

    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await lines.readline()
    ended = asyncio.ensure_future(lines.read())
    seen = {"streams": 0, "resumed": 0, "resumes": 0, "errors": 0, "different": 0, "tokens": 0}
    slowest, slowest_first, resumes_max, complaints = 0.0, 0.0, 0, {}

    def complain(kind, text):
        # Of each kind the first: a broken server says the same a thousand times.
        complaints.setdefault(kind, [0, text])[0] += 1


    async def worker(number):
        nonlocal slowest, slowest_first, resumes_max
        at = number
        while not ended.done():
            job, answer = todo[at % len(todo)], wanted[at % len(todo)]
            at += 7
            try:
                got, resumed, took, first = await one(base_url, model, job, http)
            except Exception as error:
                seen["errors"] += 1
                complain(repr(error.__cause__ or error)[:80], f"{error}"[:600])
                # A server that is gone is not asked a thousand times a second.
                await asyncio.wait([ended], timeout=0.2)
                continue
            seen["streams"] += 1
            seen["resumed"] += resumed > 0
            seen["resumes"] += resumed
            seen["tokens"] += got["usage"]["completion_tokens"]
            slowest, slowest_first = max(slowest, took), max(slowest_first, first or 0)
            resumes_max = max(resumes_max, resumed)
            if got != answer:
                seen["different"] += 1
                complain(f"different {at}", f"resumed {resumed} times: wanted {answer}, got {got}"[:900])

    await asyncio.gather(*(worker(number) for number in range(streams)))
    say(said="done", slowest_s=slowest, slowest_first_s=slowest_first, resumes_max=resumes_max,
        complaints=[f"{count} × {text}" for count, text in list(complaints.values())[:ERRORS_KEPT]], **seen)


asyncio.run(main())
