#!/usr/bin/env python3
"""Runs the example controller against a real daemon, and kills both.

  test_controller.py DIRECTORY DAEMON

DIRECTORY is what `prepare` has made, DAEMON the binary. Needs neither root nor
hugepages nor devices. What the controller says of itself is not believed: the
daemon is asked.
"""

import copy
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
DIRECTORY = pathlib.Path(sys.argv[1]).resolve()
DAEMON = pathlib.Path(sys.argv[2]).resolve()
sys.path.insert(0, str(DIRECTORY / "stubs"))

import grpc  # noqa: E402
from tieline.v1 import control_pb2 as control  # noqa: E402
from tieline.v1 import objects_pb2 as objects  # noqa: E402
from tieline.v1 import operations_pb2 as operations  # noqa: E402
from tieline.v1.control_pb2_grpc import ControlStub  # noqa: E402
from tieline.v1.operations_pb2_grpc import OperationsStub  # noqa: E402

PATIENCE = 30
NETWORK = json.loads((HERE / "network.json").read_text())
RED = {"10.2.0.7/32", "10.2.0.8/32", "10.20.0.0/16", "10.21.0.0/16", "10.22.0.0/16"}
KINDS = [kind for kind in objects.ObjectKind.values() if kind]


def eventually(what, get, is_good):
    """Asks until the answer is good; returns it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            answer = get()
            if is_good(answer):
                return answer
        except grpc.RpcError as error:
            answer = error.details()
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {PATIENCE} s; the last answer: {answer}")
        time.sleep(0.05)


def end(process):
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


class Daemon:
    """A daemon with a directory of its own, which can be killed and started."""

    def __init__(self, place):
        self.place = place
        self.address = f"unix:{place}/control.sock"
        configuration = (
            f'[api]\nsocket = "{place}/control.sock"\n\n'
            '[dpdk]\nhugepages = "never"\ntest_drivers = ["net_null"]\n'
        )
        (place / "tieline.toml").write_text(configuration)
        self.start()

    def start(self):
        with open(self.place / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(
                [DAEMON, "--config", self.place / "tieline.toml"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )
        line = self.process.stdout.readline()
        if not line.startswith(b"tieline ready"):
            end(self.process)
            raise AssertionError(f"the daemon does not start: {line} {self.log()}")
        # A channel of its own, as one to a daemon that was killed pauses.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost")]
        self.channel = grpc.insecure_channel(self.address, options=options)
        self.control, self.operations = ControlStub(self.channel), OperationsStub(self.channel)

    def kill(self):
        self.channel.close()
        end(self.process)

    def log(self):
        return (self.place / "daemon.log").read_text()

    def everything(self):
        """All objects with their status, by kind and key."""
        found = {}
        for kind in KINDS:
            token = ""
            while True:
                # Small pages, so that there are several.
                request = control.ListRequest(kind=kind, page_size=3, page_token=token)
                reply = self.control.List(request, timeout=PATIENCE)
                for item in reply.items:
                    found[name_of(item.object)] = item
                token = reply.next_page_token
                if not token:
                    break
        return found

    def prefixes(self, vrf):
        request = operations.ListRoutesRequest(vrf=vrf)
        routes = self.operations.ListRoutes(request, timeout=PATIENCE).routes
        return {route.prefix for route in routes if route.origin == operations.ROUTE_ORIGIN_VPN}

    def controller(self, name="example"):
        reply = self.control.ListControllers(control.ListControllersRequest(), timeout=PATIENCE)
        return next((one for one in reply.controllers if one.name == name), None)


def name_of(what):
    kind = what.WhichOneof("kind")
    value = getattr(what, kind)
    if kind == "route":
        return f"route {value.rd} {value.prefix}"
    return f"{kind} {value.id if kind == 'security_group' else value.name}"


def is_synced(info):
    return info is not None and info.connected and info.held > 0 and info.stale == 0


class Watcher:
    """Gathers what a watch of the daemon says."""

    def __init__(self, daemon):
        self.objects, self.deleted, self.events, self.said = set(), [], [], []
        self.caught_up = threading.Event()
        self.call = daemon.control.Watch(control.WatchRequest(events=True))
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        if not self.caught_up.wait(PATIENCE):
            raise AssertionError("the watch does not catch up")

    def read(self):
        try:
            for reply in self.call:
                what = reply.WhichOneof("what")
                self.said.append(what)
                if what == "object":
                    self.objects.add(name_of(reply.object.object))
                elif what == "deleted":
                    key = reply.deleted
                    is_route = key.WhichOneof("kind") == "route"
                    self.deleted.append(f"{key.route.rd} {key.route.prefix}" if is_route else str(key))
                elif what == "event":
                    self.events.append(reply.event.kind)
                elif what == "caught_up":
                    self.caught_up.set()
        except grpc.RpcError:
            pass


class ExampleController(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="tieline-example-")
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        self.logs = []
        self.daemon = Daemon(self.place)
        self.addCleanup(lambda: end(self.daemon.process))
        self.addCleanup(lambda: self.daemon.channel.close())
        self.addCleanup(self.show_logs)

    def show_logs(self):
        outcome = getattr(self._outcome, "result", None)
        if outcome and any(test is self for test, _ in outcome.failures + outcome.errors):
            for log in self.logs:
                print(f"\n--- {log.name}\n{log.read_text()}", file=sys.stderr)
            print(f"\n--- daemon\n{self.daemon.log()}", file=sys.stderr)

    def controller(self, network=NETWORK, *arguments):
        """Starts one."""
        file = self.place / "network.json"
        file.write_text(json.dumps(network))
        log = self.place / f"controller{len(self.logs)}.log"
        self.logs.append(log)
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, HERE / "controller.py", file, "--address", self.daemon.address, *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "PYTHONPATH": str(DIRECTORY / "stubs"), "PYTHONUNBUFFERED": "1"},
            )
        self.addCleanup(end, process)
        return process

    def synced(self, name="example"):
        return eventually("in sync", lambda: self.daemon.controller(name), is_synced)

    def said(self, text, log=-1):
        eventually(f"the controller says {text!r}", self.logs[log].read_text, lambda said: text in said)

    def assert_ready(self, found):
        states = {name: item.status for name, item in found.items()}
        bad = {name: str(status) for name, status in states.items() if status.state != control.OBJECT_STATE_READY}
        self.assertEqual(bad, {})

    def test_what_the_file_declares_is_in_force(self):
        self.controller()
        info = self.synced()
        self.said("synced: 0 withdrawn")
        found = self.daemon.everything()
        expected = [
            "port fabric0", "port tenant0", "interface fabric0", "interface red-web", "vrf red", "vrf blue",
            "security_group 100", "security_group 200", "next_hop gw2", "next_hop gw3", "next_hop_group both",
            "route 64512:20 10.2.0.7/32", "route 64512:20 10.2.0.8/32", "route 64512:21 10.20.0.0/16",
            "route 64512:21 10.21.0.0/16", "route 64512:21 10.22.0.0/16", "route 64512:21 2001:db8:20::/48",
        ]
        self.assertEqual(sorted(found), sorted(expected))
        self.assertEqual(info.held, len(expected))
        self.assert_ready(found)
        holders = {(one.controller, one.stale, one.differs) for item in found.values() for one in item.holders}
        self.assertEqual(holders, {("example", False, False)})
        self.assertEqual(found["route 64512:21 10.21.0.0/16"].object.route.next_hop, "both")
        # By route target: blue imports the set alone.
        self.assertEqual(self.daemon.prefixes("red"), RED | {"2001:db8:20::/48"})
        self.assertEqual(self.daemon.prefixes("blue"), {prefix for prefix in RED if "/16" in prefix} | {"2001:db8:20::/48"})
        self.assertEqual(self.exports(), {"10.1.0.10/32": ("64512:1", ["64512:8000001"], [100], ["198.18.0.1"])})
        self.said("advertise 10.1.0.10/32 in red: RD 64512:1")

    def exports(self):
        found = {}
        call = self.daemon.control.WatchExports(control.WatchExportsRequest(), timeout=PATIENCE)
        for reply in call:
            if reply.WhichOneof("what") == "caught_up":
                call.cancel()
                return found
            one = reply.export
            self.assertGreaterEqual(one.label, 16)
            found[one.prefix] = (one.rd, list(one.route_targets), list(one.security_groups), list(one.endpoints))
        raise AssertionError("the exports end")

    def test_what_is_refused_is_said_and_withdraws_nothing(self):
        first = self.controller()
        self.synced()
        end(first)
        watcher = Watcher(self.daemon)
        bad = copy.deepcopy(NETWORK)
        bad["objects"][-1]["route"]["prefix"] = "10.2.0.8/16"
        process = self.controller(bad)
        self.said("refused: ERROR_CODE_INVALID_FIELD route.prefix")
        self.said("not synced")
        stale = [name for name, item in self.daemon.everything().items() if item.holders[0].stale]
        self.assertEqual(stale, ["route 64512:20 10.2.0.8/32"])
        # Mended without a new session; and one goes on purpose.
        good = copy.deepcopy(NETWORK)
        good["route_sets"][0]["prefixes"].remove("10.22.0.0/16")
        (self.place / "network.json").write_text(json.dumps(good))
        process.send_signal(signal.SIGHUP)
        self.said("synced: 0 withdrawn")
        self.assertEqual(self.daemon.prefixes("red"), (RED | {"2001:db8:20::/48"}) - {"10.22.0.0/16"})
        eventually("withdrawn", lambda: watcher.deleted, lambda deleted: deleted == ["64512:21 10.22.0.0/16"])

    def test_a_killed_controller_leaves_all_and_its_return_sweeps_what_is_gone(self):
        process = self.controller()
        self.synced()
        before = self.daemon.everything()
        watcher = Watcher(self.daemon)
        self.assertEqual(watcher.objects, set(before))
        process.kill()
        process.wait()
        info = eventually("gone", self.daemon.controller, lambda info: not info.connected)
        self.assertEqual((info.held, info.stale), (len(before), len(before)))
        self.assertGreater(info.expires_in_seconds, 3600)
        after = self.daemon.everything()
        self.assertEqual({name: item.object for name, item in after.items()},
                         {name: item.object for name, item in before.items()})
        self.assert_ready(after)
        self.assertEqual(self.daemon.prefixes("red"), RED | {"2001:db8:20::/48"})

        less = copy.deepcopy(NETWORK)
        less["route_sets"][0]["prefixes"].remove("10.21.0.0/16")
        process = self.controller(less)
        self.said("synced: 1 withdrawn")
        info = self.synced()
        self.assertEqual(info.held, len(before) - 1)
        after = self.daemon.everything()
        self.assertEqual(set(before) - set(after), {"route 64512:21 10.21.0.0/16"})
        self.assert_ready(after)
        self.assertEqual(self.daemon.prefixes("blue"), {"10.20.0.0/16", "10.22.0.0/16", "2001:db8:20::/48"})
        # SIGTERM ends it; the event of it is the last thing to be watched.
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)
        down = control.EVENT_KIND_CONTROLLER_DOWN
        eventually("both ends", lambda: watcher.events, lambda events: events.count(down) == 2)
        self.assertEqual(watcher.deleted, ["64512:21 10.21.0.0/16"], "and nothing else at any time")
        self.assertIn(control.EVENT_KIND_STALE_WITHDRAWN, watcher.events)
        self.assertNotIn("lost", watcher.said)
        self.assertEqual(set(self.daemon.everything()), set(after))

    def test_what_a_controller_held_goes_with_its_grace_time(self):
        process = self.controller(NETWORK, "--grace", "2")
        self.synced()
        # Another holds some of it: that stays.
        few = {"objects": [one for one in NETWORK["objects"] if "vrf" in one]}
        self.controller(few, "--name", "other")
        self.synced("other")
        end(process)
        self.assertEqual(set(eventually("over", self.daemon.everything, lambda found: len(found) == 2)),
                         {"vrf red", "vrf blue"})

    def test_a_killed_daemon_is_back_with_all_of_it_before_the_controller(self):
        process = self.controller()
        self.synced()
        before = self.daemon.everything()
        exports = self.exports()
        # Asleep, so that it can not be what brings the state back.
        process.send_signal(signal.SIGSTOP)
        try:
            self.daemon.kill()
            self.daemon.start()
            info = self.daemon.controller()
            self.assertEqual((info.connected, info.held, info.stale), (False, len(before), len(before)))
            after = self.daemon.everything()
            self.assertEqual({name: item.object for name, item in after.items()},
                             {name: item.object for name, item in before.items()})
            self.assert_ready(after)
            self.assertEqual(self.daemon.prefixes("red"), RED | {"2001:db8:20::/48"})
            self.assertEqual(self.exports(), exports)
            watcher = Watcher(self.daemon)
        finally:
            process.send_signal(signal.SIGCONT)
        self.synced()
        self.said("all of them again")
        self.assertIsNone(process.poll(), "it came back by itself")
        self.assertEqual(watcher.deleted, [])
        self.assertEqual(set(self.daemon.everything()), set(before))

    def test_a_frozen_daemon_is_left_and_found_again(self):
        process = self.controller()
        self.synced()
        self.said("synced: 0 withdrawn")
        before = self.daemon.everything()
        self.daemon.process.send_signal(signal.SIGSTOP)
        try:
            # Nothing has broken: only silence can tell.
            self.said("no session: nothing was heard")
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)
        eventually("in sync again", self.logs[0].read_text, lambda said: said.count("synced: 0 withdrawn") == 2)
        self.assertIsNone(process.poll())
        self.assertEqual(set(self.daemon.everything()), set(before))

    def test_a_higher_term_takes_over_and_a_lower_one_is_refused(self):
        old = self.controller(NETWORK, "--term", "4")
        self.synced()
        watcher = Watcher(self.daemon)
        self.controller(NETWORK, "--term", "5")
        self.assertEqual(old.wait(PATIENCE), 3)
        self.said("CLOSING_REASON_FENCED", log=0)
        eventually("the new leader", self.daemon.controller, lambda info: is_synced(info) and info.term == 5)
        deposed = self.controller(NETWORK, "--term", "4")
        self.assertEqual(deposed.wait(PATIENCE), 3)
        self.assertEqual(self.daemon.controller().term, 5)
        self.assertTrue(self.daemon.controller().connected)
        self.assertEqual(watcher.deleted, [])
        # Another name is another controller; a term is its own.
        self.controller(NETWORK, "--name", "other")
        self.synced("other")
        item = self.daemon.everything()["vrf red"]
        self.assertEqual([one.controller for one in item.holders], ["example", "other"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
