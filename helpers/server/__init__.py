"""The OpenAI-compatible server of the course: one model for a class, on loopback, behind keys."""
