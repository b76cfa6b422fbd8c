cp page.toml ingestd.toml
