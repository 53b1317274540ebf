#!/usr/bin/env python3
"""A line to a registry: 100 Mbit/s each way, 20 ms there and back, on a port of its own.

    link.py PORT TARGET-PORT [--rate BYTES-A-SECOND] [--delay SECONDS] [--cut BYTES] [--count FILE]

After --cut bytes to the registry all connections end, and no other is taken. FILE gets the number of bytes that went to the
registry, whenever it changes by much and at the end.
"""
import argparse
import asyncio
import pathlib
import signal
import socket
import sys
import time

CHUNK = 16 * 1024
SLACK = 0.05  # seconds that may be made up for, when this program came late


class Line:
    """One direction. What all connections send goes through it, one chunk behind the other."""

    def __init__(self, rate, delay, most=None):
        self.rate, self.delay, self.most = rate, delay, most
        self.free, self.bytes, self.cut = 0.0, 0, asyncio.Event()

    async def carry(self, reader, writer):
        arrivals = asyncio.Queue(maxsize=max(4, int(self.rate * self.delay * 2 / CHUNK)))
        delivering = asyncio.create_task(self.deliver(arrivals, writer))
        try:
            while chunk := await reader.read(CHUNK):
                now = time.monotonic()
                self.free = max(self.free, now - SLACK) + len(chunk) / self.rate
                self.bytes += len(chunk)
                if self.most is not None and self.bytes > self.most:
                    self.cut.set()
                    return
                await arrivals.put((max(self.free, now) + self.delay, chunk))  # what is made up for came late, but no line is shorter
                if (wait := self.free - time.monotonic()) > 0.001:
                    await asyncio.sleep(wait)
            await arrivals.put((time.monotonic() + self.delay, b""))
            await delivering
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            delivering.cancel()

    async def deliver(self, arrivals, writer):
        while True:
            at, chunk = await arrivals.get()
            if (wait := at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()


def write(file, number):
    beside = file.with_suffix(".new")
    beside.write_text(str(number))
    beside.rename(file)


async def serve(arguments):
    up = Line(arguments.rate, arguments.delay / 2, arguments.cut)
    down = Line(arguments.rate, arguments.delay / 2)
    connections = set()

    async def connect(reader, writer):
        task = asyncio.current_task()
        connections.add(task)
        other = None
        try:
            await asyncio.sleep(arguments.delay)  # the handshake
            target, other = await asyncio.open_connection("127.0.0.1", arguments.target)
            await asyncio.gather(up.carry(reader, other), down.carry(target, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            connections.discard(task)
            for end in (writer, other):
                if end is not None:
                    end.transport.abort()

    listener = socket.create_server(("127.0.0.1", arguments.port))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)  # accepted ones inherit it
    server = await asyncio.start_server(connect, sock=listener, limit=4 * CHUNK)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def count():
        while arguments.count:
            write(arguments.count, up.bytes)
            await asyncio.sleep(0.05)

    counting = asyncio.create_task(count())
    waits = [asyncio.create_task(ended.wait()), asyncio.create_task(up.cut.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    server.close()
    counting.cancel()
    if arguments.count:
        write(arguments.count, up.bytes)
    for task in list(connections):
        task.cancel()
    await asyncio.sleep(0.05)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("--rate", type=float, default=100e6 / 8)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--cut", type=int)
    parser.add_argument("--count", type=pathlib.Path)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
