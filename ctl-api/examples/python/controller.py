#!/usr/bin/env python3
"""A small controller for Tieline: declares what a JSON file says, and follows
what the gateway reports.

It is here to be read. A controller in another language has the same parts:

  Network   what is wanted, as operations of the API
  Session   one session: hello, batches, two acknowledgements, end of sync
  keep      sessions one after the other, with a pause that grows
  follow_*  the two watches, which are calls of their own

Try it: see README.md. SIGHUP reads the file again, SIGTERM ends it.
"""

import argparse
import asyncio
import ipaddress
import json
import logging
import random
import signal
import sys

import grpc
from google.protobuf import json_format
from tieline.v1 import control_pb2 as control
from tieline.v1 import objects_pb2 as objects
from tieline.v1.control_pb2_grpc import ControlStub

REVISION = 1
NEEDED = {"route_sets"}
# Operations of a batch. Few large batches are faster than many small ones, but
# a batch is also what one acknowledgement says something about. At most 10,000.
BATCH = 1000
# Batches without their second acknowledgement. Memory is bounded by it on our
# side; the gateway bounds its own by not reading on.
WINDOW = 16
HEARTBEAT_SECONDS = 3
# Pauses between sessions, in seconds. Random parts of them, or all controllers
# of a gateway that was restarted would come back at the same moment.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0

log = logging.getLogger("controller")


class Closed(Exception):
    """The gateway closed the session and said why."""

    def __init__(self, closing):
        self.reason = closing.reason
        super().__init__(f"{control.ClosingReason.Name(closing.reason)}: {closing.message}")


class Disconnected(Exception):
    """The session ended without a word: the gateway or the way to it is gone."""


# ------------------------------------------------------------ what is wanted


