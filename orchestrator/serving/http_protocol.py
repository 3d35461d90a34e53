"""HTTP/1.1 on a connection, as uvicorn speaks it with httptools, whose parser takes heads of any length."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a head, of what follows a chunked body, or of anything else that is no body.
MAX_HEAD_BYTES: Final = 64 * 1024


class HttpProtocol(HttpToolsProtocol):
    """Ends connections that send more than MAX_HEAD_BYTES without getting to the point."""

    _unsettled = 0

    def data_received(self, data: bytes) -> None:
        self._unsettled += len(data)
        super().data_received(data)
        if self._unsettled > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        self._unsettled = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unsettled = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unsettled = 0
        super().on_message_complete()
