"""One chat with the real OpenAI client: `openai_client.py BASE_URL MODEL plain|stream PROMPT`. Prints one JSON document."""

import json
import sys

from openai import OpenAI

base_url, model, mode, prompt = sys.argv[1:]
client = OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=120)
request = {
    "model": model,
    "messages": [{"role": "user", "content": prompt}],
    "max_tokens": 24,
    "temperature": 0,
}

if mode == "stream":
    pieces, finish_reason, usage = [], None, None
    for chunk in client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            if choice.delta.content:
                pieces.append(choice.delta.content)
            finish_reason = choice.finish_reason or finish_reason
        usage = chunk.usage or usage
    answer = {"text": "".join(pieces), "pieces": len(pieces)}
else:
    completion = client.chat.completions.create(**request)
    choice, usage = completion.choices[0], completion.usage
    finish_reason = choice.finish_reason
    answer = {"text": choice.message.content, "pieces": 1}

answer |= {
    "finish_reason": finish_reason,
    "completion_tokens": usage.completion_tokens if usage else None,
    "models": [known.id for known in client.models.list()],
}
print(json.dumps(answer))
