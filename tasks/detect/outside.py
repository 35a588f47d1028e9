"""The names of what detection asks outside of the host."""

ENGINE, HUB, LIBRARY = "container engine", "Hugging Face Hub", "Ollama library"
OLLAMA, OLLAMA_ADDRESS = "Ollama on this host", "http://127.0.0.1:11434"
