"""Keys of point functions, for inputs whose manifest has an encoding: src/ring/dpf.ts in Python, its client's half."""
import os, struct
from client import WORD, chacha20

TAG = 0x667064


def tree(seed, salt):
    """G(seed): two seeds and two bits, from one ChaCha12 block whose key is seed and salt."""
    block = chacha20(seed + salt, 64, 12, (TAG, 0, 0))
    return [block[:16], block[16:32]], [block[32] & 1, block[32] >> 1 & 1]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def point(place, domain, salt, random=os.urandom):
    """P0's and P1's key of the function that is 1 at `place` and 0 at all other places below `domain`."""
    if not (isinstance(place, int) and 0 <= place < domain): raise ValueError(f"{place} is none of {domain} places")
    levels = max(0, (domain + 3) // 4 - 1).bit_length()
    roots = seeds = [random(16), random(16)]
    on, corrections, bits = [0, 1], b"", 0
    for level in range(levels):
        keep = place // 4 >> levels - 1 - level & 1
        (s0, t0), (s1, t1) = (tree(s, salt) for s in seeds)
        lost = xor(s0[1 - keep], s1[1 - keep])
        flips = [t0[0] ^ t1[0] ^ keep ^ 1, t0[1] ^ t1[1] ^ keep]
        seeds = [xor(s[keep], lost) if t else s[keep] for s, t in zip((s0, s1), on)]
        on = [t[keep] ^ (o & flips[keep]) for t, o in zip((t0, t1), on)]
        corrections += lost
        bits |= (flips[0] | flips[1] << 1) << 2 * level
    a, b = (struct.unpack("<4I", s) for s in seeds)
    last = [(int(j == place % 4) - x + y) * (-1 if on[1] else 1) % WORD for j, (x, y) in enumerate(zip(a, b))]
    shared = corrections + bits.to_bytes((2 * levels + 7) // 8, "little") + struct.pack("<4I", *last)
    return [root + shared for root in roots]


def keys(points, salt):
    """Keys of all (place, domain), one after the other, for P0 and for P1."""
    made = [point(place, domain, salt) for place, domain in points]
    return [b"".join(k[party] for k in made) for party in (0, 1)]
