ingestd sandbox --port 8700 --quiet &
