"""The bytes of a page as text (encoding.spec.whatwg.org)."""

import codecs

from mmpt.data.extra import need
from mmpt.errors import DataError

_WEB = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""Encodings that the web means otherwise than their names say (encoding.spec.whatwg.org), as Python names them."""


def decoded(data: bytes, sent_as: str = "") -> str:
    """The text by its byte order mark, else by the encoding that a server named, else by the one that the page declares, else
    UTF-8: nothing is guessed. Raises `DataError` where it is none."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    else:
        encoding = sent_as or need("bs4.dammit").EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    try:
        python = codecs.lookup(encoding).name
        return data.decode(_WEB.get(python, python))
    except (LookupError, ValueError) as problem:
        raise DataError(f"no text in {encoding} ({problem})") from None
