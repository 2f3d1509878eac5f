"""The official Python client against the proxy: BASE_URL is its argument, the answers are printed as one JSON object."""
import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
ask = dict(model="tiny", messages=[{"role": "user", "content": "The river"}], temperature=0, max_tokens=8)
chat = client.chat.completions.create(**ask)
stream = client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
pieces, usage = [], None
for chunk in stream:
    pieces += [c.delta.content or "" for c in chunk.choices]
    usage = chunk.usage or usage
wrong = []
for change, error in (
    ({"model": "gpt-5"}, openai.NotFoundError),
    ({"temperature": 3}, openai.BadRequestError),
):
    try:
        client.chat.completions.create(**{**ask, **change})
    except error as e:
        wrong.append([e.status_code, e.param])
schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
end = {t: 100 for t in json.loads(sys.argv[2])}
as_json = client.chat.completions.create(
    **{**ask, "max_tokens": 100},
    logit_bias=end,
    response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
)
print(json.dumps({
    "models": [m.id for m in client.models.list()],
    "chat": chat.choices[0].message.content,
    "stream": "".join(pieces),
    "tokens": usage.completion_tokens,
    "json": json.loads(as_json.choices[0].message.content),
    "completion": client.completions.create(model="bare", prompt="The river", temperature=0).usage.completion_tokens,
    "embeddings": [d.embedding for d in client.embeddings.create(model="owner/encoder", input=["paris", "the cat sat"]).data],
    "wrong": wrong,
}))
