// The official OpenAI client, as people use it, against a base URL. Prints one JSON object.

import assert from "node:assert";
import OpenAI from "openai";

const [baseURL, calls] = [process.argv[2], Number(process.argv[3])];
const client = new OpenAI({ baseURL, apiKey: "sk-this-key-must-not-leave-the-machine", timeout: 600_000 });

const question = (number) => ({
  model: "parrot-1",
  max_tokens: 60,
  messages: [{ role: "user", content: `Question ${number}: why do cats knead blankets?` }],
});

async function whole(number) {
  const answer = await client.chat.completions.create(question(number));
  assert(answer.usage.completion_tokens > 0);
  return answer.choices[0].message.content;
}

async function streamed(number) {
  const stream = await client.chat.completions.create({ ...question(number), stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text.trim();
}

// The answers of the demo's service are a function of the question: a stream says what a whole answer says.
const asked = Array.from({ length: calls }, (_, number) => (number % 2 ? whole : streamed)(number >> 1));
const answers = await Promise.all(asked);
for (let number = 0; number + 1 < calls; number += 2) assert.strictEqual(answers[number], answers[number + 1]);
const models = (await client.models.list()).data.map((model) => model.id);
let bad = null;
try {
  await client.chat.completions.create({ model: "parrot-1", messages: [] });
} catch (error) {
  bad = { status: error.status, type: error.type };
}
console.log(JSON.stringify({ models, answered: answers.length, bad }));
