"""A small loopback server with the part of the Hugging Face hub's protocol that tests need."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.conftest import GOLDEN_WEIGHTS

CONTENT = GOLDEN_WEIGHTS.read_bytes()
COMMIT = "0" * 40
REPOS = {
    "fal/AuraEquiVAE": ["README.md", "vae_epoch_3_step_49501_bf16.pt"],
    "someone/copy": ["README.md", "aura.safetensors"],
    "someone/many": ["a.safetensors", "b.safetensors"],
}


class Handler(BaseHTTPRequestHandler):
    """Answer HEAD and GET requests for files, for ranges of them, and for repository listings."""

    @property
    def hub(self) -> "Hub":
        """The server, which holds the state that handlers share."""
        assert isinstance(self.server, Hub)
        return self.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Send the headers of a file."""
        self.answer()

    def do_GET(self) -> None:
        """Send a file or a listing."""
        self.answer()

    def answer(self) -> None:
        """Send the requested file or listing, or an error."""
        api = self.path.startswith("/api/models/")
        owner, name, *rest = self.path.removeprefix("/api/models").strip("/").split("/")
        files = REPOS.get(f"{owner}/{name}")
        if files is None:
            self.reply(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
        elif api:
            listing = [{"type": "file", "path": f, "size": 1, "oid": COMMIT} for f in files]
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())
        elif rest[-1] not in files:
            self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"")
        else:
            self.send_checkpoint(rest[-1])

    def send_checkpoint(self, file: str) -> None:
        """Send the golden weights, from the requested byte on."""
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        etag = hashlib.sha256(file.encode() + CONTENT).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        if self.command == "GET":
            self.hub.downloads.append(start)
        self.reply(206 if start else 200, headers, CONTENT[start:])

    def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        """Send a response; while `hub.halves` is positive, only half of a download."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            half = self.hub.halves > 0
            self.hub.halves -= half
            self.wfile.write(content[: len(content) // 2] if half else content)
            self.close_connection = half


class Hub(ThreadingHTTPServer):
    """A server of the golden checkpoint under every name in REPOS.

    Attributes:
        downloads: the byte at which each download began.
        halves: the number of downloads to break off in the middle.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.downloads: list[int] = []
        self.halves = 0

    @property
    def address(self) -> str:
        """The endpoint for a client."""
        return f"http://127.0.0.1:{self.server_port}"
