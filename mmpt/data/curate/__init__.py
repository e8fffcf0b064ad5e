"""From shards to better shards: filtered, without duplicates, spoken in part, or degraded to pairs and plain text."""
