"""Requests of somebody who means harm: bodies that cost far more than they weigh, media that lie, and raw HTTP that is none."""

import base64
import io
import json
import struct
import wave
import zlib
from collections.abc import Iterator

import numpy as np
import PIL.Image
import soundfile

SPELLED = ("<|image|>", "<|/image|>", "<|speech|>", "<|speech_00001|>", "<|image_00001|>", "<|begin|>", "<|end|>", "<|im_start|>",
           "<|im_end|>", "<|mmpt:part|>", "<s>", "</s>", "<|endoftext|>", "[INST]")  # fmt: skip
"""Special tokens, as somebody may type them."""


def asking(*parts: dict, **fields) -> bytes:
    """A request about `parts`, answered by a few tokens of text."""
    content = list(parts) or [{"type": "text", "text": "a"}]
    return json.dumps(
        {"messages": [{"role": "user", "content": content}], "max_tokens": 2, "modalities": ["text"], **fields}
    ).encode()


def picture(data: bytes, kind: str = "png") -> dict:
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}}


def sound(data: bytes, kind: str = "wav") -> dict:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": kind}}


def bodies() -> Iterator[tuple[str, bytes]]:
    """(What it is, a body for chat completions) one after the other."""
    yield from structures()
    yield from typed()
    yield from ((name, asking(part)) for name, part in pictures())
    yield from ((name, asking(part)) for name, part in sounds())
    yield from many()


def structures() -> Iterator[tuple[str, bytes]]:
    """JSON that is deep, wide, huge or none."""
    good = asking()[:-1]
    yield "nested 200,000 deep", good + b',"zz":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    yield "nested objects", good + b',"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"
    yield "nested in what is taken", good + b',"metadata":' + b"[" * 190 + b"]" * 190 + b"}"
    yield "100,000 digits", good + b',"seed":' + b"9" * 100_000 + b"}"
    yield "1e999999", good + b',"temperature":1e999999}'
    yield "NaN", good + b',"temperature":NaN}'
    yield "100,000 unknown keys", good + b"".join(b',"k%d":1' % number for number in range(100_000)) + b"}"
    yield "2,000,000 unknown keys", good + b"".join(b',"k%d":1' % number for number in range(2_000_000)) + b"}"
    yield "5,000,000 empty lists", good + b',"metadata":[' + b"[]," * 5_000_000 + b"1]}"
    yield "200,000 messages", b'{"messages":[' + b",".join([b'{"role":"user","content":"a"}'] * 200_000) + b'],"max_tokens":2}'
    yield "200,000 wrong messages", b'{"messages":[' + b",".join([b'{"role":1}'] * 200_000) + b'],"max_tokens":2}'
    yield "20,000 turns", asking(messages=[{"role": ("user", "assistant")[n % 2], "content": "a"} for n in range(20_001)])
    yield "100,000 parts", asking(*[{"type": "text", "text": "a"}] * 100_000)
    yield "duplicated keys", good + b',"max_tokens":1,"max_tokens":2}'
    yield "duplicated keys, the last wrong", good + b',"max_tokens":1,"max_tokens":-2}'
    yield "invalid UTF-8", good + b',"user":"\xff\xfe\xc0\x80"}'
    yield "a lone surrogate", asking({"type": "text", "text": "x"}).replace(b'"x"', b'"\\ud800"')
    yield "NUL", asking({"type": "text", "text": "\0"})
    yield "UTF-16", asking().decode().encode("utf-16")
    yield "a megabyte as the model's name", asking(model="m" * 1_000_000)
    yield "a megabyte as a key", good + b',"' + b"k" * 1_000_000 + b'":1}'
    yield "a megabyte as a role", asking(messages=[{"role": "r" * 1_000_000, "content": "a"}])
    yield "lines in the model's name", asking(model="x\r\nERROR forged\x1b[31m")


