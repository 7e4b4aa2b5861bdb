"""A stand-in for the Hugging Face hub's API on loopback: logging in, and an upload of files to one repository.

It answers what huggingface_hub 1.x asks without `hf_xet`: LFS for large files, then a commit.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

from huggingface_hub import constants

TOKEN = "hf_standin00000000000000000000"


@dataclass
class Hub:
    """What was uploaded, and how.

    files: content by path, of the one repository `repository`, once they are committed.
    refuse: the status with which commits are refused.
    """

    address: str = ""
    repository: str = ""
    visibility: str = ""
    refuse: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The answer to a request as JSON; raises KeyError at one that it does not know."""
        if path == "/api/whoami-v2":
            return {"type": "user", "name": "me", "orgs": []}
        if path == "/api/repos/create":
            given = json.loads(body)
            self.visibility, self.repository = (
                given.get("visibility"),
                f"{given.get('organization', 'me')}/{given['name']}",
            )
            return {"url": f"{self.address}/{self.repository}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == f"/api/models/{self.repository}/preupload/main":
            modes = {True: "lfs", False: "regular"}
            return {
                "files": [
                    {"path": one["path"], "uploadMode": modes[one["size"] > 50_000], "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
            }
        if path == f"/{self.repository}.git/info/lfs/objects/batch":
            wanted = json.loads(body)["objects"]
            return {"transfer": "basic", "objects": [{**one, "actions": self.actions(one["oid"])} for one in wanted]}
        if path.startswith("/objects/") and method == "PUT":
            self.objects[path.removeprefix("/objects/")] = body
            return {}
        if path == "/verify":
            return {}
        if path == f"/api/models/{self.repository}/commit/main":
            self.commit([json.loads(line) for line in body.splitlines()])
            return {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.address}/{self.repository}/commit/0"}
        raise KeyError(path)

    def actions(self, oid: str) -> dict[str, Any]:
        return {"upload": {"href": f"{self.address}/objects/{oid}"}, "verify": {"href": f"{self.address}/verify"}}

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                self.files[value["path"]] = self.objects[value["oid"]]
                assert hashlib.sha256(self.files[value["path"]]).hexdigest() == value["oid"]


@contextmanager
def stand_in() -> Iterator[Hub]:
    """The hub of this process while the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            allowed = path.startswith("/objects/") or self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status = 200 if allowed else 401
            if hub.refuse and path.endswith("/commit/main"):
                status = hub.refuse
            try:
                content = hub.answer(self.command, path, body) if status == 200 else {"error": "no"}
            except KeyError:
                status, content = 404, {"error": f"the stand-in does not know {self.command} {path}"}
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_HEAD = respond

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with mock.patch.multiple(constants, ENDPOINT=hub.address, HF_HUB_DISABLE_XET=True, HF_HUB_OFFLINE=False):
            yield hub
        server.shutdown()
