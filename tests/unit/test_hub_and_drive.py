"""Files of hubs and, by gdown, of Google Drive, in whose place this machine answers."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from downloads import CONTENT, DIGEST, names, problems_of, server
from loopback import QUOTA

from mmlens.download import NotFoundError, fetch_from_drive, fetch_from_hub

__all__ = ["server"]

# Longer than the chunks in which the libraries of single hosts write: 10 MiB and 512 KiB.
LONG = CONTENT * 60


def from_hub(server, folder, name="data/a.bin", **options):
    return fetch_from_hub("owner/set", name, folder, endpoint=server.url(""), **options)


def hub_path(name="data/a.bin", revision="main"):
    return f"/datasets/owner/set/resolve/{revision}/{name}"


def test_a_file_of_a_hub_is_downloaded_once_and_checked_by_its_etag(server, tmp_path):
    server.add_to_hub("owner/set", {"data/a.bin": CONTENT})
    record = from_hub(server, tmp_path)
    assert record == {
        "path": str(tmp_path / "data/a.bin"),
        "url": server.url(hub_path()),
        "size": len(CONTENT),
        "sha256": DIGEST,
        "etag": server.etags[hub_path()].strip('"'),
    }
    assert (tmp_path / "data/a.bin").read_bytes() == CONTENT
    server.asked.clear()
    assert from_hub(server, tmp_path) == record
    assert server.asked == []


def test_a_large_file_of_a_hub_has_its_sha256_as_etag(server, tmp_path):
    server.add_to_hub("owner/set", {"data/a.bin": CONTENT}, revision="v2")
    server.etags[hub_path(revision="v2")] = f'"{DIGEST}"'
    assert from_hub(server, tmp_path, revision="v2")["etag"] == DIGEST


@pytest.mark.parametrize("etag", ["0" * 40, "0" * 64])
def test_a_file_of_a_hub_with_another_hash_than_its_etag_is_refused(server, tmp_path, etag):
    server.add_to_hub("owner/set", {"data/a.bin": CONTENT})
    server.etags[hub_path()] = f'"{etag}"'
    (problem,) = problems_of(from_hub, server, tmp_path)
    assert f"expected {etag}; run again" in problem
    assert not (tmp_path / "data/a.bin").exists()
    server.add_to_hub("owner/set", {"data/a.bin": CONTENT})
    assert from_hub(server, tmp_path)["sha256"] == DIGEST


def test_a_hub_is_asked_for_the_rest_after_a_cut(server, tmp_path):
    server.add_to_hub("owner/set", {"data/a.bin": LONG})
    server.faults[hub_path()] = [{"cut": len(LONG) // 2}]
    from_hub(server, tmp_path)
    assert (tmp_path / "data/a.bin").read_bytes() == LONG
    assert server.gets(hub_path()) == [None, f"bytes={10 * 2**20}-"]


def test_faults_of_a_hub(server, tmp_path):
    (problem,) = problems_of(from_hub, server, tmp_path, "gone.bin", error=NotFoundError)
    assert f"{server.url(hub_path('gone.bin'))}: status 404" in problem
    server.add_to_hub("owner/set", {"data/a.bin": CONTENT})
    server.faults[hub_path()] = [{"status": 403, "body": b""}]
    (problem,) = problems_of(from_hub, server, tmp_path)
    assert f"{server.url(hub_path())}: status 403" in problem
    server.faults[hub_path()] = [{"status": 500, "body": b""}] * 2
    assert from_hub(server, tmp_path)["sha256"] == DIGEST


def test_gdown_downloads_once_and_resumes(server, tmp_path):
    server.files["/long"] = LONG
    server.faults["/long"] = [{"cut": 2**20}]
    path, url = tmp_path / "long", server.url("/long")
    record = fetch_from_drive(url, path, size=len(LONG))
    assert path.read_bytes() == LONG
    assert server.gets("/long") == [None, f"bytes={2**20}-"]
    assert fetch_from_drive(url, path) == record
    assert len(server.asked) == 2
    assert names(tmp_path) == [".long.source.json", "long"]


def test_gdown_gets_a_page_or_another_file(server, tmp_path):
    path = tmp_path / "img.tar.gz"
    server.files["/page"] = QUOTA
    (problem,) = problems_of(fetch_from_drive, server.url("/page"), path)
    assert "quota of downloads is exceeded, expected a file; download it in a browser" in problem
    assert f"as {path}, or set dataset.root" in problem
    (problem,) = problems_of(fetch_from_drive, server.url("/a.bin"), path, sha256="0" * 64)
    assert f"SHA-256 {DIGEST} came" in problem
    (problem,) = problems_of(fetch_from_drive, server.url("/gone"), path)
    assert "gdown could not download it (404" in problem
    assert names(tmp_path) == []


DRIVE = "https://drive.google.com/uc?id=0000000000000000000000000000000000"


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A proxy on this machine that answers in place of Google Drive, over TLS; what it says."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=drive.google.com"
    command += f" -addext subjectAltName=DNS:drive.google.com -keyout {key} -out {certificate}"
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    reply = {"headers": {}, "body": b""}

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self):
            self.send_response(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb")
            self.handle_one_request()

        def do_GET(self):
            self.send_response(200)
            for name, value in {"Content-Type": "text/html", **reply["headers"]}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply["body"])
            self.wfile.flush()
            self.close_connection = True

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        yield reply
        proxy.shutdown()
        thread.join()


def test_google_drive_sends_a_file(drive, tmp_path):
    drive["body"] = CONTENT
    drive["headers"] = {
        "Content-Type": "application/gzip",
        "Content-Length": str(len(CONTENT)),
        "Content-Disposition": 'attachment; filename="img.tar.gz"',
    }
    record = fetch_from_drive(DRIVE, tmp_path / "img.tar.gz", sha256=DIGEST)
    assert (record["url"], record["sha256"]) == (DRIVE, DIGEST)


def test_google_drive_refuses_for_its_quota(drive, tmp_path):
    text = "Too many users have viewed or downloaded this file recently."
    drive["body"] = f'<html>\n<p class="uc-error-subcaption">{text}</p>\n</html>'.encode()
    (problem,) = problems_of(fetch_from_drive, DRIVE, tmp_path / "img.tar.gz")
    assert problem.startswith(f"{DRIVE}: gdown could not download it (")
    assert text in problem
    assert f"download it in a browser as {tmp_path / 'img.tar.gz'}, or set dataset.root" in problem


def test_google_drive_asks_for_a_permission(drive, tmp_path):
    drive["body"] = b"<html><title>Sign in</title></html>"
    (problem,) = problems_of(fetch_from_drive, DRIVE, tmp_path / "img.tar.gz")
    assert "gdown could not download it (" in problem
    assert "permission" in problem
    assert "set dataset.root" in problem
