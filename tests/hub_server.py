"""A stand-in of the Hugging Face Hub on this machine: takes a repository and a commit. Knows the client's requests."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What was asked of it.

    Args:
        endpoint: where it listens.
        tokens: that requests carried.
        repositories: what it was to make, by name.
        files: of the last commit, by path.
        refusal: what it answers instead of making a repository.
    """

    endpoint: str = ""
    tokens: set[str] = field(default_factory=set)
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and content for a request."""
        if path == "/api/repos/create":
            if self.refusal is not None:
                status, message = self.refusal
                return status, {"error": message}
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.repositories[name] = asked
            return 200, {"url": f"{self.endpoint}/{name}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        if path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            values = [line["value"] for line in lines if line["key"] == "file"]
            self.files = {value["path"]: base64.b64decode(value["content"]) for value in values}
            commit = "0" * 40
            name = path.removeprefix("/api/models/").removesuffix("/commit/main")
            return 200, {
                "commitOid": commit,
                "commitUrl": f"{self.endpoint}/{name}/commit/{commit}",
                "pullRequestUrl": None,
            }
        return 404, {"error": f"nothing at {path}"}


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("Authorization", ""))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, content = hub.answer(self.path.partition("?")[0], body)
            self._send(status, content)

        def do_GET(self) -> None:
            self._send(*hub.answer(self.path.partition("?")[0], b""))

        def _send(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