def typed() -> Iterator[tuple[str, bytes]]:
    """What somebody types."""
    yield "special tokens", asking({"type": "text", "text": " ".join(SPELLED)})
    yield "special tokens as a role", asking(messages=[{"role": "<|end|>", "content": "a"}])
    yield "a template as text", asking({"type": "text", "text": "{{ messages }}{% for x in range(10**9) %}{% endfor %}"})
    yield "a name", asking(messages=[{"role": "user", "name": "<|end|>", "content": "a"}])
    yield "chat_template_kwargs", asking(chat_template_kwargs={"template": "{{ 1 }}"})
    yield "8 MB of text", asking({"type": "text", "text": "ab " * 2_800_000})
    yield "8 MB of one letter", asking({"type": "text", "text": "a" * 8_000_000})
    yield "8 MB of spaces", asking({"type": "text", "text": " " * 8_000_000})
    yield "combining marks", asking({"type": "text", "text": "a" + "\u0301" * 100_000})
    yield "long stop words", asking(stop=["a" * 200_000 + str(n) for n in range(4)], max_tokens=500, temperature=1.0)
    yield "a regex as a stop word", asking(stop=["(a+)+$", "((.*)*)*x"], max_tokens=50)
    yield "special tokens as stop words", asking(stop=["<|end|>", "<|image|>"], max_tokens=50)
    for number, schema in enumerate(schemas()):
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        yield f"JSON schema {number}", asking(**{"max_tokens": 20, "temperature": 1.5, "response_format": form})
    yield "a bias for each token", asking(logit_bias={str(token): 100 for token in range(20_000)})
    yield "128 answers at once", asking(n=128)
    for number, sampler in enumerate(samplers()):
        yield f"sampler {number}", asking(**{"max_tokens": 4, **sampler})


