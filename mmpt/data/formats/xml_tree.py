"""XML of strangers as a tree of lxml: nothing is fetched, nothing is expanded."""

from typing import TYPE_CHECKING

from mmpt.data.extra import need
from mmpt.errors import DataError

if TYPE_CHECKING:
    from lxml.etree import _Element

MAX_BYTES = 32 << 20


def xml_root(data: bytes) -> "_Element":
    """The root of an XML document, without comments and processing instructions.

    Raises `DataError` where it is larger than `MAX_BYTES`, not well-formed (with the line), deeper than libxml2's limit of 256
    elements, or declares entities: they are how a short file becomes a long one, or reads another (CWE-776, CWE-611).
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"of {len(data)} bytes, at most {MAX_BYTES} are read")
    etree = need("lxml.etree")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as problem:
        raise DataError(f"no well-formed XML ({problem})") from None
    subset = root.getroottree().docinfo.internalDTD
    # In UTF-16 every other byte is a zero. Parameter entities are in no list of the library's, so the bytes are asked too.
    if subset is not None and (any(True for _ in subset.iterentities()) or b"<!ENTITY" in data.replace(b"\0", b"")):
        raise DataError("it declares entities, which are not expanded")
    if next(root.iter(etree.Entity), None) is not None:
        raise DataError("it uses entities that it does not declare")
    return root


def local_name(node: "_Element") -> str:
    """The name of an element without its namespace."""
    return str(node.tag).rpartition("}")[2]


def words_of(node: "_Element | None") -> str:
    """The text of an element and all in it, runs of spaces as one space each; "" for None."""
    return "" if node is None else " ".join("".join(map(str, node.itertext())).split())
