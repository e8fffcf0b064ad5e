"""A hub of Hugging Face on this machine, as far as a push and a pull of small repositories go: `endpoint` serves it. Commits keep
their files by name; `asked` lists what clients asked for."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Hub:
    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.endpoint = ""

    def commit(self, repository: str, lines: list[dict]) -> str:
        files = self.repositories[repository]
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.revision(repository)

    def revision(self, repository: str) -> str:
        return hashlib.sha1(repr(sorted(self.repositories[repository].items())).encode()).hexdigest()


@contextmanager
def hub() -> Iterator[Hub]:
    """A `Hub` while inside."""
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

        def answer(self, content: bytes, code: int = 200, **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def json(self, value: object, code: int = 200) -> None:
            self.answer(json.dumps(value).encode(), code, Content_Type="application/json")

        def missing(self) -> None:
            self.answer(b'{"error": "Repository not found"}', 404, X_Error_Code="RepoNotFound")

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.asked.append(f"POST {self.path}")
            path = self.path.split("?")[0].strip("/").split("/")
            if path[1:] == ["repos", "create"]:
                given = json.loads(content)
                name = "/".join(filter(None, (given.get("organization"), given["name"])))
                found.repositories.setdefault(name, {})
                found.private[name] = bool(given.get("private")) or given.get("visibility") == "private"
                return self.json({"url": f"{found.endpoint}/{name}", "name": name})
            if path[1] == "validate-yaml":
                return self.json({"errors": [], "warnings": []})
            name, work = "/".join(path[2:4]), path[4]
            if name not in found.repositories:
                return self.missing()
            if work == "preupload":
                files = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(content)["files"]
                ]
                return self.json({"files": files})
            oid = found.commit(name, [json.loads(line) for line in content.splitlines()])
            return self.json({"success": True, "commitOid": oid, "commitUrl": f"{found.endpoint}/{name}/commit/{oid}"})

        def do_GET(self) -> None:
            found.asked.append(f"{self.command} {self.path}")
            path = self.path.split("?")[0].strip("/").split("/")
            if path[0] != "api":
                return self.file("/".join(path[:2]), "/".join(path[4:]))
            name = "/".join(path[2:4])
            if name not in found.repositories:
                return self.missing()
            files = found.repositories[name]
            if path[4:5] == ["tree"]:
                entries = [
                    {"type": "file", "path": one, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for one, data in files.items()
                ]
                return self.json(entries)
            siblings = [{"rfilename": one, "size": len(data)} for one, data in files.items()]
            self.json(
                {"_id": "0", "id": name, "modelId": name, "sha": found.revision(name), "private": found.private[name],
                 "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
            )  # fmt: skip

        do_HEAD = do_GET

        def file(self, name: str, path: str) -> None:
            data = found.repositories.get(name, {}).get(path)
            if data is None:
                return self.answer(b"", 404, X_Error_Code="EntryNotFound" if name in found.repositories else "RepoNotFound")
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            self.answer(data, X_Repo_Commit=found.revision(name), ETag=etag)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
