"""A web server on this machine, which Domain 0 and guests reach at QEMU's gateway, 10.0.2.2."""
import contextlib
import http.server
import threading


@contextlib.contextmanager
def serving(content):
    """Its port, and what was put there so far."""
    received = []

    class Server(http.server.BaseHTTPRequestHandler):
        def answer(self, status, data=b""):
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.answer(200, content)

        def do_PUT(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(201)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, received
        finally:
            server.shutdown()
