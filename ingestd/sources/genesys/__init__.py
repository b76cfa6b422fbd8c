"""The source that listens to notifications of Genesys Cloud."""
