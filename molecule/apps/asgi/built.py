"""What a build of assets does: it writes into the source and needs a token, of which it tells the length alone."""

from __future__ import annotations

import os
from pathlib import Path

target = Path(__file__).parent / "mysite/static/mysite/built.css"
target.write_text(f"/* a token of {len(os.environ['BUILD_TOKEN'])} characters */\n")
target.chmod(0o600)
