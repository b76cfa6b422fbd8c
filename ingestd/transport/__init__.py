"""The HTTP client and OAuth2, used by delivery and control."""
