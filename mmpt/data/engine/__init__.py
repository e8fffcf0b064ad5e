"""The engine of every tool that writes shards: units of work in tasks, tasks to processes or a cluster, results in one set."""
