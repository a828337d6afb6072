"""What the OpenAI client for Python can ask (OAI-50): `openai_surface.py BASE_URL MODEL`."""

import base64
import json
import struct
import sys
import threading
from enum import Enum
from typing import Literal

import openai
from checks import check, run
from pydantic import BaseModel, Field

base_url, model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=120)
chat = client.chat.completions.create
HELLO = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris, in celsius? Use the tool."}]


def text_of(stream):
    return "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)


@check("models")
def models():
    assert model in [known.id for known in client.models.list()]
    return client.models.retrieve(model).id


@check("chat")
def plain():
    answer = chat(model=model, messages=HELLO, max_tokens=12, temperature=0)
    usage = answer.usage
    assert answer.choices[0].message.content and answer.choices[0].finish_reason in ("stop", "length")
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens and usage.completion_tokens > 0
    return answer.choices[0].message.content


@check("chat, streamed")
def streamed():
    wanted = chat(model=model, messages=HELLO, max_tokens=12, temperature=0)
    chunks = list(chat(model=model, messages=HELLO, max_tokens=12, temperature=0, stream=True,
                       stream_options={"include_usage": True}))
    assert text_of(chunks) == wanted.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == wanted.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    return f"{len(chunks)} events"


@check("seed, n, stop")
def sampling():
    def ask(**more):
        answer = chat(model=model, messages=HELLO, max_tokens=10, temperature=1, **more)
        return [choice.message.content for choice in answer.choices]

    assert ask(seed=5) == ask(seed=5)
    three = ask(seed=5, n=3)
    assert len(three) == 3 and len(set(three)) > 1, three
    whole = chat(model=model, messages=HELLO, max_tokens=12, temperature=0).choices[0].message.content
    word = whole.split()[2]
    cut = chat(model=model, messages=HELLO, max_tokens=12, temperature=0, stop=[word]).choices[0]
    assert cut.finish_reason == "stop" and word not in cut.message.content and whole.startswith(cut.message.content)
    return f"three: {three}"


@check("n streamed")
def n_streamed():
    texts = {}
    for chunk in chat(model=model, messages=HELLO, max_tokens=8, temperature=1, seed=5, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    whole = chat(model=model, messages=HELLO, max_tokens=8, temperature=1, seed=5, n=2)
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    return texts


@check("logprobs")
def logprobs():
    choice = chat(model=model, messages=HELLO, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert "".join(each.token for each in content) == choice.message.content
    assert all(each.logprob <= 0 and len(each.top_logprobs) == 3 for each in content)
    assert all(each.logprob == max(top.logprob for top in each.top_logprobs) for each in content), "greedy is the best"
    return [round(each.logprob, 2) for each in content]


@check("completions")
def completions():
    answer = client.completions.create(model=model, prompt="The capital of France is", max_tokens=6, temperature=0)
    pieces = client.completions.create(
        model=model, prompt="The capital of France is", max_tokens=6, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in pieces if chunk.choices) == answer.choices[0].text
    return answer.choices[0].text


@check("json object")
def json_object():
    messages = [{"role": "user", "content": "Give me a JSON object with a name and an age."}]
    answer = chat(model=model, messages=messages, max_tokens=200, temperature=0, response_format={"type": "json_object"})
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
    return answer.choices[0].message.content[:60]


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Bee(BaseModel):
    name: str = Field(max_length=10)
    colour: Colour
    sisters: list[Literal["Maja", "Willi"]] = Field(max_length=2)
    age: int | None = Field(ge=0, le=60)


class Hive(BaseModel):
    """A hive and its queen."""

    queen: Bee
    weight: float = Field(ge=1, le=90)


@check("pydantic: an answer")
def pydantic_answer():
    ask = dict(model=model, messages=[{"role": "user", "content": "Describe a hive."}], max_tokens=300, temperature=0.7,
               seed=4, response_format=Hive)
    message = client.chat.completions.parse(**ask).choices[0].message
    assert isinstance(message.parsed, Hive), message
    with client.chat.completions.stream(**ask) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.parsed == message.parsed
    return message.content


class CountBees(BaseModel):
    """Counts the bees of a hive."""

    hive: str = Field(max_length=12)
    exactly: bool


@check("pydantic: a tool")
def pydantic_tool():
    ask = dict(model=model, messages=[{"role": "user", "content": "How many bees are in hive A?"}], max_tokens=120,
               temperature=0, tools=[openai.pydantic_function_tool(CountBees)], tool_choice="required")
    function = client.chat.completions.parse(**ask).choices[0].message.tool_calls[0].function
    assert isinstance(function.parsed_arguments, CountBees), function
    with client.chat.completions.stream(**ask) as stream:
        kinds = {event.type for event in stream}
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert "tool_calls.function.arguments.delta" in kinds and call.function.parsed_arguments == function.parsed_arguments
    return function.arguments


@check("tools: as the model likes")
def tools_auto():
    choice = chat(model=model, messages=ASK_WEATHER, max_tokens=80, temperature=0, tools=[WEATHER]).choices[0]
    for call in choice.message.tool_calls or []:
        assert call.function.name == "get_weather"
        if choice.finish_reason == "tool_calls":
            assert set(json.loads(call.function.arguments)) == {"city", "unit"}
    assert choice.message.tool_calls or choice.message.content
    return choice.finish_reason


@check("json schema, parsed")
def json_schema():
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "bees", "strict": True, "schema": schema}}
    ask = dict(model=model, messages=[{"role": "user", "content": "How many bees?"}], max_tokens=60, temperature=1,
               seed=3, response_format=form)
    answer = chat(**ask).choices[0].message.content
    parsed = json.loads(answer)
    assert set(parsed) == {"colour", "count"} and parsed["colour"] in ("red", "green") and 1 <= parsed["count"] <= 9
    assert text_of(chat(**ask, stream=True)) == answer
    return answer


