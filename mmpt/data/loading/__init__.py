"""From token shards to packed batches: one global order of documents, packs planned from indexed lengths, exact resume."""
