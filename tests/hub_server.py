"""A small loopback server with the part of the Hugging Face hub's protocol that tests need."""

import functools
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from safetensors.numpy import save

from tests.checkpoint_files import read
from tests.conftest import GOLDEN_WEIGHTS

CONTENT = GOLDEN_WEIGHTS.read_bytes()
COMMIT = "0" * 40
REPOS = {
    "fal/AuraEquiVAE": ["README.md", "vae_epoch_3_step_49501_bf16.pt"],
    "someone/copy": ["README.md", "aura.safetensors"],
    "someone/many": ["a.safetensors", "b.safetensors"],
    "someone/shards": [
        "vae/model.safetensors.index.json",
        "vae/model-00001-of-00002.safetensors",
        "vae/model-00002-of-00002.safetensors",
    ],
}


@functools.cache
def content(file: str) -> bytes:
    """Return the golden weights, or of a repository of shards the index or half of them."""
    if "model" not in file:
        return CONTENT
    files = REPOS["someone/shards"]
    tensors, parts = read(GOLDEN_WEIGHTS), {"encoder": files[1], "decoder": files[2]}
    place = {name: parts[name.partition(".")[0]] for name in tensors}
    if file == files[0]:
        return json.dumps({"weight_map": {n: f.split("/")[1] for n, f in place.items()}}).encode()
    return save({name: array for name, array in tensors.items() if place[name] == file})


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
            self.hub.revisions.append(rest[-1] if rest else "main")
            self.hub.tokens.append(self.headers.get("Authorization"))
            siblings = [{"rfilename": file} for file in files]
            listing = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings}
            self.reply(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())
        elif (file := "/".join(rest[2:])) not in files:
            self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"")
        else:
            self.send_file(file, content(file))

    def send_file(self, file: str, content: bytes) -> None:
        """Send a file, from the requested byte on."""
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        etag = hashlib.sha256(file.encode() + content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET":
            self.hub.downloads.append(start)
        self.reply(206 if start else 200, headers, content[start:])

    def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        """Send a response; while `hub.halves` is positive, only half of a download."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            half = self.hub.halves > 0 and not self.path.startswith("/api/")
            self.hub.halves -= half
            self.wfile.write(content[: len(content) // 2] if half else content)
            self.close_connection = half


class Hub(ThreadingHTTPServer):
    """A server of the golden checkpoint under every name in REPOS.

    Attributes:
        downloads: the byte at which each download began.
        revisions: the revisions whose files were listed.
        tokens: the header of each listing that has a token, or None.
        halves: the number of downloads to break off in the middle.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.downloads: list[int] = []
        self.revisions: list[str] = []
        self.tokens: list[str | None] = []
        self.halves = 0

    @property
    def address(self) -> str:
        """The endpoint for a client."""
        return f"http://127.0.0.1:{self.server_port}"
