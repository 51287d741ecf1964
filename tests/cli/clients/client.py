"""The official OpenAI client, as people use it, against a base URL. Prints one JSON object."""

import asyncio
import json
import sys

import openai

BASE_URL, CALLS = sys.argv[1], int(sys.argv[2])
KEY = "sk-this-key-must-not-leave-the-machine"


def question(number):
    return {
        "model": "parrot-1",
        "max_tokens": 60,
        "messages": [{"role": "user", "content": f"Question {number}: why do cats knead blankets?"}],
    }


async def whole(client, number):
    answer = await client.chat.completions.create(**question(number))
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens > 0
    return answer.choices[0].message.content


async def streamed(client, number):
    stream = await client.chat.completions.create(**question(number), stream=True)
    words, reason = [], None
    async for chunk in stream:
        if chunk.choices:
            words.append(chunk.choices[0].delta.content or "")
            reason = chunk.choices[0].finish_reason or reason
    assert reason in ("stop", "length"), reason
    return "".join(words).strip()


async def many(client):
    # The answers of the demo's service are a function of the question: a stream says what a whole answer says.
    calls = [(whole if number % 2 else streamed)(client, number // 2) for number in range(CALLS)]
    answers = await asyncio.gather(*calls)
    for number in range(0, CALLS - 1, 2):
        assert answers[number] == answers[number + 1], (answers[number], answers[number + 1])
    return len(answers)


async def main():
    async with openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEY, timeout=600) as client:
        models = [model.id async for model in client.models.list()]
        answered = await many(client)
        raw = await client.chat.completions.with_raw_response.create(**question(1))
        try:
            await client.chat.completions.create(model="parrot-1", messages=[])
            bad = None
        except openai.APIStatusError as error:
            bad = {"status": error.status_code, "type": error.type}
    cost = raw.headers.get("halometer-cost")
    print(json.dumps({"models": models, "answered": answered, "bad": bad, "cost": cost}))


asyncio.run(main())
