"""What ``ingestd check`` looks at before a service starts: settings, files, directories, ports, the API."""