def schemas() -> Iterator[dict]:
    """JSON schemas that mean themselves, or a regular expression that explodes."""
    yield {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    yield {"$ref": "file:///etc/passwd"}
    yield {"type": "integer", "multipleOf": 10**9 + 7}
    yield {"type": "integer", "minimum": -(10**300), "maximum": 10**300, "multipleOf": 7}
    yield {"type": "array", "minItems": 10**9, "items": {"type": "integer"}}
    yield {"type": "string", "minLength": 10**9}
    yield {"enum": [f"x{number}" for number in range(10_000)]}
    for pattern in ("^(a+)+$", "^((a{1,1000}){1,1000}){1,1000}$", "^(.*a.{1000}){50}$"):
        yield {"type": "string", "pattern": pattern}
    yield {"allOf": [{"type": "string", "pattern": f"^.*{letter}.*{letter}.*$"} for letter in "abcdefghijklmnop"]}
    yield {"anyOf": [{"type": "string", "pattern": f"^.*{number}.{{{number + 50}}}$"} for number in range(100)]}


def samplers() -> Iterator[dict]:
    """Settings at the ends of their ranges."""
    tiny = (5e-324, 1e-308, 1e-45, 1e-38, 1e-7, 1 - 1e-16)
    yield from ({"temperature": value} for value in (*tiny, 100))
    yield from ({"temperature": 1.0, "top_p": value} for value in tiny)
    yield from ({"temperature": 100, "top_p": value, "top_k": 1} for value in tiny)
    yield from ({"temperature": 1.0, "top_k": value} for value in (1, 2**31, 2**62, 2**63 - 1, 2**64))
    yield from ({"temperature": 1.0, "seed": value} for value in (-(2**63) + 1, 2**63 - 1, 2**62, -1))
    yield from ({"modalities": ["image"], "guidance": value, "max_tokens": 60} for value in (0, 1e-300, 100))
    for kind in ("min_p", "top_p", "greedy", "none"):
        yield {"sampler": {"kind": kind, "temperature": 1e-300}}
        yield {"sampler": {"kind": kind, kind: 1e-300, "temperature": 100}}
    yield {"modalities": ["text", "audio"], "alternate": [1, 2**62], "max_tokens": 20}
    yield {"modalities": ["text", "audio"], "alternate": [2**62, 1], "max_tokens": 20}


def pictures() -> Iterator[tuple[str, dict]]:
    """Pictures that are bombs, or lie."""
    plain = saved(PIL.Image.new("RGB", (9, 9), "red"), "PNG")
    noise = [PIL.Image.effect_noise((128, 128), n + 1).convert("RGB") for n in range(60)]
    for kind in ("GIF", "WEBP", "PNG"):
        yield f"60 frames of {kind}", picture(saved(noise[0], kind, save_all=True, append_images=noise[1:]), kind.lower())
    yield "a multi-page TIFF as PNG", picture(saved(noise[0], "TIFF", save_all=True, append_images=noise[1:]))
    for kind in ("TIFF", "ICO", "BMP", "PPM", "PDF", "TGA", "JPEG2000", "SGI", "EPS", "PCX", "ICNS", "AVIF"):
        try:
            yield f"{kind} as PNG", picture(saved(PIL.Image.new("RGB", (16, 16)), kind))
        except (KeyError, OSError):
            continue
    yield "SVG as PNG", picture(b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>")
    yield "PSD as PNG", picture(b"8BPS\0\1" + bytes(6) + b"\0\3" + struct.pack(">II", 9, 9) + b"\0\x08\0\3" + bytes(200))
    yield "mp4 as PNG", picture(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(2000))
    yield "HTML as PNG", picture(b"<html><script>alert(1)</script></html>")
    yield "60,000 x 60,000", picture(saved(PIL.Image.new("1", (60_000, 60_000)), "PNG"))
    yield "zero pixels", picture(plain[:16] + struct.pack(">II", 0, 0) + plain[24:])
    yield "2^31 pixels wide", picture(plain[:16] + struct.pack(">II", 2**31 - 1, 1) + plain[24:])
    text = zlib.compress(b"A" * 200_000_000)
    yield "200 MB in zTXt", picture(with_chunk(plain, b"zTXt", b"k\0\0" + text))
    yield "200 MB in iCCP", picture(with_chunk(plain, b"iCCP", b"k\0\0" + text))
    yield "200 MB in iTXt", picture(with_chunk(plain, b"iTXt", b"k\0\1\0\0\0" + text))
    yield "a frame larger than the screen of a GIF", picture(large_frame(), "gif")
    yield "a JPEG of 2,000 scans", picture(many_scans(2000), "jpeg")
    for number, exif in enumerate(damaged_exif()):
        yield f"damaged EXIF {number}", picture(saved(PIL.Image.new("RGB", (9, 9)), "JPEG", exif=exif), "jpeg")
        yield f"damaged EXIF {number} in PNG", picture(with_chunk(plain, b"eXIf", exif.removeprefix(b"Exif\0\0")))


def sounds() -> Iterator[tuple[str, dict]]:
    """Sounds that are bombs, or lie."""
    out = io.BytesIO()
    soundfile.write(out, np.zeros((192_000 * 60, 8), dtype=np.int16), 192_000, format="FLAC")
    yield "FLAC of 192 kHz and 8 channels", sound(out.getvalue(), "flac")
    for kind in ("AIFF", "W64", "RF64", "AU", "CAF", "VOC", "HTK", "PVF", "MAT5"):
        out = io.BytesIO()
        soundfile.write(out, np.zeros(800, dtype=np.float32), 8000, format=kind, subtype="PCM_16")
        yield f"{kind} as WAV", sound(out.getvalue())
    yield "mp4 as WAV", sound(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(2000))
    second = wav(16_000)
    yield (
        "WAV of 2 GB, one second there",
        sound(second[:4] + b"\xff\xff\xff\xff" + second[8:40] + b"\xff\xff\xff\x7f" + second[44:]),
    )
    for rate in (0, 1, 4_000_000_000):
        yield f"WAV of {rate} Hz", sound(second[:24] + struct.pack("<I", rate) + second[28:])
    yield "WAV that states no length, ten minutes", sound(piped(wav(8000 * 600, 8000)))
    yield "MP3 of which the first frame lies", sound(lying_mp3(), "mp3")
    out = io.BytesIO()
    soundfile.write(out, np.zeros(16_000, dtype=np.float32), 16_000, format="OGG", subtype="VORBIS")
    ogg = bytearray(out.getvalue())
    for value in (0, 1 << 40, (1 << 63) - 1):
        place = ogg.rindex(b"OggS")
        ogg[place + 6 : place + 14] = struct.pack("<q", value)
        yield f"OGG that ends at {value}", sound(bytes(ogg), "ogg")
    out = io.BytesIO()
    soundfile.write(out, np.zeros(16_000, dtype=np.float32), 16_000, format="FLAC")
    flac = bytearray(out.getvalue())
    for samples in (1, (1 << 36) - 1):
        flac[21:26] = bytes([flac[21] & 0xF0 | samples >> 32]) + struct.pack(">I", samples & 0xFFFFFFFF)
        yield f"FLAC that states {samples} samples", sound(bytes(flac), "flac")


def many() -> Iterator[tuple[str, bytes]]:
    """Much of what is small."""
    yield "5,000 pictures", asking(*[picture(saved(PIL.Image.new("1", (8, 8)), "PNG"))] * 5000)
    yield "30 pictures of 16 million pixels", asking(*[picture(saved(PIL.Image.new("1", (4000, 4000)), "PNG"))] * 30)
    out = io.BytesIO()
    soundfile.write(out, np.zeros(16_000 * 118, dtype=np.int16), 16_000, format="FLAC")
    yield "60 sounds of two minutes", asking(*[sound(out.getvalue(), "flac")] * 60)
    yield "33 MB", asking({"type": "text", "text": "a" * (33 << 20)})


def saved(image: PIL.Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def wav(samples: int, rate: int = 16_000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * samples))
    return out.getvalue()


def piped(data: bytes) -> bytes:
    """A WAV as programs write it that do not know its length yet: 0."""
    return data[:4] + bytes(4) + data[8:40] + bytes(4) + data[44:]


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one chunk more, behind its header."""
    return png[:33] + struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)) + png[33:]


def large_frame() -> bytes:
    """A GIF of 1 x 1 whose frame has 65,535 x 65,535 pixels."""
    data = bytearray(saved(PIL.Image.new("P", (1, 1)), "GIF"))
    place = data.rindex(b",") if data.rindex(b",") > 12 else data.index(b",", 13)
    data[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


def many_scans(scans: int, side: int = 3900) -> bytes:
    """A progressive JPEG of few bytes, each of whose scans passes over all blocks."""
    data = saved(PIL.Image.new("L", (side, side)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")  # the last refines what is zero everywhere: again and again
    return data[:start] + data[start:-2] * scans + data[-2:]


def damaged_exif() -> Iterator[bytes]:
    """An orientation of the wrong type, length or place, and directories that point to themselves."""

    def directory(kind: int, count: int, value: bytes, entries: int = 1) -> bytes:
        return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", entries, 0x0112, kind, count) + value + b"\x08\0\0\0"

    for kind in range(14):
        yield directory(kind, 1, b"\x06\0\0\0")
        yield directory(kind, 0, b"\x06\0\0\0")
        yield directory(kind, 0xFFFFFFFF, b"\x08\0\0\0")
        yield directory(kind, 5, b"\x08\0\0\0")
    yield directory(3, 1, b"\x06\0\0\0", entries=65535)
    yield directory(3, 1, b"\xff\xff\0\0")
    yield b"Exif\0\0"
    yield b"Exif\0\0XX*\0" + bytes(20)
    yield b"Exif\0\0MM\0*\xff\xff\xff\xff"


def lying_mp3(frames: int = 40_000) -> bytes:
    """A first frame of 320 kbit/s, then frames of 8: by its beginning it is a fraction as long as it is."""
    # MPEG-2, layer III, 16 kHz, mono: 160 kbit/s (720 bytes), then 8 kbit/s (36 bytes), 576 samples each
    return (b"\xff\xf3\xe8\xc0" + bytes(716)) + (b"\xff\xf3\x18\xc0" + bytes(32)) * frames


def raw(host: str) -> Iterator[tuple[str, bytes]]:
    """(What it is, bytes sent as they are)."""
    good = asking()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n".encode()
    length = b"Content-Length: %d\r\n" % len(good)
    yield "two lengths", head + b"Content-Length: 5\r\n" + length + b"\r\n" + good
    yield "length and chunks", head + length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + good
    yield "chunks and length", head + b"Transfer-Encoding: chunked\r\n" + length + b"\r\n0\r\n\r\n" + good
    yield "an obscured transfer encoding", head + b"Transfer-Encoding: xchunked\r\n" + length + b"\r\n" + good
    yield "a negative length", head + b"Content-Length: -1\r\n\r\n" + good
    yield "a length with a sign", head + b"Content-Length: +5\r\n\r\n" + good
    yield "a length of 10^30", head + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n"
    yield "a chunk of 2^64 bytes", head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + good
    yield "a chunk that is none", head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + good
    yield "lines ended by LF, a second request", head.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}GET /health HTTP/1.1\n\n"
    yield "a folded header", head + b"X: a\r\n b\r\n" + length + b"\r\n" + good
    yield "a space before the colon", head + b"Content-Length : 5\r\n\r\nhello"
    yield "two hosts", head + f"Host: {host}\r\n".encode() + length + b"\r\n" + good
    yield "no host", b"GET /health HTTP/1.1\r\n\r\n"
    yield "HTTP/1.0 without a host", b"GET /health HTTP/1.0\r\n\r\n"
    yield "another host in the target", f"GET http://evil.example/health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "a megabyte of headers", head + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n"
    yield "20,000 headers", head + b"".join(b"x%d: 1\r\n" % number for number in range(20_000)) + b"\r\n"
    yield "a megabyte of path", b"GET /" + b"a" * 1_000_000 + f" HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "traversal", f"GET /../../../../etc/passwd HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "encoded traversal", f"GET /v1/models/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "lines in the path", f"GET /x%0d%0aERROR%20forged HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "bytes that are no UTF-8 in the path", f"GET /%ff%fe%c0 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500)
    yield "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(20)
    yield "CONNECT", f"CONNECT evil.example:80 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "an upgrade", f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n".encode()
    yield "100 requests in one packet", f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 100
    yield "a compressed body", head + b"Content-Encoding: gzip\r\n" + length + b"\r\n" + good
    yield "a body for GET", f"GET /health HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n".encode() + bytes(100_000)
