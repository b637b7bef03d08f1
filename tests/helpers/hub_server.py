"""A small Hugging Face Hub on loopback, for the real client: repositories, LFS and Xet uploads, commits with a parent, refs, files.

    with HubServer() as hub:
        hub.fault("PUT", "/lfs/", status=500, times=2)
        HfApi(endpoint=hub.url, token=hub.token).create_repo("ann/x", repo_type="dataset")

It keeps everything in memory and changes a repository in one step, as the Hub does: `commits` of a repository is what
anybody could ever have seen. Faults are scripted by method and a part of the path, used up in order:

    status=503, headers={…}   answer with it and do nothing
    reset=True                read half of the request's body, then reset the connection
    lost=True                 do what was asked, then reset the connection instead of answering
    delay_s=0.2               answer late
    corrupt=True              give (or keep) other bytes than it should
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from xet_store import XetStore

TOKEN = "hf_canary" + "QzXv7" * 6
READER_TOKEN = "hf_readonly" + "Wp3Lk" * 5
LFS_ENDINGS = (".parquet", ".png", ".safetensors", ".arrow", ".bin")


@dataclass(frozen=True)
class Blob:
    content: bytes
    lfs: bool
    claimed: str = ""
    """The hash it was uploaded as: what the Hub lists, whatever its storage holds."""

    @property
    def sha256(self):
        return self.claimed or hashlib.sha256(self.content).hexdigest()

    @property
    def blob_id(self):
        content = self.content
        if self.lfs:
            size = len(content)
            content = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {size}\n".encode()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    files: dict[str, Blob]


@dataclass
class Repo:
    kind: str
    repo_id: str
    private: bool
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self):
        return self.commits[-1]

    def add(self, title, files):
        """A new commit on `main`."""
        oid = hashlib.sha1(f"{self.repo_id}{len(self.commits)}{title}".encode()).hexdigest()
        self.commits.append(Commit(oid, title, dict(files)))
        return oid

    def at(self, revision):
        revision = self.tags.get(revision, revision)
        if revision == "main":
            return self.head
        return next((c for c in self.commits if c.oid == revision), None)


@dataclass
class Fault:
    method: str
    part: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    lost: bool = False
    delay_s: float = 0.0
    corrupt: bool = False
    before: object = None
    """Called with the server before the request is done: somebody else is faster."""


class HubServer:
    """The server; use as a context manager."""

    def __init__(self):
        self.token = TOKEN
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.xet = XetStore()
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, int]] = []
        self.writes_seen: list[str] = []
        self.lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method, part, **how):
        """Script a fault for requests of `method` whose path contains `part`."""
        self.faults.append(Fault(method, part, **how))

    def repo(self, repo_id, kind="dataset"):
        return self.repos[kind, repo_id]

    def take_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.part in path and fault.times:
                    fault.times -= 1
                    return fault
        return None

    @property
    def changes(self):
        """Requests that could change something, as (method, path)."""
        asking = ("/preupload/", "/validate-yaml", "/paths-info/", "/objects/batch")
        return [
            (m, p) for m, p, _ in self.requests if m in ("POST", "PUT") and not any(a in p for a in asking)
        ]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # resets are scripted


class _Answer(Exception):
    def __init__(self, status, body=None, headers=None):
        self.status, self.headers = status, headers or {}
        self.body = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()


def _error(status, code, message):
    return _Answer(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})


_API = re.compile(
    r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|refs|tree|paths-info|preupload|commit|tag)(?:/([^/]+)(?:/(.*))?)?)?$"
)
_RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
_LFS_BATCH = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch$")


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # an answer in one piece: without it every request waits 40 ms for the client's kernel

        def log_message(self, *_):
            pass

        def do(self):
            path = urlsplit(self.path).path
            fault = hub.take_fault(self.command, path) or Fault("", "", 0)
            length = int(self.headers.get("Content-Length") or 0)
            if fault.reset:
                self.rfile.read(length // 2)
                return self.hang_up(path)
            body = self.rfile.read(length) if length else self.chunks()
            time.sleep(fault.delay_s)
            if fault.before:
                fault.before(hub)
            if fault.status is not None:
                answer = _Answer(fault.status, {"error": "scripted"}, fault.headers)
            else:
                try:
                    with hub.lock:
                        answer = self.route(path, body, fault.corrupt)
                except _Answer as stop:
                    answer = stop
            if fault.lost:
                return self.hang_up(path)
            return self.reply(path, answer)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do

        def chunks(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return b""
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def hang_up(self, path):
            hub.requests.append((self.command, path, 0))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def reply(self, path, answer):
            hub.requests.append((self.command, path, answer.status))
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.wfile.flush()

        def role(self):
            given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            return {TOKEN: "write", READER_TOKEN: "read"}.get(given, "unknown" if given else None)

        def require_write(self):
            if self.role() != "write":
                raise _error(401 if self.role() is None else 403, "Forbidden", "no write access")

        def found(self, kind, repo_id):
            repo = hub.repos.get((kind, repo_id))
            if repo is None or (repo.private and self.role() not in ("read", "write")):
                raise _error(404, "RepoNotFound", "Repository not found")
            return repo

        def commit_at(self, repo, revision):
            commit = repo.at(unquote(revision))
            if commit is None:
                raise _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return commit

        def route(self, path, body, corrupt):
            if path == "/api/whoami-v2":
                return self.whoami()
            if path == "/api/validate-yaml":
                return _Answer(200, {"errors": [], "warnings": []})
            if path == "/api/repos/create":
                return self.create(json.loads(body))
            if "/xet-write-token/" in path:
                self.require_write()
                return _Answer(
                    200, {"casUrl": f"{hub.url}/xet", "accessToken": "xet", "exp": int(time.time()) + 3600}
                )
            if path.startswith("/xet/"):
                return self.xet(path, body)
            if path.startswith("/lfs/"):
                hub.lfs[path.removeprefix("/lfs/")] = body[:-1] + b"?" if corrupt else body
                return _Answer(200)
            if match := _LFS_BATCH.match(path):
                return self.lfs_batch(json.loads(body))
            if match := _API.match(path):
                kind, repo_id, verb, revision, rest = match.groups()
                return self.api(self.found(kind, repo_id), verb, revision or "main", rest or "", body)
            if match := _RESOLVE.match(path):
                kind, repo_id, revision, name = match.groups()
                repo = self.found("dataset" if kind else "model", repo_id)
                return self.resolve(repo, revision, unquote(name), corrupt)
            raise _error(404, "EntryNotFound", f"no route {path}")

        def xet(self, path, body):
            if "/v1/xorbs/" in path:
                hub.xet.add_xorb(path.rpartition("/")[2], body)
                return _Answer(200, {"was_inserted": True})
            if path.endswith("/v1/shards"):
                hub.lfs |= hub.xet.files_of(body)
                return _Answer(200, {"result": 1})
            raise _error(
                404, "EntryNotFound", "nothing is known of other files, and no newer form of a request"
            )

        def whoami(self):
            if self.role() in (None, "unknown"):
                raise _error(401, "Unauthorized", "Invalid credentials")
            return _Answer(200, {"type": "user", "name": "ann", "orgs": [{"name": "lab"}],
                                 "auth": {"accessToken": {"displayName": "t", "role": self.role()}}})  # fmt: skip

        def create(self, wanted):
            self.require_write()
            key = wanted.get("type") or "model", f"{wanted.get('organization') or 'ann'}/{wanted['name']}"
            url = f"{hub.url}/{'datasets/' if key[0] == 'dataset' else ''}{key[1]}"
            if key in hub.repos:
                return _Answer(409, {"error": "You already created this repo", "url": url})
            private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
            repo = hub.repos[key] = Repo(*key, private)
            repo.add("initial commit", {".gitattributes": Blob(b"*.parquet filter=lfs\n", False)})
            return _Answer(200, {"url": url})

        def lfs_batch(self, wanted):
            self.require_write()
            objects = [
                {"oid": o["oid"], "size": o["size"]} if o["oid"] in hub.lfs else
                {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{hub.url}/lfs/{o['oid']}"}}}
                for o in wanted["objects"]
            ]  # fmt: skip
            return _Answer(200, {"transfer": "basic", "objects": objects})

        def api(self, repo, verb, revision, rest, body):
            if verb in (None, "revision"):
                commit = self.commit_at(repo, revision)
                siblings = [{"rfilename": path} for path in commit.files]
                return _Answer(200, {"_id": "0", "id": repo.repo_id, "sha": commit.oid, "private": repo.private,
                                     "siblings": siblings, "tags": [], "downloads": 0, "likes": 0,
                                     "lastModified": "2024-01-01T00:00:00.000Z"})  # fmt: skip
            if verb == "refs":
                tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in repo.tags.items()]
                main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head.oid}
                return _Answer(200, {"branches": [main], "converts": [], "tags": tags})
            if verb == "tree":
                return self.tree(self.commit_at(repo, revision), rest)
            if verb == "paths-info":
                return self.paths_info(self.commit_at(repo, revision), body)
            self.require_write()
            if verb == "preupload":
                return self.preupload(self.commit_at(repo, revision), json.loads(body))
            if verb == "commit":
                return self.commit(repo, [json.loads(line) for line in body.splitlines()])
            wanted = json.loads(body)["tag"]
            if wanted in repo.tags:
                raise _error(409, "Conflict", f"Tag {wanted} exists")
            repo.tags[wanted] = self.commit_at(repo, revision).oid
            return _Answer(200)

        def tree(self, commit, below):
            recursive = "recursive=true" in self.path.lower()
            prefix = f"{unquote(below).rstrip('/')}/" if below else ""
            inside = {p: b for p, b in commit.files.items() if p.startswith(prefix)}
            if below and not inside:
                raise _error(404, "EntryNotFound", f"{below} does not exist")
            folders = {prefix + "/".join(parts[:i]) for p in inside
                       for parts in [p.removeprefix(prefix).split("/")] for i in range(1, len(parts))}  # fmt: skip
            entries = [_folder(path) for path in sorted(folders)] + [_file(p, b) for p, b in inside.items()]
            depth = prefix.count("/")
            return _Answer(200, [e for e in entries if recursive or e["path"].count("/") == depth])

        def paths_info(self, commit, body):
            text = body.decode()
            if text.startswith("{"):
                wanted = json.loads(text)["paths"]
            else:
                wanted = [unquote(v.replace("+", " ")) for k, _, v in (p.partition("=") for p in text.split("&"))
                          if k == "paths"]  # fmt: skip
            files = [_file(p, commit.files[p]) for p in wanted if p in commit.files]
            folders = [
                _folder(p) for p in wanted if any(f.startswith(p.rstrip("/") + "/") for f in commit.files)
            ]
            return _Answer(200, files + folders)

        def preupload(self, commit, wanted):
            files = [
                {"path": f["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if f["path"].endswith(LFS_ENDINGS) or f["size"] > 10_000_000 else "regular",
                 "oid": commit.files[f["path"]].blob_id if f["path"] in commit.files else None}
                for f in wanted["files"]
            ]  # fmt: skip
            return _Answer(200, {"files": files})

        def commit(self, repo, lines):
            import base64

            header = next(line["value"] for line in lines if line["key"] == "header")
            parent = header.get("parentCommit")
            if parent is not None and parent != repo.head.oid:
                raise _error(
                    412, "PreconditionFailed", "A commit has happened since. Please refresh and try again."
                )
            files = dict(repo.head.files)
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
                elif line["key"] == "lfsFile":
                    if value["oid"] not in hub.lfs:
                        raise _error(400, "BadRequest", f"LFS pointer {value['oid']} points to nothing")
                    files[value["path"]] = Blob(hub.lfs[value["oid"]], True, value["oid"])
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            oid = repo.add(header["summary"], files)
            return _Answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{repo.repo_id}/commit/{oid}",
                                 "hookOutput": ""})  # fmt: skip

        def resolve(self, repo, revision, name, corrupt):
            commit = self.commit_at(repo, revision)
            blob = commit.files.get(name)
            if blob is None:
                raise _error(404, "EntryNotFound", f"{name} does not exist")
            content = bytes(len(blob.content)) if corrupt else blob.content
            headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.blob_id}"', "Accept-Ranges": "bytes"}
            if blob.lfs:
                headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(content))}
            status = 200
            if given := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
                start, end = int(given[1]), int(given[2] or len(content) - 1)
                headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
                content, status = content[start : end + 1], 206
            return _Answer(status, content, headers)

    return Handler


def _file(path, blob):
    entry = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.blob_id}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 130}
    return entry


def _folder(path):
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
