"""A client of two Subrosa parties in Python's standard library: connect, share, run, reconstruct. docs/client.md says what each line has to do.

    echo '{"x": {"shape": [1, 4], "data": [1, 2, 3, 4]}}' | python3 client.py https://p0.example.org https://p1.example.org MODEL
"""
import array, json, math, os, re, secrets, struct, sys, urllib.error, urllib.parse, urllib.request
from concurrent.futures import ThreadPoolExecutor

WORD = 1 << 32


def chacha20(key, length, rounds=20, nonce=(0, 0, 0)):
    """The first `length` bytes of RFC 8439's keystream: counter from 0."""
    rotate = lambda x, n: (x << n | x >> 32 - n) & 0xFFFFFFFF
    out = bytearray()
    for counter in range(-(-length // 64)):
        start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter, *nonce]
        x = start[:]
        for i in range(4 * rounds):
            column = i % 8 < 4
            a, b, c, d = (i % 4 + 4 * k for k in range(4)) if column else (4 * k + (i + k) % 4 for k in range(4))
            for p, q, r, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[p] = (x[p] + x[q]) % WORD
                x[r] = rotate(x[r] ^ x[p], n)
        out += struct.pack("<16I", *((s + t) % WORD for s, t in zip(x, start)))
    return bytes(out[:length])


def split(words, seed):
    """Two shares of a list of words: the seed itself for P0, words minus its keystream for P1."""
    stream = struct.unpack(f"<{len(words)}I", chacha20(seed, 4 * len(words)))
    return seed, struct.pack(f"<{len(words)}I", *((w - s) % WORD for w, s in zip(words, stream)))


def size_of(dim, params):
    """A dimension: a number, or products of numbers and parameters joined by + and -."""
    terms = re.findall(r"([+-]?)([^+-]+)", str(dim))
    value = lambda f: int(f) if f.isdigit() else params[f]
    return sum((-1 if sign == "-" else 1) * math.prod(value(f.strip()) for f in term.split("*")) for sign, term in terms)


def resolve(value, params):
    """A number, a dimension, or a choice by parameter; in a list, one for each place."""
    if isinstance(value, list): return [resolve(v, params) for v in value]
    if not isinstance(value, dict): return value
    if "dim" in value: return size_of(value["dim"], params)
    return resolve(value["then"][next(i for i, most in enumerate(value["upTo"]) if params[value["by"]] <= most)], params)


class Client:
    def __init__(self, urls, model, token=None):
        self.urls, self.token, self.pool = [u.rstrip("/") for u in urls], token, ThreadPoolExecutor(2)
        lists = [json.loads(a) for a in self.both(lambda i: ("GET", "/v1/models", None))]
        if lists[0]["party"] == lists[1]["party"]: raise ValueError("both are the same party")
        if lists[0]["party"] == 1: self.urls.reverse(); lists.reverse()
        hashes = [next((m["hash"] for m in l["models"] if model in (m["name"], m["hash"])), None) for l in lists]
        if None in hashes or hashes[0] != hashes[1]: raise ValueError(f"the parties do not both have '{model}'")
        a, b = self.both(lambda i: ("GET", f"/v1/models/{hashes[0]}", None))
        if a != b: raise ValueError("the parties describe the program differently")
        self.manifest = json.loads(a)

    def ask(self, url, method, path, body, kind="application/octet-stream"):
        headers = {"Content-Type": kind, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, body, headers, method=method)) as answer: return answer.read()
        except urllib.error.HTTPError as e:
            raise RuntimeError(f"{url}: {json.loads(e.read())['error']}") from None

    def both(self, request):
        return list(self.pool.map(lambda i: self.ask(self.urls[i], *request(i)), (0, 1)))

    def run(self, inputs):
        """{name: {"shape": […], "data": [floats]}} → the same for outputs. One session, one step; every call draws a new seed."""
        m, params, words, points = self.manifest, {}, [], []
        for i in m["inputs"]:
            params |= {d: n for d, n in zip(i["shape"], inputs[i["name"]]["shape"]) if isinstance(d, str) and d.isidentifier()}
            spans, data = i.get("encoding", {}).get("dpf"), inputs[i["name"]]["data"]
            if spans: points += [(v, spans[j % len(spans)]) for j, v in enumerate(data)]
            for v in [] if spans else data:
                if not abs(v) < i["bound"]: raise ValueError(f"{i['name']}: {v} is not within ±{i['bound']}")
                words.append(math.floor(v * i["scale"] + 0.5) % WORD)
        session = {"id": secrets.token_hex(16), "hash": m["hash"]}
        for answer in self.both(lambda i: ("POST", "/v1/sessions", json.dumps(session).encode(), "application/json")):
            if json.loads(answer) != session: raise ValueError("a party answered for another session or program: nothing was sent")
        path, shares = f"/v1/sessions/{session['id']}", split(words, os.urandom(32))
        if points: import dpf; shares = [s + k for s, k in zip(shares, dpf.keys(points, bytes.fromhex(session["id"])))]
        a, b = (array.array("I", bytes) for bytes in self.both(lambda i: ("POST", f"{path}/steps/0?{urllib.parse.urlencode(params)}", shares[i])))
        self.ask(self.urls[0], "DELETE", path, None)
        outputs, at = {}, 0
        for o in m["outputs"]:
            shape, ring, scale = [size_of(d, params) for d in o["shape"]], 1 << resolve(o["bits"], params), resolve(o["scale"], params)
            size = math.prod(shape)
            sums = [(x + y) % ring for x, y in zip(a[at : at + size], b[at : at + size])]
            scales = scale if isinstance(scale, list) else [scale]
            outputs[o["name"]] = {"shape": shape, "data": [(v - ring if 2 * v >= ring else v) / scales[j % len(scales)] for j, v in enumerate(sums)]}
            at += size
        return outputs


if __name__ == "__main__":
    print(json.dumps(Client(sys.argv[1:3], sys.argv[3], os.environ.get("SUBROSA_TOKEN")).run(json.load(sys.stdin))))
