"""HTTP servers of the standard library beside a test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from unittest.mock import patch


@contextmanager
def answering(server: ThreadingHTTPServer) -> Iterator[str]:
    """Its URL, while it answers on a thread; closed afterwards."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    # A body would wait 40 ms for the client to acknowledge its headers.
    with patch.object(server.RequestHandlerClass, "disable_nagle_algorithm", new=True):
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