class Network:
    """The file's content: operations to declare it, and the keys it declares."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            wanted = json.load(file)
        self.operations = []
        self.keys = {}
        # JSON is protobuf's own mapping, so the file needs no code for each kind.
        for entry in wanted.get("objects", []):
            what = json_format.ParseDict(entry, objects.Object())
            self.operations.append(control.Operation(apply=what))
            self._add(key_of(what))
        for entry in wanted.get("route_sets", []):
            attributes = json_format.ParseDict(entry["attributes"], objects.Route())
            routes = objects.RouteSet(attributes=attributes, prefixes=packed(entry["prefixes"]))
            self.operations.append(control.Operation(apply_routes=routes))
            for prefix in entry["prefixes"]:
                self._add(objects.ObjectKey(route=objects.RouteKey(rd=attributes.rd, prefix=prefix)))

    def _add(self, key):
        self.keys[key.SerializeToString(deterministic=True)] = key

    def to_become(self, wanted):
        """Operations that make `wanted` of this: first what goes, as something
        new may need its place, then all of it: applying again changes nothing."""
        gone = [key for name, key in self.keys.items() if name not in wanted.keys]
        return [control.Operation(delete=key) for key in gone] + wanted.operations


def key_of(what):
    """The key under which the gateway knows an object."""
    kind = what.WhichOneof("kind")
    value = getattr(what, kind)
    if kind == "route":
        return objects.ObjectKey(route=objects.RouteKey(rd=value.rd, prefix=value.prefix))
    if kind == "static_route":
        return objects.ObjectKey(static_route=objects.StaticRouteKey(vrf=value.vrf, prefix=value.prefix))
    return objects.ObjectKey(**{kind: value.id if kind == "security_group" else value.name})


def packed(prefixes):
    """Prefixes as bytes: the address, then the length. Texts would do as well,
    but a million routes are five times as long as texts."""
    together = objects.RoutePrefixes()
    for prefix in map(ipaddress.ip_network, prefixes):
        data = prefix.network_address.packed + bytes([prefix.prefixlen])
        if prefix.version == 4:
            together.ipv4 += data
        else:
            together.ipv6 += data
    return together


# -------------------------------------------------------------- one session


class Session:
    """One session with the gateway. One task reads, one sends heartbeats; who
    sends a batch waits for its acknowledgements."""

    def __init__(self, stub):
        self.call = stub.Session()
        self.window = asyncio.Semaphore(WINDOW)
        # Two messages must not be written at the same time.
        self.writing = asyncio.Lock()
        self.waiting = {}
        self.last_id = 0
        self.silence = HEARTBEAT_SECONDS

    async def send(self, **message):
        # Waits while the gateway does not read: that is the flow control.
        async with self.writing:
            await self.call.write(control.ControllerMessage(**message))

    async def receive(self, seconds):
        try:
            reply = await asyncio.wait_for(self.call.read(), seconds)
        except asyncio.TimeoutError:
            raise Disconnected(f"nothing was heard for {seconds} s") from None
        if reply is grpc.aio.EOF:
            raise Disconnected(f"the stream ended: {await self.call.details() or 'no reason given'}")
        if reply.WhichOneof("message") == "closing":
            raise Closed(reply.closing)
        return reply

    async def greet(self, name, term, grace):
        """Both hellos. The gateway speaks only after it has heard ours."""
        hello = control.ControllerHello(
            lowest_revision=REVISION, highest_revision=REVISION, controller=name, term=term,
            heartbeat_seconds=HEARTBEAT_SECONDS, software="example-controller 1",
        )
        if grace is not None:
            hello.grace_seconds = grace
        await self.send(hello=hello)
        hello = (await self.receive(10)).hello
        missing = NEEDED.difference(hello.capabilities)
        if hello.revision != REVISION or missing:
            raise SystemExit(f"{hello.software} speaks revision {hello.revision} and lacks {missing or 'nothing'}")
        self.silence = hello.heartbeat_seconds
        log.info("session with %s, node %s, boot %s; held from before: %d",
                 hello.software, hello.node_id, hello.boot_id, hello.held)

    async def run(self, work):
        """Does `work` while the session lives; ends with the one or the other."""
        tasks = [asyncio.ensure_future(one) for one in (self._read(), self._beat(), work)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finished = tasks[2] in done and tasks[2].exception() is None
            if finished:
                # Nothing more comes from us. The gateway then ends the stream.
                await self.call.done_writing()
            # If writing failed the reader knows why: the last message says it.
            await asyncio.wait(tasks[:1], timeout=5)
            for task in tasks:
                if task.done() and not finished:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self):
        """Reads all the time: a gateway that cannot get rid of its replies reads
        no batches either."""
        while True:
            reply = await self.receive(3 * self.silence)
            kind = reply.WhichOneof("message")
            if kind in ("accepted", "programmed", "synced"):
                reply = getattr(reply, kind)
                self.waiting.pop((kind, reply.id)).set_result(reply)

    async def _beat(self):
        while True:
            await asyncio.sleep(self.silence)
            await self.send(heartbeat=control.Heartbeat())

    def _expect(self, kind, number):
        future = asyncio.get_running_loop().create_future()
        self.waiting[kind, number] = future
        return future

    async def batch(self, operations):
        """Sends one batch and waits for both acknowledgements. Returns the
        operations that were refused."""
        async with self.window:
            self.last_id = number = self.last_id + 1
            accepted = self._expect("accepted", number)
            programmed = self._expect("programmed", number)
            # Each for itself: one mistake must not keep the rest from working.
            # What has to change together is sent as BATCH_MODE_ATOMIC.
            await self.send(batch=control.Batch(id=number, mode=control.BATCH_MODE_EACH, operations=operations))
            # First: it is in the RIB and survives the gateway's end.
            reply = await accepted
            if reply.not_stored:
                # Or not; it is in force all the same, and the gateway sees to it.
                log.warning("not stored: %s", reply.not_stored)
            for one in reply.refused:
                why = one.refused
                log.error("refused: %s %s: %s", control.ErrorCode.Name(why.code), why.field, why.message)
            for one in reply.waiting:
                # No error: it takes effect when the rest is there.
                log.info("operation %d waits for %s", one.index, list(map(short, one.waits_for)))
            # Second: all workers forward by it.
            version = (await programmed).table_version
            log.info("batch %d: %d operations, %d refused, in table version %d",
                     number, len(operations), len(reply.refused), version)
            return [operations[one.index] for one in reply.refused]

    async def declare(self, operations):
        """Sends operations in batches. True if all that they declare is accepted;
        a withdrawal is refused only for a key that can have no object."""
        parts = [operations[at:at + BATCH] for at in range(0, len(operations), BATCH)]
        refused = sum(await asyncio.gather(*map(self.batch, parts)), [])
        return all(one.HasField("delete") for one in refused)

    async def end_of_sync(self):
        self.last_id += 1
        synced = self._expect("synced", self.last_id)
        await self.send(end_of_sync=control.EndOfSync(id=self.last_id))
        log.info("synced: %d withdrawn", (await synced).withdrawn)


# ---------------------------------------------- one session after the other


async def keep(stub, arguments, reread, stop):
    """Keeps a session until told to stop; declares everything in each."""
    network = Network(arguments.file)
    pause = FIRST_PAUSE

    async def work(session):
        nonlocal network, pause
        # All of it, whatever an earlier session has sent. What the gateway
        # holds beyond it goes at the end of sync.
        in_sync = await session.declare(network.operations)
        if in_sync:
            await session.end_of_sync()
            pause = FIRST_PAUSE
        else:
            # What was refused may be held from before, and forwarding. Ending
            # the sync would withdraw it, for a mistake in a file.
            log.error("not synced: mend the file, then send SIGHUP")
        while not await either(stop, reread):
            reread.clear()
            try:
                wanted = Network(arguments.file)
            except (OSError, ValueError, KeyError, json_format.ParseError) as error:
                log.error("%s cannot be used, the last one counts: %s", arguments.file, error)
                continue
            change, network = network.to_become(wanted), wanted
            accepted = await session.declare(change)
            if accepted and not in_sync:
                await session.end_of_sync()
                in_sync = True

    while not stop.is_set():
        session = Session(stub)
        try:
            await session.greet(arguments.name, arguments.term, arguments.grace)
            await session.run(work(session))
        except Closed as closed:
            log.error("the gateway closed the session: %s", closed)
            if closed.reason in (control.CLOSING_REASON_FENCED, control.CLOSING_REASON_REPLACED):
                # Another leads, or runs in our name. Coming back would push it
                # out: that is for whoever elects leaders to decide.
                return 3
            if closed.reason in (control.CLOSING_REASON_REVISION, control.CLOSING_REASON_PROTOCOL):
                return 2
        except (Disconnected, grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            log.warning("no session: %s", error.details() if isinstance(error, grpc.RpcError) else error)
        finally:
            session.call.cancel()
        # Nothing that was declared is lost: it forwards without us.
        await either(stop, seconds=pause * random.uniform(0.5, 1))
        pause = min(2 * pause, LONGEST_PAUSE)
    return 0


async def either(*events, seconds=None):
    """Waits for one of the events, or some time. Whether the first is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return events[0].is_set()


