"""Units: their order is that of the items, and what they hold has one JSON, whatever records it is made of."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mmpt.data.build import Piece
from mmpt.data.curate.portions import Portion
from mmpt.data.formats.row_range import RowRange
from mmpt.data.shards.manifest import DocumentShard
from mmpt.data.unit import Unit, grouped, plain, told


@given(st.lists(st.integers(0, 50)), st.integers(1, 60), st.integers(1, 5))
def test_groups_hold_all_items_in_order_within_the_limits(sizes, max_bytes, max_items):
    units = grouped(list(enumerate(sizes)), max_bytes, max_items)
    assert [item for unit in units for item in unit.what] == list(range(len(sizes)))
    assert sum(unit.size for unit in units) == sum(sizes)
    for unit in units:
        assert len(unit.what) <= max_items and (unit.size <= max_bytes or len([n for n in unit.what if sizes[n]]) == 1)


def test_records_are_written_as_what_they_hold():
    rows = RowRange("a.parquet", 0, 9, group=2)
    assert told(Piece(1, rows)) == '[1, {"file": "a.parquet", "group": 2, "start": 0, "end": 9}]'
    assert told(RowRange("a.jsonl.gz", 5, None)) == '{"file": "a.jsonl.gz", "start": 5, "end": null}'
    shard = DocumentShard(name="shard-00000.tar", sha256="0" * 64, bytes=1, documents=1, parts={"text": 1})
    content = json.loads(json.dumps(Unit(Portion(0, shard), 3), default=plain))
    assert content == {"what": {"folder": 0, "shard": shard.model_dump()}, "size": 3}
    assert len(told("x" * 1000)) == 300
