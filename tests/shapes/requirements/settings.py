"""What the service is called."""

TITLE = "visits"