# ------------------------------------------------------------------ watches


async def follow_objects(stub):
    """Follows objects and events. Keeps the keys of all objects, as a controller
    would that shows them."""
    present, token = {}, ""
    while True:
        try:
            request = control.WatchRequest(events=True, resume_token=token)
            # While objects come as they are, and not as they change, they are
            # gathered apart: what is not among them is gone.
            fresh = {} if not token else None
            async for reply in stub.Watch(request):
                what = reply.WhichOneof("what")
                here = present if fresh is None else fresh
                if what == "object":
                    key = key_of(reply.object.object)
                    here[key.SerializeToString(deterministic=True)] = reply.object.status.state
                elif what == "deleted":
                    here.pop(reply.deleted.SerializeToString(deterministic=True), None)
                    log.info("deleted: %s", short(reply.deleted))
                elif what == "event":
                    log.info("event %d: %s", reply.event.number, reply.event.message)
                elif what == "lost":
                    log.warning("objects: %s: all of them again", reply.lost.message)
                    fresh = {}
                elif what == "caught_up" and fresh is not None:
                    present, fresh = fresh, None
                    log.info("objects: %d", len(present))
                # Only some replies have one: it stands for all before it.
                token = reply.resume_token or token
        except grpc.aio.AioRpcError as error:
            log.debug("objects: %s", error.details())
        await asyncio.sleep(LONGEST_PAUSE * random.uniform(0.1, 0.2))


async def follow_exports(stub):
    """Follows what the VRFs originate. This is what a controller advertises to
    other gateways, for instance by BGP."""
    while True:
        try:
            async for reply in stub.WatchExports(control.WatchExportsRequest()):
                what = reply.WhichOneof("what")
                if what == "export":
                    one = reply.export
                    log.info("advertise %s in %s: RD %s, targets %s, label %d, to %s", one.prefix, one.vrf,
                             one.rd, list(one.route_targets), one.label, list(one.endpoints))
                elif what == "withdrawn":
                    log.info("withdraw %s in %s", reply.withdrawn.prefix, reply.withdrawn.vrf)
        except grpc.aio.AioRpcError as error:
            log.debug("exports: %s", error.details())
        # There is no token: all exports come again.
        await asyncio.sleep(LONGEST_PAUSE * random.uniform(0.1, 0.2))


def short(message):
    return json_format.MessageToJson(message, indent=None, preserving_proto_field_name=True)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("file", help="what to declare, JSON")
    parser.add_argument("--address", default="unix:/run/tieline/control.sock", help="default: %(default)s")
    parser.add_argument("--name", default="example", help="name of the controller")
    parser.add_argument("--term", type=int, default=0, help="election term, 0 without elections")
    parser.add_argument("--grace", type=int, help="seconds; default: the gateway's")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    stop, reread = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, reread)):
        loop.add_signal_handler(number, event.set)

    # gRPC has a pause of its own before it connects again, up to two minutes.
    options = [
        ("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000),
        # For a Unix socket gRPC would send the path here, escaped, and the
        # gateway's HTTP/2 does not take an escape for the name of a host.
        ("grpc.default_authority", "localhost"),
    ]
    async with grpc.aio.insecure_channel(arguments.address, options=options) as channel:
        stub = ControlStub(channel)
        watches = [asyncio.ensure_future(one) for one in (follow_objects(stub), follow_exports(stub))]
        code = await keep(stub, arguments, reread, stop)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
    log.info("ended")
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
