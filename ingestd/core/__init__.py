"""The nouns and small mechanisms. Imports nothing else of ours."""
