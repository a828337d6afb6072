"""What LangChain asks an OpenAI-compatible server: `langchain_surface.py BASE_URL MODEL`."""

import sys

from checks import check, run
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

base_url, model = sys.argv[1:]
settings = {"base_url": base_url, "api_key": "any", "model": model, "max_retries": 0}
chat = ChatOpenAI(**settings, temperature=0, max_tokens=60, timeout=120)
HELLO = [HumanMessage("What is the capital of France?")]


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class Bees(BaseModel):
    """How many bees there are."""

    count: int = Field(description="how many")


@check("invoke")
def invoke():
    answer = chat.invoke(HELLO)
    assert answer.content and answer.usage_metadata["total_tokens"] > 0
    return answer.content[:40]


@check("stream")
def stream():
    pieces = [piece.content for piece in chat.stream(HELLO)]
    assert "".join(pieces) == chat.invoke(HELLO).content and len(pieces) > 2
    return f"{len(pieces)} pieces"


@check("batch")
def batch():
    answers = chat.batch(["Say one.", "Say two.", "Say three."])
    assert all(answer.content for answer in answers)
    return len(answers)


@check("bind_tools")
def bind_tools():
    answer = chat.bind_tools([get_weather], tool_choice="get_weather").invoke("What is the weather in Paris?")
    call = answer.tool_calls[0]
    assert call["name"] == "get_weather" and isinstance(call["args"]["city"], str)
    return call["args"]


@check("structured output")
def structured():
    answer = chat.with_structured_output(Bees, method="json_schema").invoke("There are three bees. How many?")
    assert isinstance(answer, Bees)
    return answer


@check("embeddings")
def embeddings():
    # It sends token arrays of another tokenizer unless it is told not to.
    found = OpenAIEmbeddings(**settings, check_embedding_ctx_length=False).embed_documents(["a bee", "a hive"])
    assert len(found) == 2 and len(found[0]) == len(found[1]) > 10
    return f"{len(found[0])} numbers"


run()
