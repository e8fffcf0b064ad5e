"""Files of many requests, answered at once: OpenAI's batch form, without a server."""