@check("tools: the forced one")
def tools_forced():
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = chat(model=model, messages=ASK_WEATHER, max_tokens=100, temperature=0, tools=[WEATHER], tool_choice=choice)
    call = answer.choices[0].message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather" and call.id and arguments["unit"] in ("celsius", "fahrenheit")
    assert answer.choices[0].finish_reason in ("tool_calls", "stop")
    again = ASK_WEATHER + [
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees, sunny"},
    ]
    after = chat(model=model, messages=again, max_tokens=12, temperature=0, tools=[WEATHER], tool_choice="none")
    assert after.choices[0].message.content and not after.choices[0].message.tool_calls
    return call.function.arguments


@check("tools: required, streamed")
def tools_streamed():
    def gathered(**more):
        calls, reasons = {}, []
        for chunk in chat(model=model, messages=ASK_WEATHER, max_tokens=200, temperature=0, tools=[WEATHER],
                          tool_choice="required", stream=True, **more):
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or []:
                    name, arguments = calls.get(call.index, ("", ""))
                    calls[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
                reasons += [choice.finish_reason] if choice.finish_reason else []
        return calls, reasons

    calls, reasons = gathered()
    assert reasons in (["tool_calls"], ["length"]) and sorted(calls) == list(range(len(calls))), (calls, reasons)
    # The last may be cut off by the limit.
    whole = [call for at, call in calls.items() if reasons == ["tool_calls"] or at + 1 < len(calls)]
    assert whole and all(name == "get_weather" and json.loads(arguments) for name, arguments in whole), calls
    single, reasons = gathered(parallel_tool_calls=False)
    assert list(single) == [0] and reasons == ["tool_calls"] and json.loads(single[0][1]), (single, reasons)
    return f"{len(calls)} calls; {single[0][1]}"


@check("embeddings")
def embeddings():
    one = client.embeddings.create(model=model, input="a bee", encoding_format="float").data[0].embedding
    # The client asks for base64 by itself and decodes it.
    two = client.embeddings.create(model=model, input=["a bee", "a very different text about tax law"]).data
    assert len(two) == 2 and [each.index for each in two] == [0, 1]
    close = lambda a, b: max(abs(x - y) for x, y in zip(a, b)) < 1e-4
    assert close(one, two[0].embedding) and not close(one, two[1].embedding)
    raw = client.embeddings.with_raw_response.create(model=model, input="a bee", encoding_format="base64")
    data = json.loads(raw.text)["data"][0]["embedding"]
    decoded = struct.unpack(f"<{len(one)}f", base64.b64decode(data))
    assert close(one, decoded)
    tokens = client.embeddings.create(model=model, input=[[1, 2, 3], [4, 5]])
    assert len(tokens.data) == 2 and tokens.usage.prompt_tokens == 5
    return f"{len(one)} numbers"


@check("errors are typed")
def errors():
    seen = []
    for error, more in [
        (openai.NotFoundError, {"model": "no-such-model"}),
        (openai.BadRequestError, {"max_tokens": -1}),
        (openai.BadRequestError, {"temperature": 9}),
        (openai.BadRequestError, {"messages": [{"role": "user", "content": "word " * 4000}]}),
        (openai.BadRequestError, {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}}),
        (openai.BadRequestError, {"messages": []}),
        (openai.BadRequestError, {"extra_body": {"max_token": 4}}),
        (openai.BadRequestError, {"tool_choice": "required"}),
    ]:
        try:
            chat(**({"model": model, "messages": HELLO, "max_tokens": 4} | more))
            raise AssertionError(f"{more} was taken")
        except error as caught:
            assert caught.code and caught.type, caught
            seen.append(caught.code)
    return ", ".join(seen)


@check("disconnects")
def disconnects():
    # More than there are slots: those that go away must make room.
    def leave():
        stream = chat(model=model, messages=HELLO, max_tokens=1500, temperature=1, seed=1, stream=True)
        next(iter(stream))
        stream.close()

    threads = [threading.Thread(target=leave) for _ in range(12)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    answer = chat(model=model, messages=HELLO, max_tokens=4, temperature=0, timeout=20)
    assert answer.choices[0].message.content
    return "12 left, the next was answered"


run()
