"""Where engine and text meet: chat, OpenAI shapes, worker, HTTP, command line."""
