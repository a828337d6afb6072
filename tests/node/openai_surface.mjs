// What the OpenAI client for Node can ask: `openai_surface.mjs BASE_URL MODEL`. The folder of its packages is in
// RBEE_TEST_NODE_MODULES.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.RBEE_TEST_NODE_MODULES}/`);
const { default: OpenAI } = require("openai");
const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const ask = { model, messages, max_tokens: 12, temperature: 0 };
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather of a city", parameters } }];

const checks = {
  async models() {
    const names = [];
    for await (const known of client.models.list()) names.push(known.id);
    assert(names.includes(model));
    return names.join(", ");
  },
  async chat() {
    const { choices, usage } = await client.chat.completions.create(ask);
    assert(choices[0].message.content && usage.completion_tokens > 0);
    return choices[0].message.content;
  },
  async "chat, streamed"() {
    const whole = await client.chat.completions.create(ask);
    const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
    let text = "", events = 0, usage;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
      events += 1;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
    return `${events} events`;
  },
  async "json schema"() {
    const schema = { type: "object", properties: { count: { type: "integer", minimum: 1, maximum: 9 } }, required: ["count"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "bees", strict: true, schema } };
    const { choices } = await client.chat.completions.create({ ...ask, max_tokens: 60, response_format });
    const { count } = JSON.parse(choices[0].message.content);
    assert(Number.isInteger(count) && count >= 1 && count <= 9);
    return choices[0].message.content;
  },
  async tools() {
    const { choices } = await client.chat.completions.create({
      ...ask, max_tokens: 100, tools, tool_choice: { type: "function", function: { name: "get_weather" } },
    });
    const [call] = choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
    return call.function.arguments;
  },
  async "tools, streamed"() {
    const stream = client.chat.completions.stream({ ...ask, max_tokens: 100, tools, tool_choice: "required" });
    const final = await stream.finalChatCompletion();
    const [call] = final.choices[0].message.tool_calls;
    assert.equal(final.choices[0].finish_reason, "tool_calls");
    assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
    return call.function.arguments;
  },
  async embeddings() {
    const { data } = await client.embeddings.create({ model, input: ["a bee", "a hive"] });
    assert(data.length === 2 && data[0].embedding.length === data[1].embedding.length);
    return `${data[0].embedding.length} numbers`;
  },
  async "errors are typed"() {
    const refused = async (more) => {
      try {
        await client.chat.completions.create({ ...ask, ...more });
      } catch (error) {
        return error;
      }
      throw new Error(`${JSON.stringify(more)} was taken`);
    };
    const unknown = await refused({ model: "no-such-model" });
    assert(unknown instanceof OpenAI.NotFoundError && unknown.code === "model_not_found", unknown);
    const negative = await refused({ max_tokens: -1 });
    assert(negative instanceof OpenAI.BadRequestError && negative.code, negative);
    return `${unknown.code}, ${negative.code}`;
  },
  async disconnects() {
    const leave = async () => {
      const stream = await client.chat.completions.create({ ...ask, max_tokens: 1500, stream: true });
      for await (const _ of stream) break;
    };
    await Promise.all(Array.from({ length: 8 }, leave));
    const { choices } = await client.chat.completions.create({ ...ask, max_tokens: 4 }, { timeout: 20_000 });
    assert(choices[0].message.content);
    return "8 left, the next was answered";
  },
};

for (const [name, check] of Object.entries(checks)) {
  const begun = performance.now();
  const said = { name };
  try {
    said.seen = String((await check()) ?? "");
  } catch (error) {
    said.error = `${error?.message ?? error}`.slice(0, 700);
  }
  console.log(JSON.stringify({ ...said, seconds: (performance.now() - begun) / 1000 }));
}
