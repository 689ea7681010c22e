"""A small loopback server with the part of the Hugging Face hub's protocol that tests need.

The client uploads with the protocol of Git LFS if its constant HF_HUB_DISABLE_XET is true.
"""

import base64
import functools
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from safetensors.numpy import save

from aura_jax import LatentStats
from aura_jax.checkpoint.description import Description
from tests.checkpoint_files import read
from tests.conftest import GOLDEN_CONFIG, GOLDEN_WEIGHTS

CONTENT = GOLDEN_WEIGHTS.read_bytes()
STATS = LatentStats([0.0] * 16, [2.0] * 16, "beside the golden weights")
CONFIG = Description(GOLDEN_CONFIG, STATS).to_json()
COMMIT = "0" * 40
REPOS = {
    "fal/AuraEquiVAE": ["README.md", "vae_epoch_3_step_49501_bf16.pt"],
    "someone/copy": ["README.md", "aura.safetensors"],
    "someone/config": ["vae/config.json", "vae/model.safetensors"],
    "someone/many": ["a.safetensors", "b.safetensors"],
    "someone/shards": [
        "vae/model.safetensors.index.json",
        "vae/model-00001-of-00002.safetensors",
        "vae/model-00002-of-00002.safetensors",
    ],
}


@functools.cache
def content(file: str) -> bytes:
    """Return the golden weights, a config, or of a repository of shards the index or half."""
    if file.endswith("config.json"):
        return CONFIG.encode()
    if "model" not in file or file == "vae/model.safetensors":
        return CONTENT
    files = REPOS["someone/shards"]
    tensors, parts = read(GOLDEN_WEIGHTS), {"encoder": files[1], "decoder": files[2]}
    place = {name: parts[name.partition(".")[0]] for name in tensors}
    if file == files[0]:
        return json.dumps({"weight_map": {n: f.split("/")[1] for n, f in place.items()}}).encode()
    return save({name: array for name, array in tensors.items() if place[name] == file})


class Handler(BaseHTTPRequestHandler):
    """Answer requests for files, for ranges of them, for repository listings, and uploads."""

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

    def do_PUT(self) -> None:
        """Receive a large file, under its checksum."""
        self.hub.objects[self.path.rpartition("/")[2]] = self.body()
        self.reply(200, {}, b"")

    def do_POST(self) -> None:
        """Make a repository or a branch, say how to upload, or receive a commit."""
        body = self.body()
        self.hub.tokens.append(self.headers.get("Authorization"))
        if self.hub.refusal is not None:
            self.reply(self.hub.refusal, {"X-Error-Message": "You may not write here"}, b"{}")
            return
        what = next(part for part in POSTS if f"/{part}" in self.path)
        answer = getattr(self, f"post_{what.replace('-', '_')}")(body)
        self.reply(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def body(self) -> bytes:
        """Read the request's body, which the client may send in chunks."""
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def post_create(self, body: bytes) -> Any:
        """Make a repository."""
        self.hub.created.append(json.loads(body))
        name = f"{self.hub.created[-1].get('organization')}/{self.hub.created[-1]['name']}"
        return {"url": f"{self.hub.address}/{name}"}

    def post_branch(self, body: bytes) -> Any:
        """Make a branch."""
        self.hub.revisions.append(self.path.rpartition("/")[2])
        return {}

    def post_validate_yaml(self, body: bytes) -> Any:
        """Accept a model card."""
        return {"errors": [], "warnings": []}

    def post_preupload(self, body: bytes) -> Any:
        """Say that safetensors are large files."""
        files = [file["path"] for file in json.loads(body)["files"]]
        modes = {True: "lfs", False: "regular"}
        return {
            "files": [
                {"path": path, "shouldIgnore": False, "uploadMode": modes[path.endswith("tensors")]}
                for path in files
            ]
        }

    def post_batch(self, body: bytes) -> Any:
        """Say where to send large files."""
        objects = json.loads(body)["objects"]
        upload = {o["oid"]: {"href": f"{self.hub.address}/large/{o['oid']}"} for o in objects}
        return {"objects": [{**o, "actions": {"upload": upload[o["oid"]]}} for o in objects]}

    def post_commit(self, body: bytes) -> Any:
        """Receive a commit."""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                self.hub.messages.append(value["summary"])
        name = "/".join(self.path.split("/")[3:5])
        return {"commitOid": COMMIT, "commitUrl": f"{self.hub.address}/{name}/commit/{COMMIT}"}

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
        if self.command != "HEAD":
            download = self.command == "GET" and not self.path.startswith("/api/")
            half = self.hub.halves > 0 and download
            self.hub.halves -= half
            self.wfile.write(content[: len(content) // 2] if half else content)
            self.close_connection = half


POSTS = ("create", "branch", "validate-yaml", "preupload", "batch", "commit")


class Hub(ThreadingHTTPServer):
    """A server of the golden checkpoint under every name in REPOS, which takes uploads.

    Attributes:
        downloads: the byte at which each download began.
        revisions: the revisions whose files were listed.
        tokens: the header of each listing that has a token, or None.
        halves: the number of downloads to break off in the middle.
        created: the requests to make repositories.
        objects: the large files that were uploaded, by checksum.
        files: the files of commits, by path.
        messages: the messages of commits.
        refusal: the HTTP status that answers uploads; None to accept them.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.downloads: list[int] = []
        self.revisions: list[str] = []
        self.tokens: list[str | None] = []
        self.halves = 0
        self.created: list[dict[str, Any]] = []
        self.objects: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.refusal: int | None = None

    @property
    def address(self) -> str:
        """The endpoint for a client."""
        return f"http://127.0.0.1:{self.server_port}"
