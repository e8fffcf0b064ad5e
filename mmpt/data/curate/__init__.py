"""From shards to better shards: filtered, without duplicates, spoken in part, degraded to pairs and plain text, or tokens."""
