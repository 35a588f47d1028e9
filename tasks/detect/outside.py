"""The names of what detection asks outside of the host."""

ENGINE, HUB, LIBRARY = "container engine", "Hugging Face Hub", "Ollama library"
