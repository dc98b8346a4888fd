"""A WebSocket echo server: metalio moves the bytes, wsproto knows the protocol.

    python examples/websocket_echo.py [127.0.0.1:7009]
    python -m websockets ws://127.0.0.1:7009

Messages are sent back piece by piece as they arrive, so none has to fit into memory.  A client that has not been heard
of for a while gets a ping, and is given up if it does not answer: a timeout each, on the loop's timer.
"""

import sys

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request
from wsproto.utilities import RemoteProtocolError

from event_loop_echo import Connection, serve

SILENCE = 20.0  # seconds


class WebSocket(Connection):
    def __init__(self, server, stream):
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.established = False
        self.silent = 0  # for how many times SILENCE
        stream.nodelay = True
        super().__init__(server, stream)
        self.timeout = self.loop.timeout(self.check, SILENCE)

    def answer(self, data):
        self.silent = 0
        output = b""
        if data == b"":
            self.closing = True
            return output
        try:
            self.protocol.receive_data(data)
            for event in self.protocol.events():
                output += self.react(event)
                if self.closing:
                    break
        except RemoteProtocolError as error:
            # It does not speak the protocol, and may be told so.
            self.closing = True
            if error.event_hint is not None:
                output += self.protocol.send(error.event_hint)
        except UnicodeError:
            self.closing = True
        return output

    def react(self, event):
        if isinstance(event, Request):
            self.established = True
            return self.protocol.send(AcceptConnection())
        if isinstance(event, Message):
            return self.protocol.send(event)
        if isinstance(event, Ping):
            return self.protocol.send(event.response())
        if isinstance(event, CloseConnection):
            self.closing = True
            return self.protocol.send(event.response())
        return b""

    def check(self):
        if self.silent == 2 or not self.established:
            self.close()
            return
        self.timeout = self.loop.timeout(self.check, SILENCE)
        # A client that has yet to take what it was sent is TCP's business.
        if self.output:
            return
        self.silent += 1
        if self.silent == 2:
            self.output = self.protocol.send(Ping())
            self.writable()

    def close(self):
        self.loop.clear_timeout(self.timeout)
        super().close()


if __name__ == "__main__":
    serve(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7009", WebSocket)
