"""OpenAI-compatible servers, given or started here."""
