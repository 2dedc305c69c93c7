"""A web server on this machine with the faults that downloads meet, and the paths of a hub."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0" * 20
QUOTA = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>Too many users</html>"


class Server(ThreadingHTTPServer):
    """Serves `files`, with ranges and ETags.

    Attributes
    ----------
    files : {path: bytes}
    faults : {path: list of dict}, one for each of its next GET requests ({} for none). Keys: cut
        (connection closed after so many bytes), hang (so many bytes come, then none), status,
        headers, body (sent in place of the file), ranges (False: they are not known)
    etags : {path: ETag as sent}; default the hash of the content in quotes, None for no ETag
    asked : list of (method, path, value of the header Range or None)
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.etags, self.asked = {}, {}, {}, []
        self.stopped = threading.Event()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def gets(self, path):
        """Ranges of the GET requests for a path, in order."""
        return [given for method, asked, given in self.asked if (method, asked) == ("GET", path)]

    def add_to_hub(self, repo, files, revision="main", kind="datasets/"):
        """Serve {name: bytes} as a data set repository of a hub, at `url("")` as endpoint."""
        for name, content in files.items():
            path = f"/{kind}{repo}/resolve/{revision}/{name}"
            self.files[path] = content
            self.etags[path] = f'"{git_hash(content)}"'

    def add_model_to_hub(self, repo, files, revision="main", card=None, commit=COMMIT):
        """Serve {name: bytes} as a model repository whose `revision` is this commit."""
        self.add_to_hub(repo, files, commit, kind="")
        siblings = [{"rfilename": name} for name in files]
        described = {"id": repo, "sha": commit, "siblings": siblings, "cardData": card}
        path = f"/api/models/{repo}/revision/{revision}"
        self.files[path] = json.dumps(described).encode()


def git_hash(content):
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        server, path = self.server, self.path
        wanted = self.headers.get("Range")
        server.asked.append((self.command, path, wanted))
        faults = server.faults.get(path) if with_body else None
        fault = faults.pop(0) if faults else {}
        content = fault.get("body", server.files.get(path))
        if content is None:
            self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"no such file", with_body)
            return
        etag = server.etags.get(path, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
        headers = {"X-Repo-Commit": COMMIT} if "/resolve/" in path else {}
        headers |= {"ETag": etag} if etag else {}
        headers |= fault.get("headers", {})
        status, start = fault.get("status", 200), 0
        # RFC 9110: a range counts only for the version that the client has a part of.
        same = self.headers.get("If-Range", etag) == etag
        if wanted and same and status == 200 and fault.get("ranges", True):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                headers["Content-Range"] = f"bytes */{len(content)}"
                self.reply(416, headers, b"", with_body)
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(status, headers, content[start:], with_body, fault)

    def reply(self, status, headers, body, with_body, fault=()):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if "cut" in fault or "hang" in fault:
            self.wfile.write(body[: fault.get("cut", fault.get("hang"))])
            self.wfile.flush()
            if "hang" in fault:
                self.server.stopped.wait()
            self.close_connection = True
        else:
            self.wfile.write(body)


@contextmanager
def serving():
    """Yield a running `Server`."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
