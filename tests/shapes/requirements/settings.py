"""What the service is called."""

from pathlib import Path

TITLE = (Path(__file__).parent / "texts" / "title.txt").read_text().strip()
