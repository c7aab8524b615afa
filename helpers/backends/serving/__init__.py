"""llama.cpp behind OpenAI's routes: the protocol's forms, slots for many, tool calls that small models can make.

Nothing here is imported with the backends: it brings pydantic and starlette, which only the server needs.
"""
